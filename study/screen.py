"""What the commands print: results on standard output, what to do next on standard error."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from study import records
from study.analysis import Comparison, compare, metric_table
from study.doctor import Finding
from study.job import Outcome
from study.records import StudyFolder
from study.report import console_table, summary_lines

_WIDEST = 160
"""Columns to print for when output is not a terminal, so that piped tables are not folded."""


_NUMBER_STARTS = set("0123456789+-") | {""}


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDEST)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a plain table; columns of numbers are right-aligned."""
    rows = [list(row) for row in rows]
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
    for index, column in enumerate(columns):
        numeric = all(row[index][:1] in _NUMBER_STARTS for row in rows)
        table.add_column(column, justify="right" if numeric else "left", no_wrap=index == 0)
    for row in rows:
        table.add_row(*row)
    _console().print(table, markup=False, highlight=False)


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
        _console().print(line, markup=False, highlight=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Print on standard error."""
    for line in lines:
        print(line, file=sys.stderr)


def show_outcome(outcome: Outcome, command: str) -> int:
    """Print how a run ended and what to do next; return the exit code."""
    if outcome.comparison is not None:
        show_comparison(outcome.comparison)
    if outcome.report is not None:
        say(f"report: {_short(outcome.report)}")
    if outcome.tracking_problem:
        say(
            f"not recorded in MLflow ({outcome.tracking_uri}): {outcome.tracking_problem}",
            f"nothing is lost; when it answers again: study sync {outcome.folder.name}",
        )
    else:
        home = outcome.folder.path.parent
        say(f"MLflow: study ui{_home_option(home)}   (recorded in {outcome.tracking_uri})")
    if outcome.unfinished:
        say(f"interrupted with {outcome.unfinished} trials to go; finished trials are kept. To go on: {command}")
        return 130
    if outcome.failed:
        say(f"{outcome.failed} trials failed, see the table of failures; to run them again: {command} --retry-failed")
    return 1 if outcome.failed or outcome.tracking_problem else 0


def _home_option(home: Path) -> str:
    return "" if home == records.study_home(None) else f" --home {_short(home)}"


def _short(path: Path) -> str:
    """Return a path relative to the working folder where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def show_comparison(comparison: Comparison) -> None:
    """Print the comparison: its table and what it says in words."""
    columns, rows = console_table(comparison)
    print_table(columns, rows)
    print_lines(summary_lines(comparison))


def show_study(folder: StudyFolder, *, as_json: bool) -> None:
    """Print the comparison of a study."""
    comparison = compare(records.load_results(folder))
    if as_json:
        print_json({"study": folder.name, "arms": _records(comparison.table), "summary": summary_lines(comparison)})
    else:
        show_comparison(comparison)


def show_metric(folder: StudyFolder, metric: str, *, as_json: bool) -> None:
    """Print one metric of a study with every seed."""
    show_tables({metric: metric_table(records.load_results(folder), metric)}, as_json=as_json)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def show_studies(home: Path, *, as_json: bool) -> None:
    """Print the studies of a study home with how far they are."""
    entries = [_study_entry(StudyFolder(home / name)) for name in records.names(home)]
    if as_json:
        print_json(entries)
    elif entries:
        print_table(list(entries[0]), [[str(value) for value in entry.values()] for entry in entries])
    else:
        say(f"no studies in {home}")


def _study_entry(folder: StudyFolder) -> dict[str, object]:
    trials = records.load_results(folder).trials["status"].value_counts()
    counts = {status: int(trials.get(status, 0)) for status in records.STATUSES}
    return {"study": folder.name, "trials": sum(counts.values()), **counts}


def show_mapping(values: Mapping[str, str], *, as_json: bool) -> None:
    """Print names and values."""
    if as_json:
        print_json(dict(values))
        return
    width = max(map(len, values))
    print_lines(f"{name:<{width}}  {value}" for name, value in values.items())


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print what the doctor found; return the exit code."""
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        print_lines(f"{'ok  ' if finding.well else 'BAD '} {finding.subject}: {finding.detail}" for finding in findings)
    return 0 if all(finding.well for finding in findings) else 1


def show_strategies(name: str | None, *, as_json: bool) -> None:
    """Print all strategies in a table, or one in full."""
    from strategies import registry

    if name is not None:
        found = registry.describe(name)
        print_json(asdict(found)) if as_json else print_lines(
            [found.text, f"\nDefined in {found.module} ({found.distribution})."]
        )
        return
    every = [registry.describe(each) for each in registry.names()]
    if as_json:
        print_json([asdict(each) for each in every])
        return
    rows = [[each.name, each.summary, ", ".join(option.name for option in each.options) or "-"] for each in every]
    print_table(["strategy", "what it does", "options"], rows)


def show_corpus_findings(findings: Sequence[Any], *, as_json: bool) -> int:
    """Print what is wrong with a corpus; return the exit code."""
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        print_lines(str(finding) for finding in findings)
        say(f"{len(findings)} findings" if findings else "nothing wrong was found")
    return 1 if findings else 0


def show_tables(tables: Mapping[str, pd.DataFrame], *, as_json: bool) -> None:
    """Print tables with their names."""
    if as_json:
        print_json({name: _records(table) for name, table in tables.items()})
        return
    for name, table in tables.items():
        print_table([str(column) for column in table], [[_cell(value) for value in row] for row in table.values], name)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.4g}"
    return "-" if value is None else str(value)
