"""The figures of a report; drawn without pyplot, so that nothing depends on a display or on a user's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.analysis.summary import labels, mean_trajectory, trajectories
from study.report.drawing import (
    CLOUD,
    COLOURS,
    DARK,
    GREY,
    MOST_PANELS,
    arm_styles,
    cut,
    direct_labels,
    drawn_arms,
    loss_unit,
    marker_of,
    other_arms,
    subplots,
    whole_epochs,
)
from study.report.forest import differences_figure
from study.report.panels import arms_figure, draw_clock, draw_weights
from study.report.plane import task_plane_figure
from study.report.tuning import tuning_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    shown = drawn_arms(results, MOST_PANELS)
    arms = [arm for arm in shown if not trajectories(results, f"weight/{first}", arm).empty]
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
            axis.set(title=cut(labels(results)[arm], 24) if row == 0 else "", ylabel="" if column else unit)
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


MOST_GREY = 60
"""Curves in the background; of more, their middle and where nine out of ten are."""


def _draw_losses(axis: Axes, results: Results, means: Curves, label: bool, shared: Limits) -> None:
    styles, names, ends = arm_styles(results), labels(results), []
    highlighted = [arm for arm in means if arm in styles]
    background = _background(axis, results, {arm: mean for arm, mean in means.items() if arm not in styles})
    for arm in highlighted:
        colour, line, _ = styles[arm]
        axis.plot(*means[arm], color=colour, linestyle=line, zorder=3, **marker_of(means[arm][0]))
        ends.append(((float(means[arm][0][-1]), float(means[arm][1][-1])), names[arm], colour))
    if highlighted:
        # a task that is never trained would squeeze all other curves: its arms may leave the picture
        values = np.concatenate([means[arm][1] for arm in highlighted])
        margin = 0.08 * float(np.ptp(values)) or 0.01  # one epoch, and arms that are equal in it, span nothing
        low, high = float(values.min()) - margin, float(values.max()) + margin
        lower, upper = shared if shared else (low, high)
        axis.set_ylim(min(low, lower), max(high, upper))
    if label:
        low, high = axis.get_ylim()
        direct_labels(axis, ends + [end for end in background if low < end[0][1] < high])


def _background(axis: Axes, results: Results, means: Curves) -> list[Any]:
    """Draw the arms that have no name in the picture, and return what to write at their ends."""
    moving = set(other_arms(results))
    groups = (
        ("static grid", {"facecolor": GREY, "alpha": 0.45}, [arm for arm in means if arm not in moving]),
        ("other arms", {"facecolor": "none", "edgecolor": CLOUD, "hatch": "////"}, [a for a in means if a in moving]),
    )
    found = []
    for name, style, arms in groups:
        colour = "#808080" if name == "static grid" else CLOUD
        if len(means) <= MOST_GREY:
            for arm in arms:
                axis.plot(
                    *means[arm],
                    color=GREY if colour != CLOUD else CLOUD,
                    linewidth=0.9,
                    zorder=1,
                    **marker_of(means[arm][0]),
                )
            found += [_highest_end({arm: means[arm] for arm in arms}, name, colour)] if arms else []
        elif arms:
            found.append(_draw_band(axis, [means[arm] for arm in arms], f"{name} ({len(arms)})", style, colour))
    return found


def _highest_end(means: Curves, name: str, colour: str) -> Any:  # noqa: ANN401  (an end, as ``direct_labels`` takes it)
    epochs, values = max(means.values(), key=lambda mean: float(mean[1][-1]))
    return (float(epochs[-1]), float(values[-1])), name, colour


def _draw_band(axis: Axes, means: list[tuple[Any, Any]], name: str, style: dict[str, Any], colour: str) -> Any:  # noqa: ANN401
    """Draw the middle of many curves and where nine out of ten of them are."""
    table = pd.DataFrame([pd.Series(values, index=epochs) for epochs, values in means])
    low, middle, high = (table.quantile(share).sort_index() for share in (0.05, 0.5, 0.95))
    epochs = middle.index.to_numpy(dtype=float)
    axis.fill_between(epochs, low.to_numpy(), high.to_numpy(), linewidth=0, zorder=1, **style)
    axis.plot(epochs, middle.to_numpy(), color=colour, linewidth=1.1, zorder=2)
    return (float(epochs[-1]), float(middle.iloc[-1])), name, colour
