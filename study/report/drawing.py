"""What the figures share: colours, markers, axes and labels.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart by colour-blind readers; every arm also has
a marker and a line style of its own, told apart in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from study.analysis.results import Results
from study.analysis.summary import dynamic_arms, seed_values, static_arms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (6, 2)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 1, 2, 1, 2)), (0, (4, 1)))
GREY, DARK = "#b8b8b8", "#404040"
CLOUD = "#7f9fc4"
"""Colour of the moving arms that have no name in a picture."""
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
    "text.parse_math": False,  # a name may hold dollar signs
}


def loss_unit(results: Results, tasks: Sequence[str]) -> str:
    """Return the unit of the losses of tasks: 1 - CCC for regression, nats for all others."""
    regression = {results.task_kinds[task] == "regression" for task in tasks}
    return " and ".join(unit for kind, unit in ((False, "nats"), (True, "1 - CCC")) if kind in regression)


MOST_DRAWN = 12
"""Arms that one picture has room for by name."""
MOST_PANELS = 40
"""Arms that a page has room for with a panel each."""
BEST, WORST = 8, 2
"""Of more arms, so many are drawn by name: the best and the worst on validation."""
_LONGEST_NAME = 28
"""Characters of a name that figures show."""


def drawn_arms(results: Results, room: int = MOST_DRAWN) -> list[str]:
    """Return the dynamic arms that figures show by name, in the order of the plan: of too many the best and the worst.

    The control is drawn beside them, the others as a cloud or a band.
    """
    arms = dynamic_arms(results)
    if len(arms) <= room:
        return arms
    order = seed_values(results, "valid/joint_nll").loc[arms].mean(axis=1).dropna().sort_values(kind="stable").index
    chosen = {*order[:BEST], *order[-WORST:]}
    return [arm for arm in arms if arm in chosen]


def other_arms(results: Results) -> list[str]:
    """Return the dynamic arms that figures with room for ``MOST_DRAWN`` do not show by name."""
    drawn = set(drawn_arms(results))
    return [arm for arm in dynamic_arms(results) if arm not in drawn]


def cut(name: str, most: int = _LONGEST_NAME) -> str:
    """Return a name that is not longer than there is room for.

    >>> cut("gradnorm"), cut("a" * 40)
    ('gradnorm', 'aaaaaaaaaaaaaaaaaaaaaaaaaaa…')
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"


def arm_styles(results: Results) -> dict[str, tuple[str, Any, str]]:
    """Return the colour, line style and marker of the arms that figures highlight: control and dynamic ones."""
    styles: dict[str, tuple[str, Any, str]] = {
        arm: (COLOURS[i % 6], LINES[(i + i // 6) % len(LINES)], MARKERS[i % len(MARKERS)])
        for i, arm in enumerate(drawn_arms(results))
    }
    if results.control in static_arms(results):
        styles[results.control] = ("#000000", "-", "o")
    return styles


def subplots(
    rows: int, columns: int, size: tuple[float, float], sharey: bool | Literal["row"] = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, row by row; size in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    return figure, [axis for row in axes for axis in row]


def direct_labels(axis: Axes, ends: list[tuple[tuple[float, float], str, str]]) -> None:
    """Write each curve's name at its right end, moved apart where ends are closer than a line of text."""
    low, high = axis.get_ylim()
    gap = 0.065 * (high - low)
    ends = sorted((end for end in ends if np.isfinite(end[0][1])), key=lambda end: end[0][1])
    heights, floor = [], -np.inf
    for (_, y), _, _ in ends:
        heights.append(max(y, floor))
        floor = heights[-1] + gap
    room = max(
        high - gap / 2, low + gap * (len(ends) - 1)
    )  # names at the top are moved down before they leave the picture
    for place, ((x, _), text, colour) in enumerate(ends):
        height = min(heights[place], room - gap * (len(ends) - 1 - place))
        axis.annotate(
            cut(text),
            (x, height),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=8,
            annotation_clip=False,
        )


def marker_of(epochs: NDArray[np.float64]) -> dict[str, Any]:
    """Return how points of a curve are drawn: not at all, unless there is only one."""
    return {"marker": "o", "markersize": 3} if len(epochs) == 1 else {}


def whole_epochs(axis: Axes) -> None:
    """Put ticks at whole epochs only."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
