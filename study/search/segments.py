"""The words of a search: methods, configurations, segments of training, and blocks of seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any, Literal

from study.search.settings import Objective
from study.search.space import Space, Values

SELECTION = "valid/joint_nll"
"""What the epoch of a trial is chosen by, as in a study (``trainables.session``)."""

Key = tuple[str, int, int, int, int]
"""Of a segment: method, number of the configuration, seed, last epoch, attempt."""

State = Literal["running", "waiting", "stopped", "full", "failed"]
"""Of a block: training; paused and possibly never going on; ended by the scheduler; trained to the end; failed."""


@dataclass(frozen=True)
class Method:
    """What gets a budget of its own: an arm of the definition, or the whole static grid.

    Attributes:
        name: unique, also in file names.
        space: its hyperparameters.
        defaults: what the definition says for all of them, tried first, inside of the space or not; empty for none.
        points: configurations that are tried next, such as those of an earlier study.
    """

    name: str
    space: Space
    defaults: Values = field(default_factory=dict)
    points: tuple[Values, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """Values of a method's hyperparameters.

    Attributes:
        method: name of the method.
        number: counted from 0 within the method.
        values: hyperparameter -> value.
        origin: ``default`` (the definition's own), ``given`` (an earlier study's), ``random`` (drawn without looking at
            results), ``searcher`` (suggested from results), ``grid`` or ``scheduler`` (perturbed).
    """

    method: str
    number: int
    values: Values
    origin: str = "searcher"


@dataclass(frozen=True)
class Parent:
    """The checkpoint that a segment begins from: that of another configuration of the same method, for the same seed.

    Attributes:
        configuration: number of the donor.
        epoch: epochs done in that checkpoint.
    """

    configuration: int
    epoch: int


@dataclass(frozen=True)
class Segment:
    """A stretch of the training of one configuration with one seed.

    Attributes:
        configuration: what is trained.
        seed: with which seed.
        first: epochs done before it.
        until: epochs done after it; a checkpoint is then written, and kept as long as the search lasts.
        parent: whose checkpoint it begins from; None for its own, or for none where ``first`` is 0.
        attempt: how often it was tried before.
    """

    configuration: Configuration
    seed: int
    first: int
    until: int
    parent: Parent | None = None
    attempt: int = 0

    @property
    def trial(self) -> str:
        """Name of the trial, the same for all segments of a configuration and seed."""
        return trial_name(self.configuration.method, self.configuration.number, self.seed)

    @property
    def parent_trial(self) -> str | None:
        """Name of the trial whose checkpoint it begins from, None for its own."""
        if self.parent is None:
            return None
        return trial_name(self.configuration.method, self.parent.configuration, self.seed)

    @property
    def key(self) -> Key:
        """What tells it from all other segments of a search."""
        return self.configuration.method, self.configuration.number, self.seed, self.until, self.attempt


def trial_name(method: str, configuration: int, seed: int) -> str:
    """Return the name of the trial of a configuration with a seed.

    >>> trial_name("gradnorm", 3, 1001)
    'gradnorm-c003-seed1001'
    """
    return f"{method.replace(' ', '_')}-c{configuration:03d}-seed{seed}"


def split_name(trial: str, methods: Iterable[str]) -> tuple[str, int, int] | None:
    """Return the method, configuration and seed of the trial of that name; None if it is none of these methods.

    >>> split_name("static_grid-c003-seed1001", ["static grid"])
    ('static grid', 3, 1001)
    """
    stem, _, seed = trial.rpartition("-seed")
    name, _, number = stem.rpartition("-c")
    method = next((each for each in methods if each.replace(" ", "_") == name), None)
    if method is None or not seed.isdigit() or not number.isdigit():
        return None
    return method, int(number), int(seed)


@dataclass(frozen=True)
class Told:
    """What became of a segment.

    Attributes:
        values: metric -> its value after each epoch of the segment.
        failure: why it ended early, None if it did not.
        seconds: of training.
        at: seconds of searching until then, without pauses of the search.
    """

    values: Mapping[str, Sequence[float]]
    failure: str | None
    seconds: float
    at: float


@dataclass
class Block:
    """A configuration on all tuning seeds, which go on or stop together.

    Attributes:
        configuration: what is trained.
        objectives: what is searched for.
        epochs: epochs done by all seeds.
        until: epochs that its segment under way leads to.
        curves: seed -> metric -> value after each epoch, counted from the first, the donor's epochs included.
        state: see ``State``.
        parent: the donor of its first epochs.
        failure: why it failed.
        seconds: of training, of all seeds.
    """

    configuration: Configuration
    objectives: tuple[Objective, ...]
    epochs: int = 0
    until: int = 0
    curves: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    state: State = "running"
    parent: Parent | None = None
    failure: str | None = None
    seconds: float = 0.0

    @property
    def number(self) -> int:
        """Number of the configuration."""
        return self.configuration.number

    def forget(self) -> None:
        """Forget what a segment that failed has left behind, as it is tried again."""
        self.failure = None
        self.curves = {
            seed: {metric: values[: self.epochs] for metric, values in curve.items()}
            for seed, curve in self.curves.items()
        }
        self._by_epoch.clear()
        self._running_means.clear()
        self._loss_by_epoch.clear()

    @cached_property
    def _by_epoch(self) -> dict[int, dict[int, tuple[float, ...]]]:
        return {}

    @cached_property
    def _running_means(self) -> dict[int, float]:
        return {}

    @cached_property
    def _loss_by_epoch(self) -> dict[int, float]:
        return {}

    def losses(self, epoch: int) -> dict[int, tuple[float, ...]]:
        """Return seed -> the objectives, smaller is better, at the best of the first ``epoch`` epochs.

        As in a study, a trial counts with its epoch of the least joint loss on validation; where rows have none, with
        that of the best first objective.
        """
        if epoch not in self._by_epoch:
            self._by_epoch[epoch] = {seed: self._selected(curve, epoch) for seed, curve in self.curves.items()}
        return self._by_epoch[epoch]

    def _selected(self, curve: Mapping[str, Sequence[float]], epoch: int) -> tuple[float, ...]:
        first = self.objectives[0]
        judged = curve.get(SELECTION) or [first.loss(value) for value in curve[first.column]]
        finite = [number for number, value in enumerate(judged[:epoch]) if math.isfinite(value)]
        if not finite:
            return (math.nan,) * len(self.objectives)
        chosen = min(finite, key=lambda number: judged[number])
        return tuple(objective.loss(curve[objective.column][chosen]) for objective in self.objectives)

    def means(self, epoch: int | None = None) -> tuple[float, ...]:
        """Return the objectives, smaller is better, as means over the seeds; of all epochs unless said otherwise."""
        return tuple(map(fmean, zip(*self.losses(epoch or self.epochs).values(), strict=True)))

    def loss(self, epoch: int | None = None) -> float:
        """Return the first objective as a mean over the seeds; smaller is better."""
        at = epoch or self.epochs
        if at not in self._loss_by_epoch:
            self._loss_by_epoch[at] = self.means(at)[0]
        return self._loss_by_epoch[at]

    def joint_loss(self) -> float | None:
        """Return the joint loss on validation at the epochs that count, as a mean over the seeds; None without one."""
        curves = [curve.get(SELECTION, []) for curve in self.curves.values()]
        best = [
            min((value for value in curve[: self.epochs] if math.isfinite(value)), default=None) for curve in curves
        ]
        known = [value for value in best if value is not None]
        return fmean(known) if known and len(known) == len(best) else None

    def latest(self, epoch: int) -> float:
        """Return the first objective right after an epoch, as a mean over the seeds; smaller is better.

        That is what a checkpoint of that epoch goes on from; infinite where it is no number.
        """
        objective = self.objectives[0]
        mean = fmean(objective.loss(curve[objective.column][epoch - 1]) for curve in self.curves.values())
        return mean if math.isfinite(mean) else math.inf

    def running_mean(self, epoch: int) -> float:
        """Return the mean of the first objective over the first epochs and all seeds; smaller is better."""
        if epoch not in self._running_means:
            finite = [value for value in map(self.latest, range(1, epoch + 1)) if math.isfinite(value)]
            self._running_means[epoch] = fmean(finite) if finite else math.inf
        return self._running_means[epoch]


@dataclass(frozen=True)
class Stage:
    """Epochs of a training that have the same hyperparameters.

    Attributes:
        first: epochs done before.
        until: epochs done after.
        values: hyperparameter -> value.
    """

    first: int
    until: int
    values: Mapping[str, Any]
