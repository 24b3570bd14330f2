"""Tables of a study or a corpus -> text, figures and files that a person reads."""

from study.report.corpus import checked_figure, write_corpus_figure
from study.report.notes import note
from study.report.text import console_table, summary_lines
from study.report.writing import FORMATS, tables, write_format, write_report

__all__ = [
    "FORMATS",
    "checked_figure",
    "console_table",
    "note",
    "summary_lines",
    "tables",
    "write_corpus_figure",
    "write_format",
    "write_report",
]
