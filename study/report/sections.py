"""The sections that a report is made of for any study: what was compared, what it shows, and what each number is."""

import math
from collections.abc import Sequence

import pandas as pd

from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.report.blocks import Block, Paragraph, Section, bullets, figure, listed, section, table
from study.report.curves import chosen_few
from study.report.drawing import MOST_DRAWN
from study.report.forest import shown_differences
from study.report.text import (
    MARKS_TEXT,
    difference_cell,
    metric_name,
    number,
    percent,
    plural,
    range_cell,
    seeds_cell,
    static_lines,
    times,
    tuned_lines,
    verdict_lines,
    with_interval,
)
from trainables import multilabel

SPLIT_NAMES = {"test": "test", "valid": "validation", "train": "training"}


def compared(results: Results, comparison: Comparison) -> list[Block]:
    """Say what was compared, in one paragraph."""
    arms = results.arms
    static = int(arms["is_static"].sum())
    parts = [plural(static, "static arm")] if static else []
    parts += [str(label) for label in arms.loc[~arms["is_static"].astype(bool), "label"]]
    weights = ", ".join(f"{task} {weight:.3g}" for task, weight in results.reference_weights.items())
    control, split = comparison.labels[comparison.control], SPLIT_NAMES[comparison.split]
    text = (
        f"{plural(len(arms), 'arm')} ({listed(parts)}) were trained with {plural(comparison.num_seeds, 'seed')} each, "
        f"the same seeds for every arm{_over_folds(results)}: {comparison.num_finished} of "
        f"{plural(comparison.num_trials, 'trial')} finished. Tasks: {listed(results.tasks)}. "
        f"Control: {control}. Arms are ranked by the joint NLL on the {split} split at fixed reference weights "
        f"({weights}), of the checkpoint chosen by the same criterion on validation; never by the loss that a "
        "strategy weighted for itself."
    )
    facts = results.facts
    warnings = [f"{facts['warning']}."] if "warning" in facts else []
    if "earlier versions" in facts:
        warnings.append(
            f"Not all rows were made with the same versions; some with {facts['earlier versions']}: study verify tells "
            "whether that changes a number."
        )
    return [Paragraph(text), *(Paragraph(warning, is_warning=True) for warning in warnings)]


def _over_folds(results: Results) -> str:
    if results.num_folds == 1:
        return ""
    return f", on each of {results.num_folds} folds, whose test predictions are pooled and scored once for each seed"


def verdicts(comparison: Comparison) -> Section:
    """Say what the study shows."""
    return section(
        "What it shows", bullets([*verdict_lines(comparison), *tuned_lines(comparison), *static_lines(comparison)])
    )


_ARM_METRICS = ("uar", "accuracy", "baseline_accuracy", *multilabel.SEARCHED)
"""Metrics of a task that the table of arms shows beside its loss and the one that people read."""


def arms(comparison: Comparison) -> Section:
    """Show every arm, best first."""
    metrics = [
        (task, metric)
        for task in comparison.tasks
        for metric in dict.fromkeys(("nll", comparison.headline[task], *_ARM_METRICS))
        if f"{metric}/{task}" in comparison.table.columns
    ]
    control = comparison.labels[comparison.control]
    heads = ["arm", "rank", "seeds", "joint NLL", f"vs {control}"]
    heads += [*(f"{task} {metric_name(metric)}" for task, metric in metrics), "weighted NLL"]
    entries = comparison.table.to_dict("records")
    rows = [
        [
            row["label"],
            number(row["rank"], 0),
            seeds_cell(row),
            with_interval(row["joint_nll"], row["joint_nll/half_width"]),
            "control" if row["arm"] == comparison.control else difference_cell(row),
            *(with_interval(row[f"{m}/{t}"], row[f"{m}/{t}/half_width"]) for t, m in metrics),
            number(row.get("weighted_nll", math.nan)),
        ]
        for row in entries
    ]
    text = (
        f"Mean over seeds ± half the width of its 95 % interval, {SPLIT_NAMES[comparison.split]} "
        f"split; {MARKS_TEXT} The weighted NLL is the loss at the arm's own weights: it falls when weight moves to the "
        "easier task and ranks nothing."
    )
    controls = [index for index, row in enumerate(entries) if row["arm"] == comparison.control]
    caption = f"All arms on the {SPLIT_NAMES[comparison.split]} split, best joint NLL first."
    return section("Arms", Paragraph(text), table(heads, rows, "comparison", caption, strong=controls))


