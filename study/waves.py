"""Arms that judge others, and what of them is only known once those have been trained.

A trial of a frozen mean is made of the rows of one other trial, that of the same arm, seed and fold: seeds stay
independent of each other, and a seed that is added later changes no trial that there was.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from strategies.errors import unknown
from study.analysis.control_arms import EFFECTIVE_LR, FROZEN_MEAN, SCALE_CANARY
from study.analysis.delta import SINGLE_TASK
from study.controls import Chosen, Controls
from study.errors import DefinitionError
from study.observing import Observer

if TYPE_CHECKING:
    from study.arms import Arm
    from study.records import StudyFolder
    from trainables.specification import TrialSpecification
    from trainables.tasks import Task

DERIVED = (FROZEN_MEAN, EFFECTIVE_LR)
"""Roles of arms that are made of the results of others."""


def control_arms(controls: Controls, tasks: "Sequence[Task]", arms: "Sequence[Arm]", control: str) -> "list[Arm]":
    """Return the arms that a definition asks for to judge others by.

    Each has the network and the training of the arm it is made of, single tasks those of the control: in a study with a
    search, what was chosen for it.

    Args:
        controls: what it asks for.
        tasks: in order.
        arms: what is compared.
        control: name of the arm that differences are taken against.

    Raises:
        DefinitionError: a name is none, or a control makes no sense for an arm.
    """
    base = next(arm for arm in arms if arm.arm == control)
    found = [_alone(base, task.name, index, len(tasks)) for index, task in enumerate(tasks) if controls.single_task]
    for arm in _chosen("frozen_mean", controls.frozen_mean, arms, moving=True):
        found.append(_derived(arm, FROZEN_MEAN, f"{arm.arm}-frozen", f"{arm.label} frozen mean"))
    for arm in _chosen("effective_lr", controls.effective_lr, arms, moving=True):
        found.append(_derived(arm, EFFECTIVE_LR, f"{arm.arm}-step", f"equal at the step of {arm.label}"))
    if controls.scale_canary is not None:
        canary = controls.scale_canary
        if canary.task not in (names := [task.name for task in tasks]):
            raise DefinitionError(f"controls.scale_canary.task: {unknown('task', canary.task, names)}")
        wanted = _chosen("scale_canary.arms", canary.arms, arms, moving=False)
        if canary.arms == "all":
            wanted = [arm for arm in wanted if arm.static_weights is None or arm.arm == control]
        found += [_scaled(arm, canary.task, canary.factor) for arm in wanted]
    return found


def _chosen(key: str, wanted: Chosen, arms: "Sequence[Arm]", *, moving: bool) -> "list[Arm]":
    by_name = {arm.arm: arm for arm in arms}
    if wanted == "all":
        return [arm for arm in arms if arm.static_weights is None or not moving]
    for name in wanted:
        if name not in by_name:
            raise DefinitionError(f"controls.{key}: {unknown('arm', name, list(by_name))}")
        if moving and by_name[name].static_weights is not None:
            raise DefinitionError(f"controls.{key}: the weights of arm '{name}' are fixed: name arms that move theirs")
    return [by_name[name] for name in wanted]


def _alone(base: "Arm", task: str, index: int, num_tasks: int) -> "Arm":
    weights = tuple(float(other == index) for other in range(num_tasks))
    name = f"only-{task}"
    return replace(
        base,
        arm=name,
        label=f"{task} alone",
        strategy="single_task",
        options={"task": index},
        family=SINGLE_TASK,
        static_weights=weights,
        may_be_clock=False,
        changes=_of_training(base.changes),
        role=SINGLE_TASK,
        of=task,
    )


def _of_training(changes: "Sequence[Mapping[str, Any]]") -> "tuple[dict[str, Any], ...]":
    """Return what a search changes in the middle of a training without the options of a strategy that is replaced."""
    return tuple({**change, "options": {}} for change in changes)


def _derived(arm: "Arm", role: str, name: str, label: str) -> "Arm":
    """Return an arm with equal weights in place of those that are known once ``arm`` has been trained."""
    return replace(
        arm,
        arm=name,
        label=label,
        strategy="equal",
        options={},
        family=role,
        static_weights=None,
        may_be_clock=False,
        changes=_of_training(arm.changes),
        role=role,
        of=arm.arm,
    )


def _scaled(arm: "Arm", task: str, factor: float) -> "Arm":
    return replace(
        arm,
        arm=f"{arm.arm}-x{factor:g}-{task}",
        label=f"{arm.label} {task} x{factor:g}",
        family=SCALE_CANARY,
        may_be_clock=False,
        role=SCALE_CANARY,
        of=arm.arm,
        loss_scales={task: factor},
    )


@dataclass(frozen=True)
class Second:
    """What can be run once the first wave is over.

    Attributes:
        trials: with the settings that come from the rows of others.
        failed: trials that never can be, with the reason.
    """

    trials: "tuple[TrialSpecification, ...]"
    failed: "tuple[tuple[TrialSpecification, str], ...]"


def first_wave(trials: "Sequence[TrialSpecification]", arms: "Sequence[Arm]") -> "list[TrialSpecification]":
    """Return the trials whose settings are known from the start, in order."""
    waiting = {arm.arm for arm in arms if arm.role in DERIVED}
    return [trial for trial in trials if trial.arm not in waiting]


def second_wave(trials: "Sequence[TrialSpecification]", arms: "Sequence[Arm]", folder: "StudyFolder") -> Second:
    """Return the trials that are made of others' rows, as far as those have ended; the rest waits for a later run."""
    of_arm = {arm.arm: arm for arm in arms if arm.role in DERIVED}
    ready, failed = [], []
    for trial in trials:
        arm = of_arm.get(trial.arm)
        if arm is None:
            continue
        source = f"{arm.of}{trial.trial.removeprefix(trial.arm)}"
        record = folder.record(source)
        tasks = [str(task["name"]) for task in trial.tasks]
        if record.status == "failed":
            failed.append((trial, f"it is made of trial {source}, which has failed"))
        elif record.status == "finished":
            epochs = [row for row in record.rows if row["kind"] == "epoch"]
            settings = frozen_mean(epochs, tasks) if arm.role == FROZEN_MEAN else step_length(epochs, tasks)
            if settings is None:
                failed.append((trial, f"the rows of trial {source} do not tell what it is made of"))
            else:
                ready.append(replace(trial, **settings))
    return Second(tuple(ready), tuple(failed))


