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
from study.report.drawing import DARK, GREY, arm_styles, drawn_arms, loss_unit, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


_LEGEND_COLUMNS = 6


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
    lines = -(-(len(drawn_arms(results)) + 2) // _LEGEND_COLUMNS)
    figure, axes = subplots(1, len(panels), (0.6 + 3.6 * len(panels), 3.6 + 0.2 * lines))
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
    for arm in drawn_arms(results):
        values = [[float(v) for v in table.loc[arm].to_numpy(dtype=float) if np.isfinite(v)] for table in tables]
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


def _plane_legend(figure: Figure, results: Results) -> None:
    from matplotlib.lines import Line2D

    styles, names = arm_styles(results), labels(results)
    entries = [("static, on the front", DARK, DARK, "o"), ("static", DARK, "white", "o")]
    entries += [(names[arm], styles[arm][0], styles[arm][0], styles[arm][2]) for arm in drawn_arms(results)]
    handles = [
        Line2D([], [], color=edge, markerfacecolor=face, marker=marker, linestyle="none", markersize=6, label=name)
        for name, edge, face, marker in entries
    ]
    columns = min(len(handles), _LEGEND_COLUMNS)
    figure.legend(handles=handles, fontsize=8, loc="outside lower center", ncols=columns, handletextpad=0.2)