def differences(comparison: Comparison, drawn: Sequence[str]) -> Section:
    """Show the paired differences to the control."""
    entries = comparison.differences.sort_values("mean", kind="stable").to_dict("records")
    control = comparison.labels[comparison.control]
    by_arm = comparison.table.set_index("arm").to_dict("index")
    rows = [
        [
            comparison.labels[row["arm"]],
            f"{row['num_seeds']}",
            difference_cell(by_arm[row["arm"]]),
            range_cell(row["low"], row["high"]),
            *(number(row[name], 4) for name in ("p", "holm_p", "t_holm_p")),
            number(row["hedges_g"], 2),
            percent(row["improved"]),
            by_arm[row["arm"]]["verdict"] or "not tested",
        ]
        for row in entries
    ]
    title = f"Differences to {control}"
    if not rows:
        return section(title)
    heads = ["arm", "common seeds", "difference", "95 % interval", "Wilcoxon p", "Wilcoxon p, Holm", "t-test p, Holm"]
    heads += ["Hedges g", "seeds improved", "verdict"]
    tested = listed([comparison.labels[arm] for arm in comparison.tested]) or "none"
    text = (
        f"Joint NLL of each arm minus that of {control}, seed by seed; negative is better. Tested, with Holm's "
        f"correction over {plural(len(comparison.tested), 'test')}: {tested}. The other points of the static grid "
        "belong to the same one method and are shown without a test."
    )
    left = len(comparison.differences.dropna(subset=["mean"])) - len(shown_differences(comparison))
    rest = f" The best and the worst are drawn; {left} others, between them, are in tables/differences.csv." * (
        left > 0
    )
    picture = figure(
        drawn, "differences", f"Paired differences to {control}; ticks below a bar are single seeds.{rest}"
    )
    caption = f"Joint NLL minus that of {control}."
    return section(title, picture, Paragraph(text), table(heads, rows, "differences", caption))


def static_grid(comparison: Comparison, drawn: Sequence[str]) -> Section:
    """Show the front of the static grid and where dynamic arms lie."""
    front = comparison.front[comparison.front["on_front"]]
    if comparison.static is None or front.empty:
        return section("The static grid as reference")
    told = [finding.text for finding in comparison.findings if finding.kind == "front"]
    text = (
        f"The Pareto front of the static arms on the {SPLIT_NAMES[comparison.split]} losses of the tasks: "
        f"{listed([str(label) for label in front['label']])}. It is drawn through means over seeds, and the best of "
        "many noisy points looks better than it is."
    )
    picture = figure(
        drawn,
        "task_plane",
        "Losses of the tasks, means and 95 % intervals; the intervals hold what a seed does to all arms alike."
        + chosen_few(comparison, MOST_DRAWN, "the others are small dots", "front"),
    )
    return section("The static grid as reference", picture, Paragraph(text), bullets(told))


MOST_RESCORED = 8
"""Arms that a table of every arm at every arm's weights has room for; more are in the CSV file alone."""


def rescored(comparison: Comparison) -> Section:
    """Show every arm at the weights of the others, and what of a gain is re-weighting."""
    found = comparison.rescored
    if found is None:
        return section("Re-scored")
    shown = found.table[found.table["arm"].isin([comparison.control, *(gain.arm for gain in found.gains)])]
    everywhere = found.table if len(found.table) <= MOST_RESCORED else shown
    text = (
        "Chosen networks on the validation split, where published tables of weighted losses come from: the weights at "
        "the end of training, the losses, and their sum at the arm's own weights, as published, and at the fixed "
        "reference weights."
    )
    told = [finding.text for finding in comparison.findings if finding.kind == "rescored"]
    blocks: list[Block] = [Paragraph(text), *_own_table(comparison, everywhere), *bullets(told)]
    if 2 < len(everywhere) <= MOST_RESCORED:
        matrix = "The NLL of every network at the weights of every arm; along a row the network stays the same."
        heads = ["network of", *(f"at {label}" for label in everywhere["label"])]
        rows = [
            [row["label"], *(number(row[f"at/{arm}"]) for arm in everywhere["arm"])]
            for row in everywhere.to_dict("records")
        ]
        blocks += [
            Paragraph(matrix),
            *table(heads, rows, "rescored_matrix", "Every network at the weights of every arm."),
        ]
    return section("Re-scored", blocks)