def run(
    trials: "Sequence[TrialSpecification]",
    arms: "Sequence[Arm]",
    folder: "StudyFolder",
    observer: Observer,
    run_trials: "Callable[[Sequence[TrialSpecification]], bool]",
) -> None:
    """Run trials, those that are made of others' rows last; unless somebody interrupts it before.

    Args:
        trials: what has to run.
        arms: of the plan.
        folder: of the study, where the rows are.
        observer: told of trials that can never be made.
        run_trials: runs trials and returns whether nobody interrupted it.
    """
    first = first_wave(trials, arms)
    if first and not run_trials(first):
        return
    second = second_wave(trials, arms, folder)
    for trial, reason in second.failed:
        observer.trial_started(trial)
        observer.trial_ended(trial, {"error": reason, "traceback": reason})
    if second.trials:
        run_trials(second.trials)


def frozen_mean(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> dict[str, Any] | None:
    """Return the settings of a trial with the mean weights of another, over all its steps and on their own scale.

    The scale goes to the losses, as fixed weights sum to 1. Negative weights count as 0, as they do for the heads.

    Args:
        rows: of the other trial's epochs.
        tasks: names in order.

    Returns:
        ``strategy`` and ``loss_scales`` of the specification; None where a row has no mean weight, or all are 0.

    >>> frozen_mean([{"mean_weight/a": 1.0, "mean_weight/b": 3.0}, {"mean_weight/a": 3.0, "mean_weight/b": 1.0}], "ab")
    {'strategy': {'name': 'static', 'options': {'weights': [0.5, 0.5]}}, 'loss_scales': {'a': 4.0, 'b': 4.0}}
    """
    means = [_mean(rows, f"mean_weight/{task}") for task in tasks]
    positive = [max(mean, 0.0) for mean in means]
    total = math.fsum(positive)
    if not math.isfinite(math.fsum(means)) or total <= 0:
        return None
    weights = [weight / total for weight in positive]
    weights[-1] = max(0.0, 1.0 - math.fsum(weights[:-1]))  # simplex points sum to 1 to the last digit
    scales = {} if math.isclose(total, 1.0, rel_tol=1e-6) else dict.fromkeys(tasks, total)
    return {"strategy": {"name": "static", "options": {"weights": weights}}, "loss_scales": scales}


def step_length(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> dict[str, Any] | None:
    r"""Return the settings of a trial with equal weights whose gradient is as long as that of another on average.

    The losses are multiplied by the mean of :math:`|\sum_i w_i g_i|` over that of :math:`|\sum_i g_i / T|`, both at the
    last shared layer, from the lengths and angles that the probes of each epoch measured.

    Returns:
        ``strategy`` and ``loss_scales`` of the specification; None where there were no probes.
    """
    own = [_length(row, tasks, "effective") for row in rows]
    equal = [_length(row, tasks, "norm") / len(tasks) for row in rows]
    known = [(one, other) for one, other in zip(own, equal, strict=True) if math.isfinite(one + other)]
    below = math.fsum(other for _, other in known)
    if not below or not (ratio := math.fsum(one for one, _ in known) / below):
        return None
    return {"strategy": {"name": "equal", "options": {}}, "loss_scales": dict.fromkeys(tasks, ratio)}


def _length(row: Mapping[str, Any], tasks: Sequence[str], kind: str) -> float:
    """Return the length of a sum of gradients, from their lengths and the cosines between them."""
    lengths = {task: float(row.get(f"gradient/{kind}/{task}", math.nan)) for task in tasks}
    pairs: Iterator[tuple[str, str]] = combinations(tasks, 2)
    cross = math.fsum(
        2 * lengths[one] * lengths[other] * float(row.get(f"gradient/cosine/{one}:{other}", 0.0))
        for one, other in pairs
    )
    squares = math.fsum(length**2 for length in lengths.values()) + cross
    return math.nan if math.isnan(squares) else math.sqrt(max(squares, 0.0))


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [float(row.get(name, math.nan)) for row in rows]
    return math.fsum(values) / len(values) if values else math.nan
