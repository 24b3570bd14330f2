"""The figures of a report; drawn without pyplot, so that nothing depends on a display or on a user's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.analysis.summary import labels, mean_trajectory, seed_values, trajectories
from study.report.drawing import (
    COLOURS,
    DARK,
    GREY,
    arm_styles,
    direct_labels,
    drawn_arms,
    loss_unit,
    subplots,
    whole_epochs,
)
from study.report.panels import arms_figure, draw_clock, draw_weights
from study.report.plane import task_plane_figure
from study.report.tuning import tuning_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

Curves = dict[str, tuple[Any, Any]]
Limits = tuple[float, float] | None


def figures(results: Results, comparison: Comparison) -> dict[str, Figure]:
    """Return file stem -> figure, those that the study has data for; call it inside the style of ``files.save``."""
    drawn = {
        "weights": weights_figure(results),
        "joint_loss": joint_loss_figure(results),
        "task_plane": task_plane_figure(results, comparison),
        "differences": differences_figure(results, comparison),
        "arms": arms_figure(results, comparison),
        "tuning": tuning_figure(results),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


_IN_A_ROW = 4
"""Arms side by side."""
_WEIGHTS = (("weight/{}", "weight (scaled to sum 1)"), ("gradient/share/{}", "effective weight (sum 1)"))
"""Columns of the rows -> what they are called: one row of panels each, as far as they were measured."""


def weights_figure(results: Results) -> Figure | None:
    """Draw the weights of every dynamic arm over epochs and below them what they come to: the share of the step.

    The mean over seeds is a line, each seed a faint one.
    """
    first = results.tasks[0]
    arms = [arm for arm in drawn_arms(results) if not trajectories(results, f"weight/{first}", arm).empty]
    if not arms:
        return None
    kinds = [kind for kind in _WEIGHTS if any(_measured(results, kind[0], arm) for arm in arms)]
    columns = min(_IN_A_ROW, len(arms))
    rows = len(kinds) * -(-len(arms) // columns)
    figure, axes = subplots(rows, columns, (1.2 + 2.2 * columns, 0.5 + 2.0 * rows))
    for axis in axes:
        axis.set_visible(False)
    for position, arm in enumerate(arms):
        block, column = divmod(position, columns)
        for row, (name, unit) in enumerate(kinds):
            axis = axes[(block * len(kinds) + row) * columns + column]
            _draw_shares(axis, results, arm, name)
            axis.set(title=labels(results)[arm] if row == 0 else "", ylabel="" if column else unit)
            axis.set_xlabel("epoch" if row == len(kinds) - 1 else "")
    return figure


def _measured(results: Results, name: str, arm: str) -> bool:
    table = trajectories(results, name.format(results.tasks[0]), arm)
    return bool(table.notna().any(axis=None)) and not table.empty


def _draw_shares(axis: Axes, results: Results, arm: str, name: str) -> None:
    """Draw what each task has of a whole, over epochs, and name the tasks at the ends of their lines."""
    if not _measured(results, name, arm):
        return
    axis.set_visible(True)
    axis.axhline(1 / len(results.tasks), color=DARK, linewidth=0.8, linestyle=":")
    if name == _WEIGHTS[0][0]:
        draw_clock(axis, results, arm)
    ends = [draw_weights(axis, trajectories(results, name.format(t), arm), i) for i, t in enumerate(results.tasks)]
    axis.set_ylim(-0.03, 1.03)  # before the labels, which are moved apart by it
    told = zip(ends, results.tasks, strict=True)
    direct_labels(axis, [(end, task, COLOURS[i % 7]) for i, (end, task) in enumerate(told)])
    whole_epochs(axis)


def joint_loss_figure(results: Results) -> Figure | None:
    """Draw the joint loss at the fixed reference weights over epochs, training and validation side by side."""
    splits = [split for split in ("train", "valid") if f"{split}/joint_nll" in results.rows.columns]
    if not splits or "kind" not in results.rows or not (results.rows["kind"] == "epoch").any():
        return None
    figure, axes = subplots(1, len(splits), (1.2 + 3.3 * len(splits), 3.3), sharey=True)
    shared: Limits = None
    for axis, split in zip(axes, splits, strict=True):
        means: Curves = {
            arm: mean_trajectory(trajectories(results, f"{split}/joint_nll", arm)) for arm in labels(results)
        }
        means = {arm: mean for arm, mean in means.items() if np.isfinite(mean[1]).any()}
        _draw_losses(axis, results, means, split == splits[-1], shared)
        shared = axis.get_ylim()
        axis.set(title={"train": "training", "valid": "validation"}[split], xlabel="epoch")
        whole_epochs(axis)
    axes[0].set_ylabel(f"joint loss at fixed weights ({loss_unit(results, results.tasks)})")
    return figure


_MOST_GREY = 60
"""Curves in the background; more would only be a larger file."""


def _draw_losses(axis: Axes, results: Results, means: Curves, label: bool, shared: Limits) -> None:
    styles, names, ends = arm_styles(results), labels(results), []
    highlighted = [arm for arm in means if arm in styles]
    for arm in [arm for arm in means if arm not in styles][:_MOST_GREY]:
        axis.plot(*means[arm], color=GREY, linewidth=0.9, zorder=1)
    for arm in highlighted:
        colour, line, _ = styles[arm]
        axis.plot(*means[arm], color=colour, linestyle=line, zorder=3)
        ends.append(((float(means[arm][0][-1]), float(means[arm][1][-1])), names[arm], colour))
    if highlighted:
        # a task that is never trained would squeeze all other curves: its arms may leave the picture
        values = np.concatenate([means[arm][1] for arm in highlighted])
        margin = 0.08 * float(np.ptp(values)) or 0.01  # one epoch, and arms that are equal in it, span nothing
        low, high = float(values.min()) - margin, float(values.max()) + margin
        lower, upper = shared if shared else (low, high)
        axis.set_ylim(min(low, lower), max(high, upper))
    if label:
        direct_labels(axis, ends + _grey_label(axis, results, means))


def _grey_label(axis: Axes, results: Results, means: Curves) -> list[Any]:
    low, high = axis.get_ylim()
    styles = arm_styles(results)
    inside = [m for arm, m in means.items() if arm not in styles and low < m[1][-1] < high]
    if not inside:
        return []
    epochs, values = max(inside, key=lambda mean: float(mean[1][-1]))
    return [((float(epochs[-1]), float(values[-1])), "static grid", "#808080")]


_FAR = 3.0
"""Arms whose mean lies this many times further out than the tested ones would squeeze these together."""


def differences_figure(results: Results, comparison: Comparison) -> Figure | None:
    """Draw the paired difference of every arm to the control: each seed, the mean and its 95 % interval."""
    table = shown_differences(comparison).sort_values("mean", ascending=False, kind="stable")
    if table.empty:
        return None
    figure, (axis,) = subplots(1, 1, (6.4, 1.1 + 0.27 * len(table)))
    criterion = seed_values(results, f"{comparison.split}/joint_nll")
    styles = arm_styles(results)
    limits = _forest_limits(table, comparison)
    axis.axvline(0, color=DARK, linewidth=0.9)
    for height, row in enumerate(table.to_dict("records")):
        colour, _, marker = styles.get(row["arm"], ("#808080", "-", "o"))
        seeds = (criterion.loc[row["arm"]] - criterion.loc[comparison.control]).dropna()
        _draw_difference(axis, row, seeds.to_numpy(), height, colour, marker, limits)
    axis.set_yticks(range(len(table)), [_forest_label(comparison, arm) for arm in table["arm"]])
    axis.set(xlim=limits, ylim=(-0.7, len(table) - 0.3))
    axis.set_xlabel(
        f"joint {comparison.split} loss minus that of {comparison.labels[comparison.control]} "
        f"({loss_unit(results, results.tasks)}); left is better"
    )
    axis.grid(visible=False, axis="y")
    return figure


def shown_differences(comparison: Comparison) -> pd.DataFrame:
    """Return the differences that a figure has room for: of too many the tested arms first, then the best."""
    table = comparison.differences.dropna(subset=["mean"])
    if len(table) <= _MOST_BARS:
        return table
    tested = table["arm"].isin(comparison.tested)
    return table.assign(first=~tested).sort_values(["first", "mean"], kind="stable").head(_MOST_BARS)


_MOST_BARS = 45
"""Arms that the figure of differences has room for on a page."""


def _forest_label(comparison: Comparison, arm: str) -> str:
    return comparison.labels[arm] + ("  (tested)" if arm in comparison.tested else "")


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
    height: int,
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
