"""The sections of a report, each a function from a comparison to Markdown; an empty string leaves the section out."""

import math
from collections.abc import Iterable, Sequence

from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.analysis.statistics import seeds_needed, smallest_p
from study.report.text import (
    difference_cell,
    number,
    plural,
    seeds_cell,
    static_lines,
    verdict_lines,
    with_interval,
)

SPLIT_NAMES = {"test": "test", "valid": "validation", "train": "training"}


def compared(results: Results, comparison: Comparison) -> str:
    """Say what was compared, in one paragraph."""
    arms = results.arms
    static = int(arms["is_static"].sum())
    parts = [plural(static, "static arm")] if static else []
    parts += [str(label) for label in arms.loc[~arms["is_static"].astype(bool), "label"]]
    weights = ", ".join(f"{task} {weight:.3g}" for task, weight in results.reference_weights.items())
    facts = "".join(
        f" {name.capitalize()}: {results.facts[name]}." for name in ("corpus", "split") if name in results.facts
    )
    control, split = comparison.labels[comparison.control], SPLIT_NAMES[comparison.split]
    return (
        f"{plural(len(arms), 'arm')} ({_listed(parts)}) were trained with {plural(comparison.num_seeds, 'seed')} each, "
        f"the same seeds for every arm: {comparison.num_finished} of {plural(comparison.num_trials, 'trial')} "
        f"finished. Tasks: {_listed(results.tasks)}.{facts} Control: {control}. Arms are ranked by the joint "
        f"NLL on the {split} split at fixed reference weights ({weights}), of the checkpoint chosen by the same "
        "criterion on validation; never by the loss that a strategy weighted for itself."
        + (f"\n\n**{results.facts['warning']}.**" if "warning" in results.facts else "")
    )


def verdicts(comparison: Comparison) -> str:
    """Say what the study shows."""
    return "## What it shows\n\n" + _bullets([*verdict_lines(comparison), *static_lines(comparison)])


def arms(comparison: Comparison) -> str:
    """Show every arm, best first."""
    metrics = [
        (task, metric)
        for task in comparison.tasks
        for metric in ("nll", comparison.headline[task], "accuracy")
        if f"{metric}/{task}" in comparison.table.columns
    ]
    heads = [
        "",
        "arm",
        "seeds",
        *(f"{task} {_metric_name(metric)}" for task, metric in metrics),
        "joint NLL",
        "weighted NLL",
    ]
    rows = [
        [
            number(row["rank"], 0),
            row["label"],
            seeds_cell(row),
            *(with_interval(row[f"{m}/{t}"], row[f"{m}/{t}/half_width"]) for t, m in metrics),
            with_interval(row["joint_nll"], row["joint_nll/half_width"]),
            number(row["weighted_nll"]) if "weighted_nll" in row else number(math.nan),
        ]
        for row in comparison.table.to_dict("records")
    ]
    return (
        f"## Arms\n\nMean over seeds ± half the width of its 95 % t-interval, {SPLIT_NAMES[comparison.split]} split. "
        "The weighted NLL is the loss at the arm's own weights: it falls when weight moves to the easier task and "
        f"ranks nothing.\n\n{_table(heads, rows)}"
    )


def differences(comparison: Comparison, drawn: Sequence[str]) -> str:
    """Show the paired differences to the control."""
    table = comparison.differences.sort_values("mean", kind="stable")
    control = comparison.labels[comparison.control]
    by_arm = comparison.table.set_index("arm")
    rows = [
        [
            comparison.labels[row["arm"]],
            f"{row['num_seeds']}",
            difference_cell(by_arm.loc[row["arm"]].to_dict()),
            _range(row["low"], row["high"]),
            *(number(row[name], 4) for name in ("p", "holm_p", "t_holm_p")),
            by_arm.at[row["arm"], "verdict"] or "not tested",
        ]
        for row in table.to_dict("records")
    ]
    if not rows:
        return ""
    heads = [
        "arm",
        "common seeds",
        "difference",
        "95 % interval",
        "Wilcoxon p",
        "Wilcoxon p, Holm",
        "t-test p, Holm",
        "verdict",
    ]
    tested = _listed([comparison.labels[arm] for arm in comparison.tested]) or "none"
    text = (
        f"Joint NLL of each arm minus that of {control}, seed by seed; negative is better. Tested, with Holm's "
        f"correction over {plural(len(comparison.tested), 'test')}: {tested}. The other points of the static grid "
        "belong to the same one method and are shown without a test."
    )
    picture = _figure(drawn, "differences", f"Paired differences to {control}; ticks below a bar are single seeds")
    return f"## Differences to {control}\n\n{text}\n\n{_table(heads, rows)}{picture}"


def static_grid(comparison: Comparison, drawn: Sequence[str]) -> str:
    """Show the front of the static grid and where dynamic arms lie."""
    front = comparison.front[comparison.front["on_front"]]
    if comparison.static is None or front.empty:
        return ""
    told = [finding.text for finding in comparison.findings if finding.kind == "front"]
    text = (
        f"The Pareto front of the static arms on the {SPLIT_NAMES[comparison.split]} losses of the tasks: "
        f"{_listed([str(label) for label in front['label']])}. It is drawn through means over seeds, and the best of "
        "many noisy points looks better than it is."
    )
    picture = _figure(
        drawn,
        "task_plane",
        "Losses of the tasks, means and 95 % intervals; the intervals hold what a seed does to all arms alike",
    )
    return f"## The static grid as reference\n\n{text}\n\n{_bullets(told)}{picture}"


