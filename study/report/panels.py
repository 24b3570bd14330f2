"""One panel for each arm: its losses over epochs above, its weights below (Fig. 2 of Chae et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from study.analysis.comparison import Comparison
from study.analysis.diagnosis import clock_path
from study.analysis.results import Results
from study.analysis.summary import arm_ids, dynamic_arms, labels, mean_trajectory, trajectories
from study.report.drawing import COLOURS, LINES, cut, direct_labels, loss_unit, marker_of, subplots, whole_epochs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 6
"""Arms side by side that can still be read on a page."""
_CLOCK = "#808080"
_SPLITS = {"train": "training", "valid": "validation"}


def arms_figure(results: Results, comparison: Comparison) -> Figure | None:
    """Draw the losses and weights of the control and every dynamic arm over epochs; None if these are too many."""
    moving = set(dynamic_arms(results))
    arms = [arm for arm in arm_ids(results) if arm in moving or arm == comparison.control]
    arms = [arm for arm in arms if not trajectories(results, "valid/joint_nll", arm).empty]
    if not moving or not 2 <= len(arms) <= MOST_PANELS:
        return None
    figure, axes = subplots(2, len(arms), (1.0 + 2.3 * len(arms), 4.6), sharey="row")
    above, below = axes[: len(arms)], axes[len(arms) :]
    for arm, losses, weights in zip(arms, above, below, strict=True):
        _draw_losses(losses, results, arm)
        losses.set_title(cut(labels(results)[arm], 24))
        _draw_all_weights(weights, results, arm)
        weights.set_xlabel("epoch")
        whole_epochs(losses)
        whole_epochs(weights)
    above[0].set_ylabel(f"joint loss ({loss_unit(results, results.tasks)})")
    below[0].set_ylabel("weight (scaled to sum 1)")
    figure.legend(*above[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
    return figure


def _draw_losses(axis: Axes, results: Results, arm: str) -> None:
    for index, (split, name) in enumerate(_SPLITS.items()):
        for column, strength in (("joint_nll", 1.0), ("weighted_nll", 0.35)):
            table = trajectories(results, f"{split}/{column}", arm)
            if not table.empty:
                epochs, mean = mean_trajectory(table)
                label = name + (", own weights" if column == "weighted_nll" else "")
                style = {"color": COLOURS[index], "linestyle": LINES[index], "alpha": strength, **marker_of(epochs)}
                axis.plot(epochs, mean, label=label, **style)


def _draw_all_weights(axis: Axes, results: Results, arm: str) -> None:
    draw_clock(axis, results, arm)
    tables = [trajectories(results, f"weight/{task}", arm) for task in results.tasks]
    ends = [draw_weights(axis, table, index) for index, table in enumerate(tables)]
    axis.set_ylim(-0.03, 1.03)  # before the labels, which are moved apart by it
    told = zip(ends, results.tasks, strict=True)
    direct_labels(axis, [(end, task, COLOURS[index % 7]) for index, (end, task) in enumerate(told)])


def draw_weights(axis: Axes, table: pd.DataFrame, index: int) -> tuple[float, float]:
    """Draw a weight over epochs, the mean over seeds and each seed faint; return where the mean ends."""
    colour, line = COLOURS[index % len(COLOURS)], LINES[index % len(LINES)]
    axis.plot(table.index, table.to_numpy(), color=colour, alpha=0.3, linewidth=0.8)
    epochs, mean = mean_trajectory(table)
    axis.plot(epochs, mean, color=colour, linestyle=line, **marker_of(epochs))
    return float(epochs[-1]), float(mean[-1])


def draw_clock(axis: Axes, results: Results, arm: str) -> None:
    """Draw the weights that the number of steps alone would give an arm whose strategy may be a clock."""
    path = clock_path(results, arm)
    if path is not None:
        epochs, weight = path
        axis.plot(epochs, np.stack([weight, 1 - weight], axis=1), color=_CLOCK, linestyle=(0, (4, 3)), linewidth=1.0)
