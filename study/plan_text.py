"""A plan in words: what would run, for a person who has not started it yet."""

from collections.abc import Mapping
from typing import Any

from study import definition as definitions
from study import waves
from study.analysis.effects import detectable
from study.analysis.statistics import ALPHA, seeds_needed, smallest_p
from study.definition import GRID_FAMILY
from study.plan import Plan
from trainables.corpora import is_replication
from trainables.tasks import Task


def describe(plan: Plan) -> Mapping[str, str]:
    """Return what would run, as lines for a person: what -> how much."""
    definition, training = plan.definition, plan.definition.training
    arms = [f"{family} ({len(labels)})" if len(labels) > 1 else labels[0] for family, labels in _families(plan).items()]
    return {
        "study": definition.study,
        "corpus": definition.corpus.name,
        "network": network_line(plan),
        "split": _split_line(definition.split),
        "tasks": ", ".join(f"{task.name} ({_size(task)})" for task in plan.tasks),
        "arms": f"{len(plan.arms)}: {', '.join(arms)}",
        "seeds": f"{len(definition.seeds)}: {', '.join(map(str, definition.seeds))}",
        **({"folds": _folds_line(plan)} if plan.is_folded else {}),
        **_amounts(plan, training.epochs),
        **_controls_line(plan),
        "smallest p": _power_line(plan),
        **_search_lines(plan),
        "control": plan.control,
    }


def _search_lines(plan: Plan) -> dict[str, str]:
    """Return what is searched first, and how large that is."""
    search, epochs = plan.definition.search, plan.definition.training.epochs
    if search is None:
        return {}
    limits = search.budget.model_dump(exclude_none=True)
    trials = search.budget.trials
    told = ", ".join(f"{value:g} {name.replace('_', ' ')}" for name, value in limits.items())
    metrics = ", ".join(f"{objective.metric} ({objective.direction})" for objective in search.objective)
    lines = {
        "search": f"{search.searcher}, scheduler {search.scheduler}; objective: {metrics} on validation",
        "tuning seeds": f"{search.seeds}: {', '.join(map(str, search.seed_numbers))}",
        "budget": f"the same for each of {len(plan.methods)} methods: {told}",
    }
    if trials is not None:
        every = trials * len(plan.methods)
        lines["tuning"] = (
            f"{every} configurations, {every * search.seeds} trials, "
            f"{'at most ' if len(limits) > 1 or search.scheduler != 'none' else ''}"
            f"{every * search.seeds * epochs} epochs; then the trials above with fresh seeds"
        )
    elif search.budget.epochs is not None:
        lines["tuning"] = (
            f"{search.budget.epochs // (search.seeds * epochs)} configurations of each method trained to the end, or "
            "more where a scheduler stops some; then the trials above with fresh seeds"
        )
    else:
        lines["tuning"] = (
            "as many configurations as the time is good for, then the trials above with fresh seeds; --pilot measures "
            "about how many"
        )
    if search.start_from:
        points = sum(len(method.points) for method in plan.methods)
        lines["starts from"] = f"{', '.join(search.start_from)}: {points} configurations are tried first"
    for method in plan.methods:
        knobs = "; ".join(f"{name} {values}" for name, values in method.space.dimensions.items())
        lines[f"tunes {method.name}"] = f"{len(method.space)}: {knobs}"
    return lines


def network_line(plan: Plan) -> str:
    """Return which network is trained on what, and which arms have one of their own."""
    study = plan.network()
    own = [f"{arm.label} on {_difference(arm.network, study)}" for arm in plan.arms if arm.network is not None]
    told = f"{study['name']}, preset {study['preset']}, {' + '.join(plan.modalities)}"
    return "; ".join([told, *own])


def _difference(network: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """Return what of an arm's network is not that of the study."""
    told = [str(network[name]) for name in ("name", "preset") if network[name] != study[name]]
    told.append(" + ".join(network["modalities"]))
    changed = [f"{name} {value}" for name, value in network["options"].items() if study["options"].get(name) != value]
    return ", ".join([*told, *changed])


def _folds_line(plan: Plan) -> str:
    if plan.folds is None:
        return "all: how many depends on the corpus; tested as one pool"
    which = "all" if plan.definition.split.folds == "all" else ", ".join(map(str, plan.folds))
    return f"{len(plan.folds)}: {which}; tested as one pool"


def _amounts(plan: Plan, epochs: int) -> dict[str, str]:
    if plan.is_folded and plan.folds is None:
        trials = len(plan.arms) * len(plan.definition.seeds)
        return {"trials": f"{trials} for each fold", "epochs": f"{epochs} a trial, {epochs * trials} for each fold"}
    return {"trials": str(plan.num_trials), "epochs": f"{epochs} a trial, {epochs * plan.num_trials} in all"}


def _controls_line(plan: Plan) -> dict[str, str]:
    """Return how many of the trials are there to judge the others by, and which wait for others."""
    judging = [arm for arm in plan.arms if arm.role]
    if not judging:
        return {}
    each = len(plan.definition.seeds)
    trials = f"{_count(len(judging), 'arm')} of the above, {_count(each * len(judging), 'trial')}"
    later = [arm for arm in judging if arm.role in waves.DERIVED]
    waiting = f"; {len(later)} of these arms are made of others' rows and run after them" if later else ""
    return {"controls": f"{trials}{' for each fold' if plan.is_folded else ''}{waiting}"}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def num_tests(plan: Plan) -> int:
    """Return the number of tests against the control: one for each method, of which the static grid is one."""
    methods = [arm for arm in plan.arms if not arm.role and arm.arm != plan.control]
    return len({arm.family if arm.family == GRID_FAMILY else arm.arm for arm in methods})


def _power_line(plan: Plan) -> str:
    """Return the smallest p that the seeds can reach, and how many seeds it takes to reach .05 after Holm."""
    seeds, tests = len(plan.definition.seeds), max(num_tests(plan), 1)
    if seeds < 2:
        return "none: one seed gives no interval and no test"
    smallest, needed = smallest_p(seeds), seeds_needed(tests)
    corrected = f", {min(1.0, tests * smallest):.4g} after Holm over {_count(tests, 'test')}" if tests > 1 else ""
    enough = "" if tests * smallest <= ALPHA else f"; to reach {ALPHA:g} takes {needed} seeds"
    effect = detectable(seeds, ALPHA / tests)
    return (
        f"{smallest:.4g} by the exact Wilcoxon test{corrected}{enough}. The paired t-test finds {effect:.2g} standard "
        "deviations of the seeds' differences four times out of five"
    )


def _split_line(split: definitions.Split) -> str:
    options = ", ".join(f"{name}={value}" for name, value in split.options.items())
    leak = "; leaks speakers: published for comparison only" if is_replication(split.protocol) else ""
    return f"{split.protocol}{f' ({options})' if options else ''}{leak}"


def _size(task: Task) -> str:
    if task.kind == "regression":
        return "a number"
    return f"{task.num_outputs} classes{', several at once' if task.kind == 'multilabel' else ''}"


def _families(plan: Plan) -> dict[str, list[str]]:
    families: dict[str, list[str]] = {}
    for arm in plan.arms:
        families.setdefault(arm.family, []).append(arm.label)
    return families
