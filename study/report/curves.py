"""The sections that show what happens over epochs: weights and losses, and which arms their figures have room for."""

from collections.abc import Sequence

from study.analysis.comparison import Comparison
from study.report.blocks import Paragraph, Section, figure, section, table
from study.report.drawing import BEST, MOST_DRAWN, MOST_PANELS, WORST
from study.report.figures import MOST_GREY
from study.report.text import with_interval


def weights(comparison: Comparison, drawn: Sequence[str]) -> Section:
    """Show the weights over training and at its end."""
    rows = [
        [row["label"], *(with_interval(row[f"weight/{t}"], row[f"weight/{t}/half_width"]) for t in comparison.tasks)]
        for row in comparison.table.to_dict("records")
        if not row["is_static"]
    ]
    if not rows:
        return section("Weights")
    picture = figure(
        drawn,
        "weights",
        "Weights (above) and effective weights, weight times length of the task's gradient (below, where measured), of "
        "every arm over epochs: mean and every seed. The dotted line is the uniform weight, the dashed grey ones the "
        "clock, which depends on nothing but the number of steps."
        + chosen_few(comparison, MOST_PANELS, "the others are left out", "weights"),
    )
    text = "Weights at the end of training, scaled to sum 1: mean over seeds ± half the width of its "
    caption = "Weights at the end of training."
    shown = table(["arm", *comparison.tasks], rows, "weights", caption)
    return section("Weights", picture, Paragraph(f"{text}95 % interval."), shown)


def chosen_few(comparison: Comparison, room: int, others: str, stem: str) -> str:
    """Say which arms with moving weights a figure shows by name, and where the others are; nothing if it shows all."""
    compared = comparison.table[comparison.table["role"] == ""]
    moving = int((~compared["is_static"].astype(bool)).sum())
    if moving <= room:
        return ""
    return (
        f" Of {moving} arms with moving weights the {BEST} best and the {WORST} worst on validation are drawn by name; "
        f"{others}, and all are in tables/{stem}.csv."
    )


_BANDS = (
    " Where there are more curves than can be told apart, a band holds nine out of ten of those without a name, about "
    "their median."
)


def training(comparison: Comparison, drawn: Sequence[str]) -> Section:
    """Show the joint loss over epochs, and arm by arm beside its weights."""
    few = chosen_few(comparison, MOST_DRAWN, "the others are faint", "comparison")
    return section(
        "Training",
        figure(
            drawn,
            "joint_loss",
            "Joint loss at the fixed reference weights, mean over seeds."
            + few
            + _BANDS * (len(comparison.table) > MOST_GREY),
        ),
        figure(
            drawn,
            "arms",
            "Each arm over epochs, mean over seeds: above, the joint loss of training and validation at the fixed "
            "weights, and faint at the arm's own; below, its weights, with the clock where its strategy may be one.",
        ),
    )
