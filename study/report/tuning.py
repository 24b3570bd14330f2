"""The section of a report on the tuning phase: what each method was given, what was chosen, and how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.analysis.tuning import FEW, TunedMethod, Tuning, at_edges, best_of, best_of_interval, confirmed, importances
from study.report.blocks import Block, Paragraph, Section, bullets, figure, listed, section, table
from study.report.drawing import COLOURS, DARK, GREY, subplots
from study.report.text import held_line, number, percent, plural
from study.search.settings import Objective

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3


def tuning(results: Results, comparison: Comparison, drawn: Sequence[str]) -> Section:
    """Return the section; empty for a study without a search."""
    found = results.tuning
    if found is None:
        return section("Tuning")
    return section(
        "Tuning",
        Paragraph(_opening(found)),
        _spent(found),
        _chosen(results, found),
        figure(drawn, "tuning", "Best configuration so far against the number of configurations, method by method"),
        _importance(found),
        bullets([*_edges(found), *_optimism(comparison), *_failures(found)]),
        _front(found),
    )


def _opening(found: Tuning) -> str:
    search = found.search
    limits = search.budget.model_dump(exclude_none=True)
    budget = listed([f"{value:g} {name.replace('_', ' ')}" for name, value in limits.items()])
    metrics = listed([objective.metric for objective in search.objective])
    return (
        f"Before they were compared, all {len(found.methods)} methods were tuned alike: {budget} for each, whatever "
        f"the number of its hyperparameters, by searcher {search.searcher} with scheduler {search.scheduler}, for "
        f"{metrics} on validation as a mean over {plural(search.seeds, 'tuning seed')}. What is compared in this "
        "report was trained anew with fresh seeds. The values in this section are those of winners: the best of many "
        "noisy tries looks better than it is, and is no result. What fewer configurations would have given is under At "
        "equal cost."
    )


def _spent(found: Tuning) -> list[Block]:
    heads = ["method", "hyperparameters", "configurations", "epochs", "hours", "failed", "stopped by the scheduler"]
    rows = [
        [
            method.method,
            f"{len(method.space)}",
            f"{method.spent['trials']:.0f}",
            f"{method.spent['epochs']:.0f}",
            number(method.spent["seconds"] / 3600, 2),
            f"{sum(each.state == 'failed' for each in method.configurations)}",
            f"{sum(each.state in ('stopped', 'waiting') for each in method.configurations)}",
        ]
        for method in found.methods
    ]
    return table(heads, rows, "tuning_budget", "What each method was given; epochs and hours of all tuning seeds")


def _chosen(results: Results, found: Tuning) -> list[Block]:
    objective = found.search.objective[0]
    heads = ["method", f"{objective.metric} in tuning", "with fresh seeds", "chosen values", "tried as"]
    rows = [
        [
            method.method,
            number(_shown(objective, best.losses[0])) if best.losses else "-",
            number(confirmed(results, objective, method.method)),
            _values(method),
            f"{best.origin}, number {best.number}",
        ]
        for method in found.methods
        if (best := method.best) is not None
    ]
    caption = f"What was chosen: {objective.metric} on validation, of the winner in tuning and trained anew"
    return table(heads, rows, "tuning_chosen", caption)


def _shown(objective: Objective, loss: float) -> float:
    return loss if objective.direction == "minimize" else -loss


def _values(method: TunedMethod) -> str:
    """Return the chosen values; where they changed in training, from which epoch on each holds."""
    stages = method.stages or ({"first": 0, "values": method.best.values if method.best else {}},)
    told = [
        listed([f"{short(name)} {cell(value)}" for name, value in stage["values"].items()], ", ") for stage in stages
    ]
    if len(told) == 1:
        return told[0]
    return "; ".join(f"from epoch {int(stage['first']) + 1}: {text}" for stage, text in zip(stages, told, strict=True))


def short(name: str) -> str:
    """Return the name of a hyperparameter as it stands in a table.

    >>> short("training.learning_rate"), short("strategy.alpha"), short("network.options.dropout")
    ('learning_rate', 'strategy alpha', 'network dropout')
    """
    return name.removeprefix("training.").replace("network.options.", "network ").replace("strategy.", "strategy ")


def cell(value: object) -> str:
    """Return a value of a hyperparameter as it stands in a table.

    >>> cell(["0.3", "0.7"]), cell(0.0012345), cell("adam")
    ('0.3/0.7', '0.00123', 'adam')
    """
    if isinstance(value, list | tuple):
        return "/".join(map(cell, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _importance(found: Tuning) -> list[Block]:
    by_method = {method.method: importances(method) for method in found.methods}
    rows = [
        [method, short(name), percent(share)] for method, shares in by_method.items() for name, share in shares.items()
    ]
    if not rows:
        return []
    few = [method.method for method in found.methods if 0 < len(method.losses(method.epochs)) < FEW]
    warning = (
        f" With fewer than {FEW} configurations, as here for {listed(few)}, these shares are a guess." if few else ""
    )
    text = (
        "Importance of a hyperparameter: its share in the variance of the objective over the space, alone and with "
        f"others, by functional ANOVA on the configurations that were trained to the end.{warning}"
    )
    heads, caption = ["method", "hyperparameter", "share"], "Importance of each hyperparameter"
    return [Paragraph(text), *table(heads, rows, "tuning_importance", caption, words=2)]


def _edges(found: Tuning) -> list[str]:
    return [
        f"The chosen {short(name)} of {method.method}, {cell(value)}, lies at the {edge} end of its range "
        f"({method.space.dimensions[name]}): better values may lie beyond, so widen it."
        for method in found.methods
        for name, value, edge in at_edges(method)
    ]


def _optimism(comparison: Comparison) -> list[str]:
    """Say whether the order of the methods in tuning has held."""
    told = held_line(comparison)
    return [f"{told}."] if told else []


def _failures(found: Tuning) -> list[str]:
    return [
        f"{method.method}: {plural(len(lost), 'configuration')} failed, such as number {lost[0].number} "
        f"({lost[0].failure})."
        for method in found.methods
        if (lost := [each for each in method.configurations if each.state == "failed"])
    ]


def _front(found: Tuning) -> list[Block]:
    """Return the front of a search of several objectives; what is compared is its point of the least joint loss."""
    objectives = found.search.objective
    if len(objectives) < 2:
        return []
    heads = ["method", "number", *(objective.metric for objective in objectives), "values"]
    rows = [
        [
            method.method,
            f"{number_}" + (" (chosen)" if number_ == method.chosen else ""),
            *(number(_shown(each, loss)) for each, loss in zip(objectives, losses, strict=True)),
            listed(
                [f"{short(name)} {cell(value)}" for name, value in method.configurations[number_].values.items()], ", "
            ),
        ]
        for method in found.methods
        for number_ in method.front
        if (losses := method.configurations[number_].losses) is not None
    ]
    text = (
        "The objectives pull apart: on validation no other configuration of the method beats these in all of them. The "
        "one of the least joint NLL was chosen for the comparison."
    )
    return [Paragraph(text), *table(heads, rows, "tuning_front", "Front of each method on validation", words=2)]


def tuning_figure(results: Results) -> Figure | None:
    """Draw, for each method, every configuration, the best so far, and the expected best of m of the random ones."""
    found = results.tuning
    if found is None or not any(len(method.losses(method.epochs)) for method in found.methods):
        return None
    columns = 2 if len(found.methods) == 4 else min(_COLUMNS, len(found.methods))
    rows = -(-len(found.methods) // columns)
    figure, axes = subplots(rows, columns, (1.0 + 2.5 * columns, 0.7 + 2.1 * rows), sharey=True)
    objective = found.search.objective[0]
    for axis, method in zip(axes, found.methods, strict=False):
        _draw_method(axis, method, objective)
    for axis in axes[len(found.methods) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set_ylabel(f"{objective.metric}\n(validation)")
    _bound(axes[0], found, objective)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _draw_method(axis: Axes, method: TunedMethod, objective: Objective) -> None:
    from matplotlib.ticker import MaxNLocator

    full = [each for each in method.configurations if each.losses is not None and each.epochs >= method.epochs]
    values = np.array([_shown(objective, each.losses[0]) for each in full if each.losses])
    places = np.array([each.number + 1 for each in full])
    random = np.array([each.origin == "random" for each in full], dtype=bool)
    sampled = method.losses(method.epochs, ("random",))
    if len(sampled) >= 3:
        order = np.arange(1, len(sampled) + 1)
        low, high = (np.array([_shown(objective, loss) for loss in ends]) for ends in best_of_interval(sampled))
        axis.fill_between(order, low, high, color=GREY, alpha=0.35, linewidth=0, label="its 95 % interval (bootstrap)")
        curve = [_shown(objective, loss) for loss in best_of(sampled)]
        axis.plot(
            order, curve, color=DARK, linestyle=(0, (4, 2)), linewidth=1.2, label="expected best of m random ones"
        )
    if len(values):
        best = np.minimum.accumulate if objective.direction == "minimize" else np.maximum.accumulate
        axis.step(places, best(values), where="post", color=COLOURS[0], label="best so far")
        axis.plot(places[~random], values[~random], "o", color=COLOURS[1], markersize=4, label="configuration")
        style: dict[str, Any] = {
            "markerfacecolor": "white",
            "markeredgecolor": COLOURS[1],
            "linestyle": "",
            "markersize": 4,
        }
        axis.plot(places[random], values[random], marker="o", label="configuration drawn at random", **style)
    axis.set_title(method.method)
    axis.set_xlabel("configurations")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))


def _bound(axis: Axes, found: Tuning, objective: Objective) -> None:
    """Leave out of the axis what is far worse than the rest: a diverged configuration would flatten all others."""
    values = np.concatenate([method.losses(method.epochs) for method in found.methods])
    low, middle = float(values.min()), float(np.median(values))
    end = min(float(values.max()), middle + 3 * max(middle - low, 1e-6))
    margin = 0.06 * max(end - low, 1e-6)
    limits = sorted(_shown(objective, loss) for loss in (low - margin, end + margin))
    axis.set_ylim(limits[0], limits[1])
