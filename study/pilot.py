"""What a study will take, from one epoch of every distinct training on this machine."""

import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from study.methods import corners
from study.nodes import Machine, concurrency
from study.plan import Arm, Plan, configured_arm
from study.progress import duration
from study.runner import available_cpus
from trainables.corpora import Corpus

if TYPE_CHECKING:
    from trainables.session import TrialSpecification

_FILES = 3
"""Checkpoints that a finished trial leaves, at most: the last, the one before, and the chosen network."""


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
            measured[key] = _measure(specification, plan.definition.resources.cpus)
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
    """Train one epoch after a warm-up of nothing: the first epoch of a trial is what the others are like."""
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
    tuning = sum(_tuning_epochs(plan) * means[method.name] for method in plan.methods)
    at_a_time = concurrency(definition.resources.model_copy(update={"gpus": 0.0}), [Machine(available_cpus())])
    size = max(each.checkpoint_bytes for pilots in by_arm.values() for each in pilots)
    slowest = max(means, key=lambda name: means[name])
    lines = {
        "pilot": f"{num_measured} epochs measured: {min(means.values()):.2g} to {means[slowest]:.2g} s ({slowest})",
        "training": f"about {duration(confirming)} of one trial after the other",
        "disk": f"{_FILES * size * per_arm * len(plan.arms) / 1e6:,.0f} MB of checkpoints ({size / 1e6:.2g} MB each)",
    }
    if plan.methods:
        lines["tuning time"] = f"at most {duration(tuning)} of one trial after the other"
        lines["disk of tuning"] = f"{_tuning_disk(plan, size, at_a_time) / 1e6:,.0f} MB while it lasts, none afterwards"
    lines["here"] = f"about {duration((confirming + tuning) / at_a_time)} with {at_a_time} trials at a time"
    return lines


def _tuning_epochs(plan: Plan) -> int:
    """Return the most epochs that one method may be tuned for; of a budget in hours alone, none."""
    search = plan.definition.search
    if search is None:
        return 0
    trials, limit = search.budget.trials, search.budget.epochs
    by_trials = None if trials is None else trials * search.seeds * plan.definition.training.epochs
    return min((each for each in (by_trials, limit) if each is not None), default=0)


def _tuning_disk(plan: Plan, size: int, at_a_time: int) -> float:
    """Return the most bytes of checkpoints: schedulers keep those of trials that pause, the others those that run."""
    search = plan.definition.search
    if search is None:
        return 0.0
    if search.scheduler == "none":
        return 2.0 * size * at_a_time
    most = search.budget.trials or _tuning_epochs(plan)
    return 2.0 * size * most * search.seeds * len(plan.methods)
