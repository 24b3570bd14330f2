"""Tables of a study -> text, figures and files that a person reads."""

from study.report.markdown import write_report
from study.report.text import console_table, summary_lines

__all__ = ["console_table", "summary_lines", "write_report"]
