"""Tables, sentences and JSON on a terminal or in a pipe."""

import json
import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from strategies.text import shown

_WIDEST = 10_000
"""Columns to print for when output is not a terminal: a row of a piped table is one line, whatever it holds."""

_LONGEST_WORD = 24
"""A column of a table is as wide as its longest word, and need not be wider than this."""

_NUMBER_STARTS = set("0123456789+-") | {""}


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDEST)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, words: Collection[str] = ()
) -> None:
    """Print a plain table; columns of numbers are right-aligned, those named in ``words`` never are."""
    columns, rows = [shown(column) for column in columns], [[shown(cell) for cell in row] for row in rows]
    table = Table(
        title=None if title is None else shown(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
    for index, column in enumerate(columns):
        numeric = column not in words and all(row[index][:1] in _NUMBER_STARTS for row in rows)
        longest = max((len(word) for row in [columns, *rows] for word in row[index].split()), default=0)
        width = min(longest, _LONGEST_WORD)  # lines are folded between words, and no name is cut
        table.add_column(column, justify="right" if numeric else "left", no_wrap=index == 0, min_width=width)
    for row in rows:
        table.add_row(*row)
    console = _console()
    narrowest = Measurement.get(console, console.options.update(width=_WIDEST), table).minimum
    console.width = max(console.width, narrowest + 2 * len(columns))  # rich distributes what is short unevenly
    console.print(table, markup=False, highlight=False)


def print_json(content: object) -> None:
    """Print JSON; numbers that are not finite become null."""
    print(json.dumps(_plain(content), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_lines(lines: Iterable[str]) -> None:
    """Print sentences as they are."""
    for line in lines:
        _console().print(shown(line), markup=False, highlight=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Print on standard error."""
    for line in lines:
        print(shown(line), file=sys.stderr)


def print_csv(table: pd.DataFrame) -> None:
    """Print a table as CSV; an empty cell is a missing number."""
    sys.stdout.write(table.to_csv(index=False, lineterminator="\n", float_format="%.10g"))


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as mappings from its columns."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def show_mapping(values: Mapping[str, str], *, as_json: bool) -> None:
    """Print names and values."""
    if as_json:
        print_json(dict(values))
        return
    width = max(map(len, values))
    print_lines(f"{name:<{width}}  {value}" for name, value in values.items())


def show_tables(tables: Mapping[str, pd.DataFrame], *, as_json: bool) -> None:
    """Print tables with their names."""
    if as_json:
        print_json({name: records_of(table) for name, table in tables.items()})
        return
    for name, table in tables.items():
        print_table([str(column) for column in table], [[_cell(value) for value in row] for row in table.values], name)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "-"
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.4g}"
    return "-" if value is None else str(value)


def short_path(path: Path) -> str:
    """Return a path relative to the working folder where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
