"""The plane of the per-task losses: the static grid as reference, dynamic arms with intervals on it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.analysis.statistics import t_interval
from study.analysis.summary import labels, seed_values
from study.report.drawing import CLOUD, DARK, GREY, arm_styles, cut, drawn_arms, loss_unit, other_arms, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


_LEGEND_COLUMNS = 6
_CHARACTER, _HANDLE = 0.068, 0.45
"""Inches of a letter of the legend, and of what stands before a name and after it."""


def task_plane_figure(results: Results, comparison: Comparison) -> Figure | None:
    """Draw the losses of two tasks against each other: the static grid as reference, dynamic arms with intervals.

    Two tasks give two panels, everything and a closer look; three give one panel per pair; of more, the first two.
    """
    if len(results.tasks) < 2:
        return None
    pairs = list(itertools.combinations(results.tasks, 2)) if len(results.tasks) <= 3 else [results.tasks[:2]]
    measured = comparison.front[comparison.front["is_static"]].dropna()
    closer = len(results.tasks) == 2 and len(measured) > 2
    panels = [(pair, False) for pair in pairs] + [(pair, True) for pair in pairs if closer]
    width = 0.6 + 3.6 * len(panels)
    lines = -(-len(_legend_entries(results)) // _legend_columns(results, width))
    figure, axes = subplots(1, len(panels), (width, 3.6 + 0.2 * lines))
    for axis, (pair, near) in zip(axes, panels, strict=True):
        _draw_plane(axis, results, comparison, (pair[0], pair[1]), near)
    _plane_legend(figure, results)
    return figure


_MANY_STATIC = 25
"""Points of the grid beyond which they are small, and neither joined by a line nor all named."""
_MANY_CROSSES = 6
"""Intervals beyond which they are faint."""


def _draw_plane(axis: Axes, results: Results, comparison: Comparison, pair: tuple[str, str], near: bool) -> None:
    table, columns = comparison.front, [f"{comparison.split}/nll/{task}" for task in pair]
    static = table[table["is_static"]].dropna(subset=columns)
    points = static[columns].to_numpy(dtype=float)
    few = len(static) <= _MANY_STATIC
    if len(results.tasks) == 2 and len(static) > 2 and few:
        axis.plot(points[:, 0], points[:, 1], color=GREY, linewidth=1, zorder=1)
    on_front = static["on_front"].to_numpy(dtype=bool)
    behind = points[~on_front]
    width, line = (22, 0.9) if few else (9, 0.5)
    axis.scatter(behind[:, 0], behind[:, 1], s=width, facecolor="white", edgecolor=DARK, linewidth=line, zorder=2)
    axis.scatter(points[on_front, 0], points[on_front, 1], s=width + 4, color=DARK, zorder=3)
    _draw_cloud(axis, results, columns)
    crosses = _draw_crosses(axis, results, columns)
    crosses = _within(axis, points, crosses)
    title = (
        f"a closer look; numbers are weights on {pair[0]}"
        if near
        else ("all arms" if len(results.tasks) == 2 else f"{pair[0]} and {pair[1]}")
    )
    xlabel, ylabel = (f"{task}: {comparison.split} loss ({loss_unit(results, [task])})" for task in pair)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if near:
        _zoom(axis, points, on_front, crosses)
    if near or len(static) <= 4:
        _name_static(axis, results, static, points)


def _draw_cloud(axis: Axes, results: Results, columns: list[str]) -> None:
    """Draw the means of the dynamic arms that have no name in the picture."""
    others = other_arms(results)
    means = [seed_values(results, column).loc[others].mean(axis=1).to_numpy() for column in columns]
    axis.scatter(means[0], means[1], s=9, color=CLOUD, linewidth=0, zorder=1.5)


_APART = 0.055
"""Names of static points are so far apart, in the height or width of the picture, or are left out."""


def _name_static(axis: Axes, results: Results, static: pd.DataFrame, points: NDArray[np.float64]) -> None:
    """Name the points of the grid as far as there is room, those on the front first; of a fine grid no others."""
    weights = dict(zip(results.arms["arm"], results.arms["static_weights"], strict=True))
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    places = (points - [left, low]) / [right - left, high - low]
    front = static["on_front"].to_numpy(dtype=bool)
    named: list[NDArray[np.float64]] = []
    wanted = np.isfinite(points).all(axis=1) & (front | (len(points) <= _MANY_STATIC))
    for index in sorted(np.flatnonzero(wanted), key=lambda place: (not front[place], place)):
        arm, point = static["arm"].iloc[index], points[index]
        if any((np.abs(places[index] - other) < _APART).all() for other in named):
            continue
        named.append(places[index])
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
            zorder=6,
        )


def _draw_crosses(axis: Axes, results: Results, columns: list[str]) -> NDArray[np.float64]:
    """Draw each dynamic arm with its intervals; return the corners, shape ``(2 * arms, 2)``."""
    styles, corners = arm_styles(results), []
    tables = [seed_values(results, column) for column in columns]
    for arm in drawn_arms(results):
        values = [[float(v) for v in table.loc[arm].to_numpy(dtype=float) if np.isfinite(v)] for table in tables]
        if not all(values):
            continue
        centre = np.array([np.mean(value) for value in values])
        half = np.array([interval.half_width if (interval := t_interval(value)) else 0.0 for value in values])
        colour, _, marker = styles[arm]
        x, y = float(centre[0]), float(centre[1])
        strength = 1.0 if len(drawn_arms(results)) <= _MANY_CROSSES else 0.45
        axis.errorbar(
            x, y, xerr=half[0], yerr=half[1], color=colour, alpha=strength, elinewidth=1.1, capsize=2, zorder=4
        )
        axis.plot(x, y, marker, color=colour, markersize=7, markeredgecolor="white", zorder=5)
        corners += [centre - half, centre + half]
    return np.array(corners).reshape(-1, 2)


_WIDEST = 1.0
"""Intervals may reach so far out of where the arms are, in spans of the arms, before they leave the picture."""


def _within(axis: Axes, points: NDArray[np.float64], crosses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep intervals of few seeds, which may be ten times as wide as all arms are apart, from squeezing the arms."""
    if not len(crosses):
        return crosses
    arms = np.concatenate([points, (crosses[0::2] + crosses[1::2]) / 2])
    low, high = arms.min(axis=0), arms.max(axis=0)
    span = np.maximum(high - low, 1e-3)
    if not np.isfinite(span).all():
        return crosses
    kept = np.clip(crosses, low - _WIDEST * span, high + _WIDEST * span)
    shown = np.concatenate([arms, kept])
    low, high = shown.min(axis=0) - 0.05 * span, shown.max(axis=0) + 0.05 * span
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    return kept


