"""What decides a trial's numbers, in plain values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from trainables.tasks import Task

_ELSEWHERE = {"folder", "store", "first", "until", "parent"}
"""What of a specification changes no number of an epoch: where files are, and how far a segment goes."""
_SELDOM = ("changes", "loss_scales", "criterion")
"""What checkpoints from before there was this setting do not name."""


@dataclass(frozen=True)
class TrialSpecification:
    """Everything that decides a trial's numbers; plain values, so that it travels to any worker.

    Attributes:
        trial: unique name, such as ``softmax-seed0``.
        arm: the arm it belongs to.
        seed: decides initialisation, data order and dropout; shared by all arms.
        store: path of the prepared corpus.
        split: ``protocol`` and its ``options``; ``pooled`` if it is one fold of several that are tested as one pool.
        network: ``name``, ``preset``, ``modalities`` and ``options``.
        strategy: ``name`` and ``options``.
        tasks: ``name``, ``classes`` and ``kind`` of each task, see ``Task.as_dict``.
        training: see ``TrainingSettings``.
        reference_weights: task -> weight of the joint loss that checkpoints and arms are judged by; sums to 1.
        folder: where checkpoints are kept; None keeps the best network in memory and cannot resume.
        first: epochs that segments of the trial before this one have trained and reported.
        until: epoch after which the trial pauses: a checkpoint is written, and the test split is not looked at. None
            trains to the end.
        parent: checkpoint that a trial without one of its own begins from, such as ``equal-c0-seed1000/epoch-3.pt`` in
            the folder that holds ``folder``; training and strategy are its own, whatever the other trial's were.
        loss_scales: task -> factor of its loss in training; what is reported is without it.
        criterion: task -> weight of the loss on validation that the network is chosen by; None for the reference
            weights.
        changes: ``epoch``, ``training`` and ``options`` of the strategy: values that hold once so many epochs are done.
    """

    trial: str
    arm: str
    seed: int
    store: str
    split: Mapping[str, Any]
    network: Mapping[str, Any]
    strategy: Mapping[str, Any]
    tasks: Sequence[Mapping[str, Any]]
    training: Mapping[str, Any]
    reference_weights: Mapping[str, float]
    folder: str | None = None
    first: int = 0
    until: int | None = None
    parent: str | None = None
    changes: Sequence[Mapping[str, Any]] = ()
    loss_scales: Mapping[str, float] = field(default_factory=dict)
    criterion: Mapping[str, float] | None = None

    @property
    def fold(self) -> int | None:
        """The fold it tests on, in a study over folds; else None."""
        return int(self.split["options"]["fold"]) if self.split.get("pooled") else None

    def as_dict(self) -> dict[str, Any]:
        """Return the specification as plain dictionaries and lists."""
        return asdict(self)

    def at(self, epoch: int) -> "TrialSpecification":
        """Return the specification with the values that hold once ``epoch`` epochs are done."""
        found = self
        for change in sorted(self.changes, key=lambda change: int(change["epoch"])):
            if change["epoch"] <= epoch:
                options = {**found.strategy["options"], **change.get("options", {})}
                training = {**found.training, **change.get("training", {})}
                found = replace(found, training=training, strategy={**found.strategy, "options": options})
        return found

    def make_tasks(self) -> tuple[Task, ...]:
        """Return the tasks in the order of the network's heads and the strategy's weights."""
        return tuple(map(Task.from_dict, self.tasks))

    def comparable(self) -> str:
        """Return what must agree between a checkpoint and the trial that goes on from it."""
        values = {name: value for name, value in self.as_dict().items() if name not in _ELSEWHERE}
        values = {name: value for name, value in values.items() if value or name not in _SELDOM}
        training = {name: value for name, value in values["training"].items() if name != "diagnose_every"}
        for setting in ("soft_labels", "clip_strategy"):
            if not training.get(setting):  # checkpoints from before there was this setting do not name it
                training.pop(setting, None)
        values["training"] = training
        return json.dumps(values, sort_keys=True)