def weights(comparison: Comparison, drawn: Sequence[str]) -> str:
    """Show the weights at the end of training."""
    rows = [
        [row["label"], *(with_interval(row[f"weight/{t}"], row[f"weight/{t}/half_width"]) for t in comparison.tasks)]
        for row in comparison.table.to_dict("records")
        if not row["is_static"]
    ]
    if not rows:
        return ""
    picture = _figure(
        drawn, "weights", "Weights over epochs: mean and every seed; the dotted line is the uniform weight"
    )
    text = "Weights at the end of training, scaled to sum 1: mean over seeds ± half the width of its 95 % t-interval."
    return f"## Weights\n\n{text}\n\n{_table(['arm', *comparison.tasks], rows)}{picture}"


def gradients(comparison: Comparison) -> str:
    """Show how the tasks' gradients stand to each other, and whose gradient makes up the step."""
    if comparison.gradients.empty:
        return ""
    order = {arm: position for position, arm in enumerate(comparison.table["arm"])}
    measured = comparison.gradients.dropna(subset=["longest"]).sort_values("arm", key=lambda arms: arms.map(order))
    rows = [
        [
            row["label"],
            f"{row['longest']} {_times(row['norm_ratio'])}",
            number(row["cosine"]),
            _percent(row["conflict"]),
            *(_percent(row[f"share/{task}"]) for task in comparison.tasks),
        ]
        for row in measured.to_dict("records")
    ]
    heads = ["arm", "longest gradient", "cosine", "conflicts", *(f"share of {task}" for task in comparison.tasks)]
    text = (
        "Gradients of the tasks at the last shared layer, means over epochs and seeds: the task with the longest "
        "gradient and its ratio to the shortest, the mean cosine between two tasks, the share of pairs that point "
        "apart (negative cosine), and each task's share of the step, weight times length."
    )
    return f"## Gradients\n\n{text}\n\n{_table(heads, rows)}"


def training(drawn: Sequence[str]) -> str:
    """Show the joint loss over epochs."""
    picture = _figure(drawn, "joint_loss", "Joint loss at the fixed reference weights, mean over seeds")
    return f"## Training{picture}" if picture else ""


def diagnosis(comparison: Comparison) -> str:
    """List the findings about data and arms."""
    told = [finding.text for finding in comparison.findings if finding.kind != "front"]
    return "## Diagnosis\n\n" + (
        _bullets(told) or "Nothing to report: no collapse, clock, twins or saturated task found."
    )


def cost(comparison: Comparison) -> str:
    """Show what each arm costs."""
    rows = [
        [
            row["label"],
            number(row["step_ms"], 1),
            _times(row["step_ratio"]),
            number(row["trial_s"], 1),
            number(row["memory_mb"], 0),
            _times(row["memory_ratio"]),
        ]
        for row in comparison.cost.to_dict("records")
    ]
    heads = ["arm", "ms per step", "of control", "s per trial", "peak MB", "of control"]
    text = "Step times are medians over epochs, averaged over seeds; trials that share a machine disturb each other."
    return f"## Cost\n\n{text}\n\n{_table(heads, rows)}"


def failed(comparison: Comparison) -> str:
    """List the trials without a result."""
    if comparison.failures.empty:
        return f"## Failures\n\nNone: all {plural(comparison.num_trials, 'trial')} finished."
    rows = [
        [row["trial"], row["status"], row["error"] if isinstance(row["error"], str) else "-"]
        for row in comparison.failures.to_dict("records")
    ]
    return f"## Failures\n\n{_table(['trial', 'status', 'error'], rows)}"


def how_to_read(comparison: Comparison) -> str:
    """Explain the numbers and their limits."""
    seeds, tests = comparison.num_seeds, max(len(comparison.tested), 1)
    smallest, needed = smallest_p(seeds), seeds_needed(tests)
    lines = [
        "NLL is the negative log-likelihood in nats and smaller is better; UAR is the recall averaged over classes, "
        "CCC the concordance correlation coefficient, and larger is better. For a regression task the column NLL "
        "holds its loss, 1 - CCC.",
        "Arms of the same seed share initialisation, data order and augmentation, so their difference is far less "
        "noisy than the arms themselves: intervals of two arms may overlap while their paired difference is clear.",
        "Verdicts come from the paired t-test with Holm's correction; *hint* means that only the uncorrected 95 % "
        "interval leaves out zero. *Unclear* does not mean equal: it means that this many seeds cannot tell.",
        f"With {plural(seeds, 'seed')} the exact Wilcoxon test cannot give a two-sided p below {smallest:.4g}; to "
        f"reach .05 after Holm over {plural(tests, 'test')} it takes {needed} seeds.",
        "Seeds vary initialisation, order and augmentation on one split of one corpus: nothing here speaks of other "
        "corpora.",
    ]
    return "## How to read this\n\n" + _bullets(lines)


def reproducibility(results: Results) -> str:
    """Print the facts that a repetition needs."""
    rows = [["study", results.study], *([name, value] for name, value in results.facts.items())]
    return f"## Reproducibility\n\n{_table(['fact', 'value'], rows)}"


def _metric_name(metric: str) -> str:
    return metric if metric == "accuracy" else metric.upper()


def _range(low: float, high: float) -> str:
    return f"{low:+.3f} to {high:+.3f}" if math.isfinite(low) else "-"


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "-"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if math.isfinite(ratio) else "-"


def _listed(names: Iterable[str]) -> str:
    items = list(names)
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _figure(drawn: Sequence[str], stem: str, caption: str) -> str:
    return f"\n\n![{caption}](figures/{stem}.png)\n\n*{caption}.*" if stem in drawn else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
