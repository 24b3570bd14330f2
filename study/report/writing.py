"""The report of a study as files: a page, Markdown, figures, and tables for programs and for papers."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from study.analysis.comparison import Comparison, compare
from study.analysis.results import Results
from study.analysis.summary import arm_ids, final_rows, labels, metric_columns
from study.analysis.tuning import configurations_table
from study.report import files, html, latex, markdown
from study.report.figures import figures
from study.report.page import page
from study.report.text import summary_lines


def write_report(results: Results, folder: Path, split: str = "test") -> Path:
    """Write ``report.html``, ``report.md``, ``figures/*.png|svg`` and ``tables/*.csv``; return the path of the page.

    The same results give the same files, byte for byte; files of an earlier report with other names are left alone.

    Raises:
        StudyError: nothing to compare yet, or the folder cannot be written to.
    """
    comparison = compare(results, split)
    for name, table in tables(results, comparison).items():
        files.write_table(folder / "tables" / f"{name}.csv", table)
    drawn = files.write_figures(folder / "figures", lambda: figures(results, comparison))
    content = page(results, comparison, drawn)
    files.write_text(folder / "report.md", markdown.render(content))
    pictures = {stem: (folder / "figures" / f"{stem}.svg").read_text(encoding="utf-8") for stem in drawn}
    path = folder / "report.html"
    files.write_text(path, html.render(content, pictures))
    return path


def write_format(results: Results, folder: Path, format_name: str) -> Path:
    """Write the report in one of ``FORMATS`` and return the path of what to open, or of the folder of tables.

    Raises:
        StudyError: nothing to compare yet, or the folder cannot be written to.
    """
    return FORMATS[format_name](results, folder)


def _write_markdown(results: Results, folder: Path) -> Path:
    return write_report(results, folder).with_name("report.md")


def _write_latex(results: Results, folder: Path) -> Path:
    for name, text in latex.files(page(results, compare(results), [])).items():
        files.write_text(folder / name, text)
    return folder / "report.tex"


def _write_csv(results: Results, folder: Path) -> Path:
    for name, table in tables(results, compare(results)).items():
        files.write_table(folder / "tables" / f"{name}.csv", table)
    return folder / "tables"


def _write_parquet(results: Results, folder: Path) -> Path:
    """Write every table and all rows as Parquet."""
    found = tables(results, compare(results)) | {"rows": results.rows, "trials": results.trials}
    for name, table in found.items():
        files.write_parquet(folder / "tables" / f"{name}.parquet", table)
    return folder / "tables"


def _write_json(results: Results, folder: Path) -> Path:
    path = folder / "report.json"
    content = as_dict(results, compare(results))
    files.write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


FORMATS: Mapping[str, Callable[[Results, Path], Path]] = {
    "html": write_report,
    "md": _write_markdown,
    "latex": _write_latex,
    "csv": _write_csv,
    "parquet": _write_parquet,
    "json": _write_json,
}
"""Name of a format -> what writes it."""


def as_dict(results: Results, comparison: Comparison) -> dict[str, Any]:
    """Return a report as plain values: what it says, and every table; numbers that are not finite are None."""
    return {
        "study": results.study,
        "title": results.title,
        "split": comparison.split,
        "control": comparison.control,
        "summary": summary_lines(comparison),
        "facts": dict(results.facts),
        "tables": {name: _records(table) for name, table in tables(results, comparison).items()},
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:  # noqa: ANN401  (a cell)
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tables(results: Results, comparison: Comparison) -> dict[str, pd.DataFrame]:
    """Return file stem -> table of everything the report's numbers come from."""
    found = {
        "comparison": comparison.table,
        "differences": comparison.differences,
        "seeds": seed_table(results, comparison.split),
        "front": comparison.front,
        "regret": comparison.regret,
        "delta": comparison.delta.table,
        "weights": _weights(comparison),
        "ranks": comparison.ranks,
        "budgets": comparison.budgets,
        "controls": comparison.controls,
        "cost": comparison.cost,
        "gradients": comparison.gradients,
        "failures": comparison.failures,
        "findings": _findings(comparison),
    }
    if results.tuning is not None:
        found["tuning"] = configurations_table(results.tuning)
        found["equal_tuning"] = comparison.equal_tuning
    if comparison.distances is not None:
        found["distances"] = comparison.distances.table
    if comparison.static is not None:
        found["differences_to_best_static"] = comparison.static.to_best
        found["differences_to_oracle"] = comparison.static.to_oracle
    if comparison.rescored is not None:
        found["rescored"] = comparison.rescored.table
    return found


def _weights(comparison: Comparison) -> pd.DataFrame:
    """Return the weights at the end of training of the arms whose weights move."""
    columns = [name for name in comparison.table.columns if name.startswith("weight/")]
    return comparison.table.loc[~comparison.table["is_static"].astype(bool), ["arm", "label", *columns]]


def _findings(comparison: Comparison) -> pd.DataFrame:
    entries: Sequence[Mapping[str, str]] = [
        {"kind": finding.kind, "arms": " ".join(finding.arms), "text": finding.text} for finding in comparison.findings
    ]
    return pd.DataFrame(entries, columns=["kind", "arms", "text"])


def seed_table(results: Results, split: str) -> pd.DataFrame:
    """Return every seed's value: one row per finished trial, in the order of the plan."""
    finals = final_rows(results)
    wanted = [*metric_columns(results, split), *(f"weight/{task}" for task in results.tasks)]
    wanted += [f"raw_weight/{task}" for task in results.tasks]
    columns = ["arm", "seed", "epoch", *(column for column in wanted if column in finals.columns)]
    order = {arm: position for position, arm in enumerate(arm_ids(results))}
    sorted_rows = finals.sort_values(["arm", "seed"], key=lambda keys: keys.map(order) if keys.name == "arm" else keys)
    table = sorted_rows[columns].reset_index(drop=True)
    table.insert(1, "label", table["arm"].map(labels(results)))
    return table
