"""A comparison in plain words and short tables; numbers become strings here and nowhere else."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from study.analysis.comparison import Comparison
from study.analysis.front import MOST_SENTENCES
from study.analysis.statistics import ALPHA
from study.analysis.tuning import first_in_tuning
from study.report.blocks import listed

NOTHING = "-"
"""What a table shows where there is no number."""
MARKS = {"better": "*", "worse": "*", "hint": "?", "unclear": "", "": ""}
"""Verdict -> mark beside a difference."""
MARKS_TEXT = "* marks a difference that holds after Holm's correction, ? a hint and no more."


def number(value: float, digits: int = 3) -> str:
    """Return a number with fixed decimals, or a dash for NaN.

    >>> number(0.12345), number(float("nan"))
    ('0.123', '-')
    """
    return f"{value:.{digits}f}" if math.isfinite(value) else NOTHING


def signed(value: float, digits: int = 3) -> str:
    """Return a number with its sign, or a dash for NaN.

    >>> signed(0.1), signed(float("nan"))
    ('+0.100', '-')
    """
    return f"{value:+.{digits}f}" if math.isfinite(value) else NOTHING


def range_cell(low: float, high: float, digits: int = 3) -> str:
    """Return the ends of an interval, or a dash where there is none.

    >>> range_cell(-0.1, 0.25)
    '-0.100 to +0.250'
    """
    return f"{low:+.{digits}f} to {high:+.{digits}f}" if math.isfinite(low) else NOTHING


def percent(share: float) -> str:
    """Return a share of one in percent, or a dash for NaN."""
    return f"{share:.0%}" if math.isfinite(share) else NOTHING


def times(ratio: float) -> str:
    """Return a ratio, or a dash for NaN."""
    return f"{ratio:.2f}x" if math.isfinite(ratio) else NOTHING


def with_interval(mean: float, half_width: float, digits: int = 3) -> str:
    """Return a mean with the half-width of its interval, as short as it goes.

    >>> with_interval(1.2345, 0.0456), with_interval(1.2345, float("nan"))
    ('1.234±.046', '1.234')
    """
    if not math.isfinite(half_width):
        return number(mean, digits)
    return f"{mean:.{digits}f}±{f'{half_width:.{digits}f}'.removeprefix('0')}"


def difference_cell(row: Mapping[Any, Any]) -> str:
    """Return the difference to the control with the half-width of its interval and the mark of its verdict."""
    if not math.isfinite(row["difference"]):
        return NOTHING
    half_width = row["difference/high"] - row["difference"]
    interval = f"±{half_width:.3f}".replace("±0.", "±.") if math.isfinite(half_width) else ""
    return f"{row['difference']:+.3f}{interval}{MARKS.get(row['verdict'], '')}"


def weights_cell(comparison: Comparison, row: Mapping[Any, Any]) -> str:
    """Return the normalised weights at the end of training, ``0.50/0.50``."""
    return "/".join(number(row[f"weight/{task}"], 2) for task in comparison.tasks)


def console_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the comparison as strings, best arm first.

    With two tasks it fits 120 columns. With more it shows one metric a task, the one people read, and leaves the
    per-task losses to the report. A ``*`` marks a difference that holds after Holm's correction, ``?`` a hint.
    """
    names = shown_metrics(comparison)
    heads = [f"{task} {metric_name(metric)}" for task, metric in names]
    columns = ["arm", "seeds", *heads, "joint NLL", f"vs {comparison.labels[comparison.control]}", "end weights"]
    return columns, [_console_row(comparison, row, names) for row in comparison.table.to_dict("records")]


def metric_name(metric: str) -> str:
    """Return what a metric is called in a table."""
    names = {"accuracy": "accuracy", "macro_f1": "F1", "baseline_accuracy": "accuracy of always no"}
    plain = metric.removeprefix("searched_")
    return names.get(plain, plain.upper()) + (" at searched thresholds" if plain != metric else "")