def _zoom(
    axis: Axes,
    points: NDArray[np.float64],
    on_front: NDArray[np.bool_],
    crosses: NDArray[np.float64],
) -> None:
    """Show the dynamic arms and the part of the front that is near them."""
    centres = (crosses[0::2] + crosses[1::2]) / 2
    shown = np.concatenate([centres, points[on_front]])
    if not len(shown):
        return
    # a front ends far out, where one task is hardly trained: three times the spread of the middle half is near enough
    centre = np.median(points, axis=0)
    spread = np.maximum(3 * np.subtract(*np.quantile(points, [0.75, 0.25], axis=0)), 1e-3)
    near = shown[(np.abs(shown - centre) <= spread).all(axis=1)]
    arms = np.concatenate([centres, near])
    span = np.maximum(np.ptp(arms, axis=0), 1e-3)
    kept = np.clip(crosses, arms.min(axis=0) - span / 2, arms.max(axis=0) + span / 2)
    shown = np.concatenate([arms, kept])
    low, high = shown.min(axis=0), shown.max(axis=0)
    margin = 0.1 * np.maximum(high - low, 1e-3)
    axis.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axis.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _legend_entries(results: Results) -> list[tuple[str, str, str, str, float]]:
    """Return name, colour of edge and face, marker and its size of everything in the picture."""
    styles, names, others = arm_styles(results), labels(results), len(other_arms(results))
    entries = [("static, on the front", DARK, DARK, "o", 6.0), ("static", DARK, "white", "o", 6.0)]
    entries += [(cut(names[arm]), styles[arm][0], styles[arm][0], styles[arm][2], 6.0) for arm in drawn_arms(results)]
    return entries + ([(f"{others} other arms", CLOUD, CLOUD, "o", 3.0)] if others else [])


def _legend_columns(results: Results, width: float) -> int:
    """Return how many names the legend has side by side in a figure of so many inches."""
    widths = [_HANDLE + _CHARACTER * len(entry[0]) for entry in _legend_entries(results)]
    if sum(widths) <= width and len(widths) <= _LEGEND_COLUMNS:
        return len(widths)
    return max(1, min(_LEGEND_COLUMNS, int(width / max(widths))))


def _plane_legend(figure: Figure, results: Results) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=edge, markerfacecolor=face, marker=marker, linestyle="none", markersize=size, label=name)
        for name, edge, face, marker, size in _legend_entries(results)
    ]
    columns = _legend_columns(results, float(figure.get_figwidth()))
    figure.legend(handles=handles, fontsize=8, loc="outside lower center", ncols=columns, handletextpad=0.2)
