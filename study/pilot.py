"""What a study will take, from one epoch of every distinct training on this machine."""

import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from study.arms import Arm
from study.methods import corners
from study.nodes import Machine, concurrency
from study.plan import Plan, configured_arm
from study.progress import duration
from study.ray_start import available_cpus
from study.search.budget import HOUR_S
from study.search.settings import Search
from trainables.corpora import Corpus

if TYPE_CHECKING:
    from trainables.specification import TrialSpecification

_FILES = 3
"""Checkpoints that a finished trial leaves, at most: the last, the one before, and the chosen network."""
_WARM_S = 20.0
"""The very first epoch of a process is measured again if it is shorter: PyTorch is then still finding its kernels."""


@dataclass(frozen=True)
class Pilot:
    """What was measured of one training.

    Attributes:
        seconds: of one epoch, validation included.
        checkpoint_bytes: of one checkpoint.
    """

    seconds: float
    checkpoint_bytes: int


def pilot(plan: Plan, corpus: Corpus, store: str) -> dict[str, str]:
    """Train one epoch of every distinct strategy and network, and return what the whole takes as lines for a person.

    Args:
        plan: of the study.
        corpus: that it is studied on.
        store: path of the prepared corpus.
    """
    measured: dict[str, Pilot] = {}
    by_arm: dict[str, list[Pilot]] = {}
    for name, arm in _trainings(plan, corpus):
        specification = plan.trial(arm, 0, _first_fold(plan), store, None)
        key = json.dumps([specification.network, specification.strategy["name"]], sort_keys=True, default=str)
        if key not in measured:
            found = _measure(specification, plan.definition.resources.cpus)
            if not measured and found.seconds < _WARM_S:
                found = _measure(specification, plan.definition.resources.cpus)
            measured[key] = found
        by_arm.setdefault(name, []).append(measured[key])
    return _lines(plan, by_arm, len(measured))


def _first_fold(plan: Plan) -> int | None:
    return plan.folds[0] if plan.folds else None


def _trainings(plan: Plan, corpus: Corpus) -> Iterator[tuple[str, Arm]]:
    """Yield every arm, and of a search every method at the ends of its ranges."""
    for arm in plan.arms:
        yield arm.arm, arm
    for method in plan.methods:
        for values in corners(method.space):
            if any(name.startswith("network.") for name in values):
                yield method.name, configured_arm(plan, corpus, method.name, values)


def _measure(specification: "TrialSpecification", threads: int) -> Pilot:
    """Train one epoch; the first epoch of a trial is what the others are like."""
    import torch

    from trainables.session import Session

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        session = Session(replace(specification, until=1))
        start = time.perf_counter()
        list(session.run())
        seconds = time.perf_counter() - start
    finally:
        torch.set_num_threads(before)
    content = io.BytesIO()
    torch.save(session.state_dict(), content)
    return Pilot(seconds, content.tell())


def _lines(plan: Plan, by_arm: dict[str, list[Pilot]], num_measured: int) -> dict[str, str]:
    definition = plan.definition
    per_arm = len(definition.seeds) * len(plan.folds or (None,))
    epochs = definition.training.epochs
    means = {name: sum(each.seconds for each in pilots) / len(pilots) for name, pilots in by_arm.items()}
    confirming = per_arm * epochs * sum(means[arm.arm] for arm in plan.arms)
    at_a_time = concurrency(definition.resources.model_copy(update={"gpus": 0.0}), [Machine(available_cpus())])
    tuned = tuning_epochs(plan, means, at_a_time)
    tuning = sum(each * means[name] for name, each in tuned.items())
    size = max(each.checkpoint_bytes for pilots in by_arm.values() for each in pilots)
    slowest = max(means, key=lambda name: means[name])
    lines = {
        "pilot": f"{num_measured} epochs measured: {min(means.values()):.2g} to {means[slowest]:.2g} s ({slowest})",
        "training": f"about {duration(confirming)} of one trial after the other",
        "disk": f"{_FILES * size * per_arm * len(plan.arms) / 1e6:,.0f} MB of checkpoints ({size / 1e6:.2g} MB each)",
    }
    if definition.search is not None:
        lines |= _tuning_lines(plan, definition.search, tuned, means, size, at_a_time)
    lines["here"] = f"about {duration((confirming + tuning) / at_a_time)} with {at_a_time} trials at a time"
    return lines


def _tuning_lines(
    plan: Plan, search: Search, epochs: Mapping[str, float], means: Mapping[str, float], size: int, at_a_time: int
) -> dict[str, str]:
    """Return how many configurations of each method the budget is good for, how long that takes, and how much disk."""
    whole = search.seeds * plan.definition.training.epochs
    lines = {}
    if search.budget.trials is None:
        told = ", ".join(f"{max(1, round(each / whole))} of {name}" for name, each in epochs.items())
        more = "" if search.scheduler == "none" else "; more, as the scheduler stops some early"
        lines["tuning"] = f"about {told}, each on {search.seeds} tuning seeds and to the last epoch{more}"
    seconds = sum(each * means[name] for name, each in epochs.items())
    lines["tuning time"] = f"at most {duration(seconds)} of one trial after the other"
    megabytes = _tuning_disk(plan, search, epochs, size, at_a_time) / 1e6
    lines["disk of tuning"] = f"at most {megabytes:,.0f} MB while it lasts, none afterwards"
    return lines


def tuning_epochs(plan: Plan, means: Mapping[str, float], at_a_time: int) -> dict[str, float]:
    """Return method -> the most epochs that it may be tuned for, those of all tuning seeds added.

    Methods take turns, so that of a budget of wall-clock time all get as far. Of one of hours, the configurations that
    are begun before the first result is known are always trained.

    Args:
        plan: of the study.
        means: method -> seconds of an epoch.
        at_a_time: trials that run at a time.
    """
    search, names = plan.definition.search, [method.name for method in plan.methods]
    if search is None:
        return {}
    budget, whole = search.budget, search.seeds * plan.definition.training.epochs
    limits = [] if budget.trials is None else [dict.fromkeys(names, float(budget.trials * whole))]
    limits += [] if budget.epochs is None else [dict.fromkeys(names, float(budget.epochs))]
    if budget.hours is not None:
        limits.append({name: max(budget.hours * HOUR_S / means[name], search.parallel * whole) for name in names})
    if budget.wall_clock_hours is not None:
        in_all = budget.wall_clock_hours * HOUR_S * at_a_time / sum(means[name] for name in names)
        limits.append(dict.fromkeys(names, max(in_all, float(whole))))
    return {name: min(limit[name] for limit in limits) for name in names}


def _tuning_disk(plan: Plan, search: Search, epochs: Mapping[str, float], size: int, at_a_time: int) -> float:
    """Return the most bytes of checkpoints: schedulers keep those of trials that pause, the others those that run."""
    if search.scheduler == "none":
        return 2.0 * size * at_a_time
    trials = search.budget.trials
    by_epochs = sum(epochs.values()) if trials is None else trials * search.seeds * len(plan.methods)
    return 2.0 * size * by_epochs
