"""The sections that need more than arms and seeds: a static grid, single tasks, control arms, or equal budgets."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from study.analysis.comparison import Comparison
from study.analysis.ranks import WARNING
from study.analysis.results import Results
from study.report.blocks import Block, Paragraph, Section, bullets, listed, section, table
from study.report.sections import SPLIT_NAMES
from study.report.text import metric_name, number, plural, range_cell, signed

_OF_INTEREST = ("chosen", "oracle")


def distances(comparison: Comparison) -> Section:
    """Show how far each method is from the front of the static grid, and its regret against the grid's points."""
    title = "Distance and regret"
    found = comparison.distances
    if found is None or comparison.static is None or found.table.empty:
        return section(title)
    return section(title, _front_distances(comparison), _regret(comparison))


def _front_distances(comparison: Comparison) -> list[Block]:
    found = comparison.distances
    if found is None:
        return []
    volume = ""
    if found.grid is not None:
        reference = ", ".join(f"{task} {loss:.3g}" for task, loss in found.reference.items())
        volume = (
            f" The hypervolume of the grid is {number(found.grid.mean)} ({range_cell(found.grid.low, found.grid.high)}"
            f"), from the losses of a network that knows nothing ({reference}); the gain is what a method adds to it."
        )
    text = (
        "Distance of each method to the front of the static grid in the plane of the task losses: positive is behind "
        f"the front, in the unit of the losses; jackknife intervals over common seeds.{volume}"
    )
    heads = ["method", "common seeds", "distance", "95 % interval", "hypervolume gain", "gain, 95 % interval"]
    rows = [
        [
            row["label"],
            row["num_seeds"],
            signed(row["distance"]),
            range_cell(row["low"], row["high"]),
            signed(row["gain"]),
            range_cell(row["gain/low"], row["gain/high"]),
        ]
        for row in found.table.to_dict("records")
    ]
    return [Paragraph(text), *table(heads, rows, "distances", "Distance to the front of the static grid.")]


def _regret(comparison: Comparison) -> list[Block]:
    static = comparison.static
    if static is None or comparison.regret.empty:
        return []
    heads = ["method", "metric", "against the chosen", "95 % interval", "against the oracle", "95 % interval", "oracle"]
    pairs: dict[tuple[str, str], dict[str, Mapping[Any, Any]]] = {}
    for row in comparison.regret.to_dict("records"):
        pairs.setdefault((str(row["label"]), str(row["metric"])), {})[str(row["against"])] = row
    rows = [
        [
            label,
            _metric_label(metric),
            *(cell for against in _OF_INTEREST for cell in _regret_cells(of.get(against, {}))),
            comparison.labels.get(str(of.get("oracle", {}).get("static")), "-"),
        ]
        for (label, metric), of in pairs.items()
    ]
    text = (
        f"Regret against the best static weights: how much worse than {comparison.labels[static.best]}, which "
        "validation chose, and than the oracle of each metric, which no user can know; positive is worse than the "
        "grid, whichever way the metric points."
    )
    return [Paragraph(text), *table(heads, rows, "regret", "Regret against the best static weights.", words=2)]


def _metric_label(name: str) -> str:
    metric, _, task = name.partition("/")
    return f"{task} {metric_name(metric)}" if task else "joint NLL"


def _regret_cells(row: Mapping[Any, Any]) -> list[str]:
    return [signed(row.get("regret", math.nan)), range_cell(row.get("low", math.nan), row.get("high", math.nan))]


def delta(results: Results, comparison: Comparison) -> Section:
    """Show what the tasks gain from being trained together."""
    title, found = "Against single tasks", comparison.delta
    if found.lacking or found.table.empty:
        return section(title)
    rows = [
        [
            row["label"],
            row["num_seeds"],
            signed(row["delta"], 1),
            range_cell(row["low"], row["high"], 1),
            signed(row["delta_nll"], 1),
            range_cell(row["delta_nll/low"], row["delta_nll/high"], 1),
        ]
        for row in found.table.to_dict("records")
    ]
    heads = ["arm", "common seeds", "of metrics (%)", "95 % interval", "of losses (%)", "95 % interval"]
    alone = listed(f"{task} by {comparison.labels[arm]}" for task, arm in found.baselines.items())
    text = (
        "Delta-m: the mean relative gain over networks that were trained on one task alone with the same seeds "
        f"({alone}), in percent, of the metrics that people read and of the losses; positive is better than alone."
    )
    if results.tuning is not None:
        text += f" They are trained as tuning chose for {comparison.labels[comparison.control]}."
    told = [Paragraph(text)]
    if found.by_joint:
        told.append(
            Paragraph(
                "The networks trained alone were chosen by the joint loss and not by that of their task, which "
                "flatters every other arm.",
                is_warning=True,
            )
        )
    return section(title, told, table(heads, rows, "delta", "Mean relative gain over single tasks."))


