"""What a study's own run in MLflow says of it: its summary in words and its comparison as a table."""

from collections.abc import Iterator

from study.analysis.comparison import Comparison
from study.report.blocks import Table
from study.report.markdown import plain, table
from study.report.text import MARKS_TEXT, console_table, summary_lines

LONGEST = 7_500
"""Characters; MLflow keeps 8,000 of a tag."""
_MOST_ROWS = 25
_MOST_LINES = 12


def note(comparison: Comparison | None) -> str:
    """Return the note as Markdown, as much of it as MLflow keeps; whole lines only.

    Args:
        comparison: of the trials that finished; None if none did.
    """
    if comparison is None:
        return "No trial has finished."
    lines = summary_lines(comparison)
    told = [f"- {plain(line)}" for line in lines[:_MOST_LINES]]
    if len(lines) > _MOST_LINES:
        told.append(f"- and {len(lines) - _MOST_LINES} more: see the report")
    where = "The report: `report/report.html` under Artifacts."
    return "\n".join(_fitting([*told, "", *_table(comparison), "", where]))


def _table(comparison: Comparison) -> Iterator[str]:
    columns, rows = console_table(comparison)
    shown = Table(tuple(columns), tuple(tuple(row) for row in rows[:_MOST_ROWS]), "comparison", "")
    yield from table(shown).splitlines()
    yield ""
    left = f" {len(rows) - _MOST_ROWS} more arms are in the report." if len(rows) > _MOST_ROWS else ""
    yield plain(f"Best joint NLL first; {MARKS_TEXT}{left}")


def _fitting(lines: list[str]) -> Iterator[str]:
    length = 0
    for line in lines:
        length += len(line) + 1
        if length > LONGEST:
            return
        yield line