def shown_metrics(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the ``(task, metric)`` pairs that a table has room for and that were measured."""
    per_task = [
        (task, metric)
        for task in comparison.tasks
        for metric in (
            ("nll", comparison.headline[task]) if len(comparison.tasks) <= 2 else (comparison.headline[task],)
        )
    ]
    return [(task, metric) for task, metric in per_task if f"{metric}/{task}" in comparison.table.columns]


def _console_row(comparison: Comparison, row: Mapping[Any, Any], names: Iterable[tuple[str, str]]) -> list[str]:
    cells = [with_interval(row[f"{metric}/{task}"], row[f"{metric}/{task}/half_width"]) for task, metric in names]
    joint = with_interval(row["joint_nll"], row["joint_nll/half_width"])
    return [
        str(row["label"]),
        seeds_cell(row),
        *cells,
        joint,
        "control" if row["arm"] == comparison.control else difference_cell(row),
        weights_cell(comparison, row),
    ]


def seeds_cell(row: Mapping[Any, Any]) -> str:
    """Return how many seeds went in, of how many if some are missing."""
    complete = row["num_seeds"] == row["planned_seeds"]
    return str(row["num_seeds"]) if complete else f"{row['num_seeds']} of {row['planned_seeds']}"


def summary_lines(comparison: Comparison) -> list[str]:
    """Return what the comparison shows, in sentences: the verdict, the static grid, then every note."""
    return [*verdict_lines(comparison), *tuned_lines(comparison), *static_lines(comparison), *comparison.notes]


def verdict_lines(comparison: Comparison) -> list[str]:
    """Say which arms differ from the control beyond the noise of the seeds, and which do not."""
    table = comparison.table[comparison.table["arm"].isin(comparison.tested)]
    rows = [row for row in table.to_dict("records") if math.isfinite(row["difference"])]
    control, seeds = comparison.labels[comparison.control], plural(comparison.num_seeds, "seed")
    if not rows and comparison.tested:
        names = listed((comparison.labels[arm] for arm in comparison.tested), " or ")
        reason = f"no seed has a finite joint {comparison.split} NLL both of it and of {names}"
        return [f"Nothing can be compared with {control}: {reason}."]
    if not rows:
        return [f"There is no arm to compare with {control}."]
    if not any(row["verdict"] for row in rows):
        return [f"No claim can be made against {control}: {seeds} cannot give an interval."]
    clear = [row for row in rows if row["verdict"] in ("better", "worse")]
    told = [_clear_line(row, control) for row in clear]
    if not clear:
        told = [f"No arm differs from {control} in joint {comparison.split} NLL beyond the noise of {seeds}."]
    hints = [f"{row['label']} ({difference_cell(row)})" for row in rows if row["verdict"] == "hint"]
    if hints:
        plain = "the plain interval leaves out zero, the corrected test does not"
        told.append(f"A hint and no more ({plain}): {listed(hints, ', ')}.")
    rest = [str(row["label"]) for row in rows if row["verdict"] == "unclear"]
    if clear and rest:
        told.append(f"No difference from {control} beyond the noise of {seeds}: {listed(rest, ', ')}.")
    return told


def tuned_lines(comparison: Comparison) -> list[str]:
    """Say what the intervals of a study with a search leave out: the luck of the search."""
    found = comparison.results.tuning
    if found is None or not comparison.tested:
        return []
    count = max((len(method.configurations) for method in found.methods), default=0)
    budget = f"{plural(count, 'configuration')}, {plural(found.search.seeds, 'tuning seed')}"
    held = f"; {told}" if (told := held_line(comparison)) else ""
    return [
        f"Each method was searched once ({budget}): intervals and tests hold for the chosen configurations and "
        f"leave out the luck of choosing them{held}. Another search.seed, or a larger search.budget and search.seeds, "
        "shows how much of a difference that is."
    ]


def held_line(comparison: Comparison) -> str:
    """Say whether the order of the methods in tuning has held, as a clause; empty where it cannot be told."""
    found = first_in_tuning(comparison.results)
    if found is None:
        return ""
    first, place, count = found
    with_fresh = {1: "first", 2: "second", 3: "third"}.get(place, f"number {place}")
    name = comparison.labels.get(first, first)
    return f"{name} came first in tuning, and with fresh seeds {with_fresh} of {count} on validation"


def _clear_line(row: Mapping[Any, Any], control: str) -> str:
    return (
        f"{row['label']} is {row['verdict']} than {control}: joint NLL {row['difference']:+.3f} "
        f"(95 % interval {row['difference/low']:+.3f} to {row['difference/high']:+.3f}, "
        f"{plural(int(row['difference/num_seeds']), 'common seed')}, paired t-test {p_value(row['t_holm_p'])} and "
        f"exact Wilcoxon {p_value(row['holm_p'])} after Holm)."
    )


def static_lines(comparison: Comparison) -> list[str]:
    """Say what the static grid, as one method, reaches, and how the dynamic arms stand to it."""
    static = comparison.static
    if static is None:
        return []
    best, oracle = comparison.labels[static.best], comparison.labels[static.oracle]
    line = f"Static grid: {best} is best on validation, with a joint {comparison.split} NLL of {static.best_value:.3f}"
    if static.oracle != static.best:
        line += (
            f"; the oracle, {oracle}, could only be known from the {comparison.split} split ({static.oracle_value:.3f})"
        )
    else:
        line += f"; no static arm has a lower one on the {comparison.split} split"
    return [line + ".", *_standings(comparison, best, static.to_best.to_dict("records"))]


def _standings(comparison: Comparison, best: str, rows: Sequence[Mapping[Any, Any]]) -> list[str]:
    """Say how each dynamic arm stands to the grid; of many, one line names those that do not differ from it."""
    known = [row for row in rows if math.isfinite(row["low"])]
    many = len(known) > MOST_SENTENCES
    alike = [row for row in known if many and row["t_holm_p"] > ALPHA]
    told = [
        f"{comparison.labels[row['arm']]} against {best}: {row['mean']:+.3f} "
        f"({row['low']:+.3f} to {row['high']:+.3f}), {_standing(row)}."
        for row in known
        if not many or row["t_holm_p"] <= ALPHA
    ]
    if alike:
        names = listed((f"{comparison.labels[row['arm']]} ({row['mean']:+.3f})" for row in alike), ", ")
        told.append(f"No difference from {best} beyond the noise: {names}.")
    return told


def _standing(row: Mapping[Any, Any]) -> str:
    if row["t_holm_p"] <= ALPHA:
        return "better than the tuned static weights" if row["mean"] < 0 else "worse than the tuned static weights"
    return "no difference beyond the noise"


def p_value(p: float) -> str:
    """Return a p-value for a sentence.

    >>> p_value(0.0625), p_value(0.00001)
    ('p = 0.0625', 'p < 0.001')
    """
    if not math.isfinite(p):
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3g}"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "seed"), plural(5, "seed")
    ('1 seed', '5 seeds')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
