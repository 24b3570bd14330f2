"""The critical-difference diagram: mean ranks over corpora on a line, and bars over what cannot be told apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from strategies.text import printable
from study.analysis.ranks import CriticalDifference
from study.analysis.statistics import ALPHA, seeds_needed, smallest_p
from study.report.drawing import COLOURS, DARK
from study.report.files import write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 7.0
"""Inches, the text width of most two-column papers."""
_LINE = 0.24
"""Inches from one name to the next."""
_BAR = 0.12
"""Inches from one bar to the next."""
_SIDE = 0.95
"""Room for names on either side of the line, in its lengths."""
_LONGEST_NAME = 20
"""Characters of a name that there is room for beside the line."""


def write_rank_figure(path: Path, diagram: CriticalDifference, metric: str, control: str) -> None:
    """Draw the diagram in the format of the file's ending.

    Raises:
        StudyError: the file cannot be written.
    """
    write_figure(path, lambda: rank_figure(diagram, metric, control))


def rank_figure(diagram: CriticalDifference, metric: str, control: str) -> Figure:
    """Draw mean ranks, best on the left, and a bar over each group of which no pair differs.

    Args:
        diagram: what is drawn.
        metric: what was ranked by, for the line below.
        control: name of the control, which is told apart by its colour and weight.

    Reference:
        Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006, figure 1.
        https://jmlr.org/papers/v7/demsar06a.html
    """
    from matplotlib.figure import Figure

    count = len(diagram.ranks)
    names = -(-count // 2)
    below = 0.25 + _BAR * len(diagram.groups) + _LINE * names + 0.5
    figure = Figure(figsize=(_WIDTH, 0.55 + below))
    axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axis.set(xlim=(1 - _SIDE * (count - 1), count + _SIDE * (count - 1)), ylim=(-below, 0.55))  # inches downwards
    axis.axis("off")
    _draw_line(axis, count)
    for level, group in enumerate(diagram.groups):
        _draw_group(axis, diagram, group, -0.12 - _BAR * level)
    first = -0.25 - _BAR * len(diagram.groups)
    for place, (name, rank) in enumerate(diagram.ranks.items()):
        left = place < names
        line = place if left else count - 1 - place
        _draw_method(axis, str(name), float(rank), first - _LINE * (line + 0.5), left=left, strong=name == control)
    axis.annotate(
        _caption(diagram, metric), (0.5, 0.012), xycoords="axes fraction", ha="center", va="bottom", fontsize=8
    )
    return figure


def _draw_line(axis: Axes, count: int) -> None:
    """Draw the ranks from the best on the left to the worst."""
    axis.plot([1, count], [0, 0], color=DARK, linewidth=1.2, solid_capstyle="butt")
    step = max(1, round(count / 12))
    for rank in sorted({*range(1, count, step), count} - ({count - 1} if step > 1 else set())):
        axis.plot([rank, rank], [0, 0.07], color=DARK, linewidth=1.0)
        axis.annotate(f"{rank}", (rank, 0.1), ha="center", va="bottom", fontsize=8)
    axis.annotate("mean rank", ((1 + count) / 2, 0.28), ha="center", va="bottom", fontsize=9)


def _draw_group(axis: Axes, diagram: CriticalDifference, group: tuple[str, ...], height: float) -> None:
    ends = [float(diagram.ranks[name]) for name in group]
    reach = 0.006 * (len(diagram.ranks) - 1)
    axis.plot([min(ends) - reach, max(ends) + reach], [height] * 2, color="black", linewidth=3.2, solid_capstyle="butt")


def _draw_method(axis: Axes, name: str, rank: float, height: float, *, left: bool, strong: bool) -> None:
    """Draw a method's name with its rank beside the line, and what leads to its place on the line."""
    low, high = axis.get_xlim()
    room = (_SIDE - 0.05) * (high - low) / (1 + 2 * _SIDE)
    end = low + room if left else high - room
    colour = COLOURS[0] if strong else "black"
    axis.plot([rank, rank, end], [0, height, height], color=colour if strong else DARK, linewidth=0.9)
    cut = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
    text = f"{printable(cut)}  {rank:.2f}" if left else f"{rank:.2f}  {printable(cut)}"
    axis.annotate(
        text,
        (end, height),
        xytext=(-4 if left else 4, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        fontsize=8.5,
        color=colour,
        fontweight="bold" if strong else "normal",
    )


def _caption(diagram: CriticalDifference, metric: str) -> str:
    """Say what is ranked, what the bars mean, and where there are too few corpora for any other picture."""
    count = len(diagram.ranks)
    pairs = count * (count - 1) // 2
    bars = "bars join what pairwise exact Wilcoxon tests (Holm, .05) do not tell apart"
    few = f"; it would take {seeds_needed(pairs)} {diagram.blocks} to tell every pair apart"
    told = bars if diagram.groups else "every pair differs"
    over = f"{metric} over {diagram.num_blocks} {diagram.blocks}, 1 is best"
    return f"{over}{few if smallest_p(diagram.num_blocks) * pairs > ALPHA else ''}\n{told}"
