"""The figure of paired differences: a bar for each arm, zero is the control."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.analysis.summary import seed_values
from study.report.drawing import DARK, GREY, arm_styles, cut, loss_unit, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_FAR = 3.0
"""Arms whose mean lies this many times further out than the tested ones would squeeze these together."""


def differences_figure(results: Results, comparison: Comparison) -> Figure | None:
    """Draw the paired difference of every arm to the control: each seed, the mean and its 95 % interval."""
    table = shown_differences(comparison).sort_values("mean", ascending=False, kind="stable")
    if table.empty:
        return None
    heights = _heights(table, comparison)
    figure, (axis,) = subplots(1, 1, (6.4, 1.1 + 0.27 * (1 + heights[-1])))
    criterion = seed_values(results, f"{comparison.split}/joint_nll")
    styles = arm_styles(results)
    limits = _forest_limits(table, comparison)
    axis.axvline(0, color=DARK, linewidth=0.9)
    for height, row in zip(heights, table.to_dict("records"), strict=True):
        colour, _, marker = styles.get(row["arm"], ("#808080", "-", "o"))
        seeds = (criterion.loc[row["arm"]] - criterion.loc[comparison.control]).dropna()
        _draw_difference(axis, row, seeds.to_numpy(), height, colour, marker, limits)
    _draw_gaps(axis, heights, _left_out(table, comparison))
    axis.set_yticks(heights, [_forest_label(comparison, arm) for arm in table["arm"]])
    axis.set(xlim=limits, ylim=(-0.7, heights[-1] + 0.7))
    axis.set_xlabel(
        f"joint {comparison.split} loss minus that of {cut(comparison.labels[comparison.control])} "
        f"({loss_unit(results, results.tasks)}); left is better"
    )
    axis.grid(visible=False, axis="y")
    return figure


def shown_differences(comparison: Comparison) -> pd.DataFrame:
    """Return the differences that a figure has room for: of too many the tested arms if these are few, best and worst.

    In the order of the plan.
    """
    table = comparison.differences.dropna(subset=["mean"])
    if len(table) <= MOST_BARS:
        return table
    tested = table["arm"].isin(comparison.tested)
    order = table["mean"].rank(method="first")
    room = MOST_BARS - (int(tested.sum()) if tested.sum() <= _FEW_TESTED else 0)
    best_or_worst = (order <= room - _WORST_BARS) | (order > len(table) - _WORST_BARS)
    return table[best_or_worst | (tested & (tested.sum() <= _FEW_TESTED))]


MOST_BARS = 45
"""Arms that the figure of differences has room for on a page."""
_WORST_BARS = 8
"""Of these, the worst."""
_FEW_TESTED = 20
"""Tested arms that are all shown, whatever their place."""


def _left_out(table: pd.DataFrame, comparison: Comparison) -> list[int]:
    """Return how many arms that are not shown lie between each bar and the next, from the worst to the best."""
    every = comparison.differences.dropna(subset=["mean"]).sort_values("mean", ascending=False, kind="stable")
    place = {arm: number for number, arm in enumerate(every["arm"])}
    places = [place[arm] for arm in table["arm"]]
    return [after - before - 1 for before, after in pairwise(places)]


def _heights(table: pd.DataFrame, comparison: Comparison) -> list[float]:
    """Return where each bar is drawn; there is room where arms are left out."""
    gaps = [0, *_left_out(table, comparison)]
    return [place + float(np.count_nonzero(gaps[: place + 1])) for place in range(len(table))]


def _draw_gaps(axis: Axes, heights: list[float], left_out: list[int]) -> None:
    for below, count in zip(heights, left_out, strict=False):
        if count:
            axis.axhline(below + 1, color=GREY, linewidth=0.8, linestyle=":")
            text = f"{count} more between"
            axis.annotate(
                text, (0.01, below + 1), xycoords=("axes fraction", "data"), va="bottom", fontsize=7, color=DARK
            )


def _forest_label(comparison: Comparison, arm: str) -> str:
    return cut(comparison.labels[arm], 36) + ("  (tested)" if arm in comparison.tested else "")


def _forest_limits(table: pd.DataFrame, comparison: Comparison) -> tuple[float, float]:
    """Return limits that show every tested arm and all that are not far from them in full; the rest get an arrow."""
    tested = table[table["arm"].isin(comparison.tested)]
    chosen = tested if len(tested) else table
    scale = float(np.nanmax(chosen[["low", "high", "mean"]].abs().to_numpy(dtype=float), initial=1e-6))
    near = table[table["arm"].isin(chosen["arm"]) | (table["mean"].abs() <= _FAR * scale)]
    ends = near[["low", "high", "mean"]].to_numpy(dtype=float)
    low, high = min(0.0, float(np.nanmin(ends))), max(0.0, float(np.nanmax(ends)))
    margin = 0.05 * (high - low) + 1e-6
    return low - margin, high + margin


def _draw_difference(
    axis: Axes,
    row: dict[Any, Any],
    seeds: NDArray[np.float64],
    height: float,
    colour: str,
    marker: str,
    limits: tuple[float, float],
) -> None:
    if not limits[0] < row["mean"] < limits[1]:
        right = row["mean"] > 0
        text = f"{row['mean']:+.3f} " + ("\N{RIGHTWARDS ARROW}" if right else "\N{LEFTWARDS ARROW}")
        axis.annotate(
            text, (limits[right], height), ha="right" if right else "left", va="center", fontsize=8, color=colour
        )
        return
    axis.plot(seeds, np.full(len(seeds), height - 0.22), "|", color=colour, alpha=0.7, markersize=5)
    if np.isfinite(row["low"]):
        axis.plot([row["low"], row["high"]], [height, height], color=colour, linewidth=1.5)
    axis.plot(row["mean"], height, marker=marker, color=colour, markersize=6, markeredgecolor="white")