def ranks(comparison: Comparison) -> Section:
    """Show mean ranks with what must be said about them."""
    entries = comparison.ranks.dropna(subset=["joint_nll"]).sort_values("joint_nll", kind="stable")
    if len(entries) < 2:
        return section("Mean ranks")
    metrics = [name for name in entries.columns if name not in ("arm", "label", "num_seeds")]
    heads = ["arm", *(_metric_label(name) for name in metrics)]
    rows = [[row["label"], *(number(row[name], 2) for name in metrics)] for row in entries.to_dict("records")]
    seeds = plural(int(entries["num_seeds"].iloc[0]), "seed")
    text = f"Mean rank over {seeds} of this one corpus, 1 is best, ties shared. {WARNING}"
    return section("Mean ranks", Paragraph(text), table(heads, rows, "ranks", "Mean ranks over seeds."))


def budgets(results: Results, comparison: Comparison) -> Section:
    """Show the same comparison at equal epochs, at equal training time and at equal tuning."""
    return section("At equal cost", _equal_training(comparison), _equal_tuning(results, comparison))


def _equal_training(comparison: Comparison) -> list[Block]:
    if comparison.budgets.empty:
        return []
    entries = comparison.budgets.sort_values(["budget", "valid/joint_nll"], kind="stable").to_dict("records")
    names = {"epochs": "equal epochs", "seconds": "equal training time"}
    rows = [
        [
            row["label"],
            names[row["budget"]],
            number(row["epochs"], 1),
            number(row["seconds"], 1),
            number(row["valid/joint_nll"]),
            signed(row["difference"]),
            range_cell(row["low"], row["high"]),
            number(row["t_holm_p"], 4),
        ]
        for row in entries
    ]
    control = comparison.labels[comparison.control]
    heads = ["arm", "budget", "epochs", "training (s)", "joint NLL", f"vs {control}", "95 % interval", "t-test p, Holm"]
    text = (
        "The lowest joint NLL on validation reached within the same number of epochs, and within the training time "
        "that the cheapest arm takes for them; evaluation and diagnostics excluded."
    )
    return [Paragraph(text), *table(heads, rows, "budgets", "The comparison at equal cost.", words=2)]


def _equal_tuning(results: Results, comparison: Comparison) -> list[Block]:
    """Show what each method reaches with fewer configurations than it was tuned with."""
    found = comparison.equal_tuning
    if results.tuning is None or found.empty:
        return []
    metric = results.tuning.search.objective[0].metric
    counts = [int(name.partition("/")[2]) for name in found.columns if name.startswith("best_of/")]
    entries = found.to_dict("records")
    drawn = "drawn at random" if found["draws"].iloc[0] == "random" else "of any origin"
    heads = [
        "method",
        "configurations",
        *(f"best of {m}" for m in counts),
        "best of all",
        "with fresh seeds",
        "left out",
    ]
    rows = [
        [
            row["label"],
            row["num_trials"],
            *(number(row[f"best_of/{m}"]) for m in counts),
            *(number(row[name]) for name in ("best", "confirmed")),
            row["left_out"],
        ]
        for row in entries
    ]
    text = (
        f"Equal tuning: the {metric} on validation that the best of m configurations has on average, by those {drawn} "
        "that were trained to the end, for the same m of every method. The result of this report stands at the right "
        "end alone, the whole budget; a method that needs less tuning is ahead on the left. "
    )
    warning = (
        "These are not independent draws: a searcher that learns tries better ones later, so that few of them look "
        "better than they would have been."
    )
    caption = "The methods at equal numbers of configurations tried, on validation."
    return [
        Paragraph(text + _ahead(results, entries, counts)),
        *([] if drawn == "drawn at random" else [Paragraph(warning, is_warning=True)]),
        *table(heads, rows, "equal_tuning", caption),
    ]


def _ahead(results: Results, entries: Sequence[Mapping[Any, Any]], counts: Sequence[int]) -> str:
    """Say which method is ahead with how many configurations, where that changes."""
    smaller = results.tuning is None or results.tuning.search.objective[0].direction == "minimize"
    told: list[tuple[int, str]] = []
    for m in counts:
        best = (min if smaller else max)(entries, key=lambda row: float(row[f"best_of/{m}"]))
        if not told or told[-1][1] != best["label"]:
            told.append((m, str(best["label"])))
    first, *later = told
    if not later:
        return f"{first[1]} is ahead with any number of them."
    return f"Ahead: {first[1]} with {first[0]}, {listed([f'{name} from {m} on' for m, name in later], ', then ')}."


def controls(results: Results, comparison: Comparison) -> Section:
    """Show the arms that are there to judge others by."""
    told = [finding.text for finding in comparison.findings if finding.kind == "control"]
    if comparison.controls.empty or not told:
        return section("Controls")
    heads = ["arm", "made of", "common seeds", "difference", "95 % interval", "t-test p, Holm"]
    rows = [
        [
            row["label"],
            comparison.labels[row["of"]],
            row["num_seeds"],
            signed(row["difference"]),
            range_cell(row["low"], row["high"]),
            number(row["t_holm_p"], 4),
        ]
        for row in comparison.controls.to_dict("records")
    ]
    text = (
        f"Arms that are there to judge others by, held against the arm that they are made of, by the joint NLL on the "
        f"{SPLIT_NAMES[comparison.split]} split; they have no rank."
        + (" Each is trained as tuning chose for the arm that it is made of." if results.tuning is not None else "")
    )
    shown = table(heads, rows, "controls", "Control arms against the arms that they are made of.", words=2)
    return section("Controls", Paragraph(text), bullets(told), shown)