def _own_table(comparison: Comparison, entries: pd.DataFrame) -> list[Block]:
    metrics = [(task, metric) for task in comparison.tasks for metric in ("nll", comparison.headline[task])]
    heads = ["arm", "/".join(comparison.tasks), *(f"{task} {metric_name(metric)}" for task, metric in metrics)]
    heads += ["at own weights", "at fixed weights"]
    rows = [
        [
            row["label"],
            "/".join(number(row[f"weight/{task}"]) for task in comparison.tasks),
            *(number(row[f"{metric}/{task}"]) for task, metric in metrics),
            *(number(row[name]) for name in ("own", "fixed")),
        ]
        for row in entries.to_dict("records")
    ]
    return table(heads, rows, "rescored", "Validation losses at each arm's own and at the fixed weights.")


def gradients(comparison: Comparison) -> Section:
    """Show how the tasks' gradients stand to each other, and whose gradient makes up the step."""
    if comparison.gradients.empty:
        return section("Gradients")
    order = {arm: position for position, arm in enumerate(comparison.table["arm"])}
    measured = comparison.gradients.dropna(subset=["longest"]).sort_values("arm", key=lambda arms: arms.map(order))
    rows = [
        [
            row["label"],
            f"{row['longest']} {times(row['norm_ratio'])}",
            number(row["cosine"]),
            percent(row["conflict"]),
            *(percent(row[f"share/{task}"]) for task in comparison.tasks),
        ]
        for row in measured.to_dict("records")
    ]
    heads = ["arm", "longest gradient", "cosine", "conflicts", *(f"share of {task}" for task in comparison.tasks)]
    text = (
        "Gradients of the tasks at the last shared layer, means over epochs and seeds: the task with the longest "
        "gradient and its ratio to the shortest, the mean cosine between two tasks, the share of pairs that point "
        "apart (negative cosine), and each task's share of the step, weight times length."
    )
    caption = "Gradients of the tasks at the last shared layer."
    return section("Gradients", Paragraph(text), table(heads, rows, "gradients", caption, words=2))


_ELSEWHERE = ("front", "rescored", "control")
"""Kinds of findings that are told in sections of their own."""


def diagnosis(comparison: Comparison) -> Section:
    """List the findings about data and arms."""
    told = [finding.text for finding in comparison.findings if finding.kind not in _ELSEWHERE]
    nothing = "Nothing to report: no collapse, clock, twins or saturated task found."
    return section("Diagnosis", bullets(told) or Paragraph(nothing))


def cost(comparison: Comparison) -> Section:
    """Show what each arm costs."""
    rows = [
        [
            row["label"],
            number(row["step_ms"], 1),
            times(row["step_ratio"]),
            number(row["trial_s"], 1),
            number(row["memory_mb"], 0),
            times(row["memory_ratio"]),
        ]
        for row in comparison.cost.to_dict("records")
    ]
    heads = ["arm", "step (ms)", "of control", "trial (s)", "peak memory (MiB)", "memory of control"]
    text = "Step times are medians over epochs, averaged over seeds; trials that share a machine disturb each other."
    return section("Cost", Paragraph(text), table(heads, rows, "cost", "What each arm costs."))


def failed(comparison: Comparison) -> Section:
    """List the trials without a result."""
    if comparison.failures.empty:
        return section("Failures", Paragraph(f"None: all {plural(comparison.num_trials, 'trial')} finished."))
    rows = [
        [row["trial"], row["status"], row["error"] if isinstance(row["error"], str) else "-"]
        for row in comparison.failures.to_dict("records")
    ]
    shown = table(["trial", "status", "error"], rows, "failures", "Trials without a result.", words=3)
    return section("Failures", shown)
