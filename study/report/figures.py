"""The four figures of a report; drawn without pyplot, so that nothing depends on a display or on a user's settings.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart by colour-blind readers; every arm also has
a marker and a line style of its own, told apart in grey.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.analysis.statistics import t_interval
from study.analysis.summary import dynamic_arms, labels, mean_trajectory, seed_values, static_arms, trajectories

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (6, 2)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 1, 2, 1, 2)), (0, (4, 1)))
Curves = dict[str, tuple[Any, Any]]
Limits = tuple[float, float] | None
GREY, DARK = "#b8b8b8", "#404040"
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.dpi": 150,
    "svg.hashsalt": "weighting-study",
}


def figures(results: Results, comparison: Comparison) -> dict[str, Figure]:
    """Return file stem -> figure, those that the study has data for; call it inside the style of ``files.save``."""
    drawn = {
        "weights": weights_figure(results),
        "joint_loss": joint_loss_figure(results),
        "task_plane": task_plane_figure(results, comparison),
        "differences": differences_figure(results, comparison),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def weights_figure(results: Results) -> Figure | None:
    """Draw the weights of every dynamic arm over epochs: the mean over seeds, each seed faint."""
    arms = [arm for arm in dynamic_arms(results) if not trajectories(results, f"weight/{results.tasks[0]}", arm).empty]
    if not arms:
        return None
    columns = min(3, len(arms))
    figure, axes = _subplots(
        -(-len(arms) // columns), columns, (1.2 + 2.5 * columns, 0.5 + 2.3 * -(-len(arms) // columns))
    )
    names, uniform = labels(results), 1 / len(results.tasks)
    for axis, arm in zip(axes, arms, strict=False):
        axis.axhline(uniform, color=DARK, linewidth=0.8, linestyle=":")
        ends = [_draw_weights(axis, trajectories(results, f"weight/{t}", arm), i) for i, t in enumerate(results.tasks)]
        _direct_labels(
            axis, [(end, task, COLOURS[i % 7]) for i, (end, task) in enumerate(zip(ends, results.tasks, strict=True))]
        )
        axis.set(title=names[arm], xlabel="epoch", ylim=(-0.03, 1.03))
        _whole_epochs(axis)
    axes[0].set_ylabel("weight (scaled to sum 1)")
    for axis in axes[len(arms) :]:
        axis.set_visible(False)
    return figure


def _draw_weights(axis: Axes, table: pd.DataFrame, index: int) -> tuple[float, float]:
    colour, line = COLOURS[index % len(COLOURS)], LINES[index % len(LINES)]
    axis.plot(table.index, table.to_numpy(), color=colour, alpha=0.3, linewidth=0.8)
    epochs, mean = mean_trajectory(table)
    axis.plot(epochs, mean, color=colour, linestyle=line)
    return float(epochs[-1]), float(mean[-1])


def joint_loss_figure(results: Results) -> Figure | None:
    """Draw the joint loss at the fixed reference weights over epochs, training and validation side by side."""
    splits = [split for split in ("train", "valid") if f"{split}/joint_nll" in results.rows.columns]
    if not splits or "kind" not in results.rows or not (results.rows["kind"] == "epoch").any():
        return None
    figure, axes = _subplots(1, len(splits), (1.2 + 3.3 * len(splits), 3.3), sharey=True)
    shared: Limits = None
    for axis, split in zip(axes, splits, strict=True):
        means: Curves = {
            arm: mean_trajectory(trajectories(results, f"{split}/joint_nll", arm)) for arm in labels(results)
        }
        means = {arm: mean for arm, mean in means.items() if np.isfinite(mean[1]).any()}
        _draw_losses(axis, results, means, split == splits[-1], shared)
        shared = axis.get_ylim()
        axis.set(title={"train": "training", "valid": "validation"}[split], xlabel="epoch")
        _whole_epochs(axis)
    axes[0].set_ylabel(f"joint loss at fixed weights ({loss_unit(results, results.tasks)})")
    return figure


def _draw_losses(axis: Axes, results: Results, means: Curves, label: bool, shared: Limits) -> None:
    styles, names, ends = arm_styles(results), labels(results), []
    highlighted = [arm for arm in means if arm in styles]
    for arm in means:
        if arm not in styles:
            axis.plot(*means[arm], color=GREY, linewidth=0.9, zorder=1)
    for arm in highlighted:
        colour, line, _ = styles[arm]
        axis.plot(*means[arm], color=colour, linestyle=line, zorder=3)
        ends.append(((float(means[arm][0][-1]), float(means[arm][1][-1])), names[arm], colour))
    if highlighted:
        # a task that is never trained would squeeze all other curves: its arms may leave the picture
        values = np.concatenate([means[arm][1] for arm in highlighted])
        margin = 0.08 * float(np.ptp(values))
        low, high = float(values.min()) - margin, float(values.max()) + margin
        lower, upper = shared if shared else (low, high)
        axis.set_ylim(min(low, lower), max(high, upper))
    if label:
        _direct_labels(axis, ends + _grey_label(axis, results, means))


def _grey_label(axis: Axes, results: Results, means: Curves) -> list[Any]:
    low, high = axis.get_ylim()
    styles = arm_styles(results)
    inside = [m for arm, m in means.items() if arm not in styles and low < m[1][-1] < high]
    if not inside:
        return []
    epochs, values = max(inside, key=lambda mean: float(mean[1][-1]))
    return [((float(epochs[-1]), float(values[-1])), "static grid", "#808080")]


def task_plane_figure(results: Results, comparison: Comparison) -> Figure | None:
    """Draw the losses of two tasks against each other: the static grid as reference, dynamic arms with intervals.

    Two tasks give two panels, everything and a closer look; three give one panel per pair; of more, the first two.
    """
    if len(results.tasks) < 2:
        return None
    pairs = list(itertools.combinations(results.tasks, 2)) if len(results.tasks) <= 3 else [results.tasks[:2]]
    closer = len(results.tasks) == 2
    panels = [(pair, False) for pair in pairs] + [(pair, True) for pair in pairs if closer]
    figure, axes = _subplots(1, len(panels), (0.6 + 3.6 * len(panels), 3.8))
    for axis, (pair, near) in zip(axes, panels, strict=True):
        _draw_plane(axis, results, comparison, (pair[0], pair[1]), near)
    _plane_legend(figure, results)
    return figure


def _draw_plane(axis: Axes, results: Results, comparison: Comparison, pair: tuple[str, str], near: bool) -> None:
    table, columns = comparison.front, [f"{comparison.split}/nll/{task}" for task in pair]
    static = table[table["is_static"]].dropna(subset=columns)
    points = static[columns].to_numpy(dtype=float)
    if len(results.tasks) == 2 and len(static) > 2:
        axis.plot(points[:, 0], points[:, 1], color=GREY, linewidth=1, zorder=1)
    on_front = static["on_front"].to_numpy(dtype=bool)
    behind = points[~on_front]
    axis.scatter(behind[:, 0], behind[:, 1], s=22, facecolor="white", edgecolor=DARK, linewidth=0.9, zorder=2)
    axis.scatter(points[on_front, 0], points[on_front, 1], s=26, color=DARK, zorder=3)
    if near or len(static) <= 4:
        _name_static(axis, results, static, points)
    crosses = _draw_crosses(axis, results, columns)
    title = (
        f"a closer look; numbers are weights on {pair[0]}"
        if near
        else ("all arms" if len(results.tasks) == 2 else f"{pair[0]} and {pair[1]}")
    )
    xlabel, ylabel = (f"{task}: {comparison.split} loss ({loss_unit(results, [task])})" for task in pair)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if near:
        _zoom(axis, points, on_front, crosses)


def _name_static(axis: Axes, results: Results, static: pd.DataFrame, points: NDArray[np.float64]) -> None:
    weights = dict(zip(results.arms["arm"], results.arms["static_weights"], strict=True))
    for arm, point in zip(static["arm"], points, strict=True):
        text = (
            "/".join(f"{weight:.2g}" for weight in weights[arm]) if len(results.tasks) > 2 else f"{weights[arm][0]:.2g}"
        )
        axis.annotate(
            text,
            point,
            xytext=(0, -10),
            textcoords="offset points",
            fontsize=6.5,
            color=DARK,
            ha="center",
            clip_on=True,
        )


def _draw_crosses(axis: Axes, results: Results, columns: list[str]) -> NDArray[np.float64]:
    """Draw each dynamic arm with its intervals; return the corners, shape ``(2 * arms, 2)``."""
    styles, corners = arm_styles(results), []
    tables = [seed_values(results, column) for column in columns]
    for arm in dynamic_arms(results):
        values = [[v for v in table.loc[arm].to_numpy(dtype=float) if np.isfinite(v)] for table in tables]
        if not all(values):
            continue
        centre = np.array([np.mean(value) for value in values])
        half = np.array([interval.half_width if (interval := t_interval(value)) else 0.0 for value in values])
        colour, _, marker = styles[arm]
        x, y = float(centre[0]), float(centre[1])
        axis.errorbar(x, y, xerr=half[0], yerr=half[1], color=colour, elinewidth=1.1, capsize=2, zorder=4)
        axis.plot(x, y, marker, color=colour, markersize=7, markeredgecolor="white", zorder=5)
        corners += [centre - half, centre + half]
    return np.array(corners).reshape(-1, 2)


def _zoom(
    axis: Axes,
    points: NDArray[np.float64],
    on_front: NDArray[np.bool_],
    crosses: NDArray[np.float64],
) -> None:
    """Show the dynamic arms and the part of the front that is near them."""
    shown = np.concatenate([crosses, points[on_front]])
    if not len(shown):
        return
    # a front ends far out, where one task is hardly trained: three times the spread of the middle half is near enough
    centre = np.median(points, axis=0)
    spread = np.maximum(3 * np.subtract(*np.quantile(points, [0.75, 0.25], axis=0)), 1e-3)
    near = shown[(np.abs(shown - centre) <= spread).all(axis=1)]
    shown = np.concatenate([crosses, near])
    low, high = shown.min(axis=0), shown.max(axis=0)
    margin = 0.1 * np.maximum(high - low, 1e-3)
    axis.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axis.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _plane_legend(figure: Figure, results: Results) -> None:
    from matplotlib.lines import Line2D

    styles, names = arm_styles(results), labels(results)
    entries = [("static, on the front", DARK, DARK, "o"), ("static", DARK, "white", "o")]
    entries += [(names[arm], styles[arm][0], styles[arm][0], styles[arm][2]) for arm in dynamic_arms(results)]
    handles = [
        Line2D([], [], color=edge, markerfacecolor=face, marker=marker, linestyle="none", markersize=6, label=name)
        for name, edge, face, marker in entries
    ]
    columns = min(len(handles), 6)
    figure.legend(handles=handles, fontsize=8, loc="outside lower center", ncols=columns, handletextpad=0.2)


def differences_figure(results: Results, comparison: Comparison) -> Figure | None:
    """Draw the paired difference of every arm to the control: each seed, the mean and its 95 % interval."""
    table = comparison.differences.dropna(subset=["mean"]).sort_values("mean", ascending=False, kind="stable")
    if table.empty:
        return None
    figure, (axis,) = _subplots(1, 1, (6.4, 1.1 + 0.27 * len(table)))
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


def _forest_label(comparison: Comparison, arm: str) -> str:
    return comparison.labels[arm] + ("  (tested)" if arm in comparison.tested else "")


def _forest_limits(table: pd.DataFrame, comparison: Comparison) -> tuple[float, float]:
    """Return limits that show every tested arm in full; arms far away are marked at the edge."""
    tested = table[table["arm"].isin(comparison.tested)]
    ends = (tested if len(tested) else table)[["low", "high", "mean"]].abs().to_numpy(dtype=float)
    reach = 1.3 * float(np.nanmax(ends)) if np.isfinite(ends).any() else 1.0
    near = table["mean"].abs().to_numpy(dtype=float)
    reach = max(reach, 1.1 * float(np.quantile(near, 0.7)), 1e-6)
    return -reach, reach


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


def loss_unit(results: Results, tasks: Sequence[str]) -> str:
    """Return the unit of the losses of tasks: nats for classification, 1 - CCC for regression."""
    kinds = {results.task_kinds[task] for task in tasks}
    units = {"classification": "nats", "regression": "1 - CCC"}
    return " and ".join(unit for kind, unit in units.items() if kind in kinds)


def arm_styles(results: Results) -> dict[str, tuple[str, Any, str]]:
    """Return the colour, line style and marker of the arms that figures highlight: control and dynamic ones."""
    styles: dict[str, tuple[str, Any, str]] = {
        arm: (COLOURS[i % 6], LINES[i % len(LINES)], MARKERS[i % len(MARKERS)])
        for i, arm in enumerate(dynamic_arms(results))
    }
    if results.control in static_arms(results):
        styles[results.control] = ("#000000", "-", "o")
    return styles


def _subplots(rows: int, columns: int, size: tuple[float, float], sharey: bool = False) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    return figure, [axis for row in axes for axis in row]


def _direct_labels(axis: Axes, ends: list[tuple[tuple[float, float], str, str]]) -> None:
    """Write each curve's name at its right end, moved apart where ends are closer than a line of text."""
    low, high = axis.get_ylim()
    gap = 0.065 * (high - low)
    ends = sorted((end for end in ends if np.isfinite(end[0][1])), key=lambda end: end[0][1])
    floor = -np.inf
    for (x, y), text, colour in ends:
        height = max(y, floor)
        floor = height + gap
        axis.annotate(
            text,
            (x, height),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=8,
            annotation_clip=False,
        )


def _whole_epochs(axis: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
