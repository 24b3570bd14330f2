"""One trial in plain PyTorch: built from its specification, trained epoch by epoch, resumable, one row an epoch."""

import functools
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import strategies
from strategies import Strategy
from trainables import checkpoint, memory, multilabel, networks
from trainables.batch import Batch
from trainables.corpora import Batches, Store, open_place, split_for_tasks, units_of
from trainables.errors import TrainingError
from trainables.loop import (
    EpochOutcome,
    Learner,
    TrainingSettings,
    evaluate,
    make_optimizer,
    make_scheduler,
    train_epoch,
)
from trainables.networks import Network
from trainables.predictions import Outputs, Predictions, predictions_of
from trainables.tasks import MISSING, Task, class_weights, joint_loss, normalised, score

Row = dict[str, float | int | str]
"""What a trial reports after an epoch."""

PER_CLASS = ("uar", "macro_f1", "searched_uar", "searched_macro_f1")
"""Metrics that are means over classes."""

CHECKPOINT_SECONDS = float(os.environ.get("STUDY_CHECKPOINT_SECONDS", 30.0))
"""A checkpoint is written after the first epoch that ends this long after the one before, and at the end.

Half a minute is what a kill may cost; ``STUDY_CHECKPOINT_SECONDS`` says otherwise, as for machines
that are often taken away.
"""


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


def build_network(settings: Mapping[str, Any], tasks: Sequence[Task]) -> Network:
    """Return the network of a specification, freshly initialised from torch's generator."""
    return networks.create(
        settings["name"],
        preset=settings["preset"],
        modalities=settings["modalities"],
        tasks=tasks,
        options=settings["options"],
    )


def build_strategy(settings: Mapping[str, Any], tasks: Sequence[Task], seed: int) -> Strategy:
    """Return the strategy of a specification, told what the tasks are."""
    strategy = strategies.create(settings["name"], len(tasks), **settings["options"])
    strategy.setup([task.facts for task in tasks], seed)
    return strategy


@dataclass
class Best:
    """The network that did best on validation so far, by the joint loss at the reference weights."""

    joint_nll: float = math.inf
    row: Row = field(default_factory=dict)
    network: dict[str, Tensor] = field(default_factory=dict)


class _Data(NamedTuple):
    """The corpus as a trial sees it: batches of each part, names of the test utterances, units of the ratings.

    ``source`` is the name and the options of the corpus.
    """

    parts: dict[str, Batches]
    tested: NDArray[np.str_]
    units: dict[str, tuple[float, float]]
    source: dict[str, Any]


class Session:
    """A trial that is advanced epoch by epoch; picks up where its last checkpoint left off.

    Args:
        specification: what to train.
        device: where; None picks the first GPU this process may use, else the CPU.

    Attributes:
        predictions: what the chosen network says of the test utterances; None until the final row.

    Raises:
        UserError: the specification cannot be built.
    """

    def __init__(
        self,
        specification: TrialSpecification,
        device: torch.device | None = None,
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        self.specification = specification
        self._saved = saved
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tasks = specification.make_tasks()
        self.epoch = 0
        self.best = Best()
        self._rows: list[Row] = []
        self._notes: list[str] = []
        self._saved_at = time.monotonic()
        self.predictions: Predictions | None = None
        data = _data_of(specification)
        self._data, self._tested, self._units, self._source = data
        self.learner = self._build(specification.at(0))
        self._resume()

    def _build(self, specification: TrialSpecification) -> Learner:
        torch.manual_seed(specification.seed)
        settings = TrainingSettings(**specification.training)
        network = build_network(specification.network, self.tasks).to(self.device)
        strategy = build_strategy(specification.strategy, self.tasks, specification.seed).to(self.device)
        optimizer = make_optimizer(network, strategy, settings)
        scheduler = make_scheduler(optimizer, settings)
        weights = self._class_weights() if settings.class_weights else {}
        steps = math.ceil(len(self._data["train"]) / settings.batch_size)
        return Learner(
            network,
            strategy,
            self.tasks,
            optimizer,
            scheduler,
            settings,
            self.device,
            class_weights=weights,
            loss_scales=self.specification.loss_scales,
            steps_per_epoch=steps,
        )

    def longest_batch(self) -> Batch:
        """Return a batch of the longest training utterances."""
        return self._data["train"].longest()

    def run(self) -> Iterator[Row]:
        """Train to the end; yield one row an epoch and last the final row, the only one that saw the test split.

        A trial that goes on from a checkpoint first yields the rows of the epochs in it again: a process that was
        killed may have saved an epoch and never delivered its row. A trial that pauses has no final row.

        Raises:
            TrainingError: a loss or gradient is not finite.
        """
        yield from [row for row in self._rows if self.specification.first < int(row["epoch"]) <= self._last]
        while self.epoch < self._last:
            yield self._advance()
        self._save()
        if self.specification.until is None:
            yield self._final_row()

    @property
    def _last(self) -> int:
        """The epoch after which training ends or pauses."""
        epochs, until = self.learner.settings.epochs, self.specification.until
        return epochs if until is None else min(until, epochs)

    def take_notes(self) -> list[str]:
        """Return what the user should know since this was asked last: checkpoints that cannot be read or written."""
        notes, self._notes = self._notes, []
        return notes

    def _advance(self) -> Row:
        if any(change["epoch"] == self.epoch for change in self.specification.changes):
            self._restore(self.state_dict())
        memory.reset_peak(self.device)
        self._seed_epoch()
        self.learner.network.begin_epoch(self.epoch, self.learner.settings.epochs)
        rates = self._learning_rates()
        with closing(self._data["train"].epoch(self.specification.seed, self.epoch, pinned=self._pinned)) as batches:
            outcome = train_epoch(self.learner, batches)
        self.epoch += 1
        row = self._epoch_row(outcome) | rates
        self._rows.append(row)
        self._keep_best(row)
        due = time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS
        if due and self.epoch < self._last:  # the end is saved in any case
            self._save()
        return row

    @property
    def _pinned(self) -> bool:
        return self.device.type == "cuda"

    def _seed_epoch(self) -> None:
        """Make dropout a function of seed and epoch alone.

        A resumed epoch then repeats an uninterrupted one, and an arm that draws random numbers does not change the
        dropout masks it shares with the other arms.
        """
        state = np.random.SeedSequence([self.specification.seed, self.epoch]).generate_state(1)
        torch.manual_seed(int(state[0]))

    # rows ----------------------------------------------------------------------------------------------------------

    def _epoch_row(self, outcome: EpochOutcome) -> Row:
        row: Row = {"kind": "epoch", "epoch": self.epoch, "step": self.learner.step}
        row |= {f"train/nll/{name}": loss for name, loss in outcome.losses.items()}
        row |= self._joint_losses("train", outcome.losses)
        row |= self._scores("valid", self._evaluate("valid")) | self._weights()
        row |= outcome.diagnostics
        timing: Row = {
            "time/step_ms": 1000.0 * outcome.seconds / max(outcome.steps, 1),
            "time/epoch_s": outcome.seconds,
            "time/diagnostics_s": outcome.diagnostics_seconds,
            "memory/peak_mb": memory.peak_mb(self.device),
        }
        return row | timing

    def _final_row(self) -> Row:
        """Score the chosen network on the test split.

        Weights are those at the end of training, gradients the means and costs the medians over epochs.
        """
        self.learner.network.load_state_dict(self.best.network)
        chosen = {name: value for name, value in self.best.row.items() if name.startswith(("train/", "valid/"))}
        costs: Row = {
            name: statistics.median(float(row[name]) for row in self._rows)
            for name in self._rows[0]
            if name.startswith(("time/", "memory/"))
        }
        position: Row = {"kind": "final", "epoch": self.best.row["epoch"], "step": self.learner.step}
        thresholds, outputs = self._thresholds(), self._evaluate("test")
        self.predictions = predictions_of(self.tasks, self._tested, outputs, self._units, thresholds)
        means = _means(self._rows, "gradient/")
        scores = self._scores("test", outputs) | self._searched(outputs, thresholds)
        return position | chosen | scores | self._weights() | means | costs

    def _thresholds(self) -> dict[str, NDArray[np.float32]]:
        """Return multilabel task -> log odds above which a class is a yes, the best on validation, ``(K,)``."""
        several = [task.name for task in self.tasks if task.kind == "multilabel"]
        outputs = self._evaluate("valid") if several else {}
        return {name: multilabel.best_thresholds(*outputs[name]) for name in several}

    def _searched(self, outputs: Outputs, thresholds: Mapping[str, NDArray[np.float32]]) -> Row:
        return {
            f"test/{metric}/{task.name}": value
            for task in self.tasks
            if task.name in thresholds
            for metric, value in multilabel.scores_at(thresholds[task.name], *outputs[task.name]).items()
            if metric not in PER_CLASS or self._has_all_classes(task, outputs[task.name][1])
        }

    def _learning_rates(self) -> Row:
        """Return the learning rates of the coming epoch; the strategy has one if it has parameters."""
        groups = zip(("network", "strategy"), self.learner.optimizer.param_groups, strict=False)
        return {f"learning_rate/{name}": float(group["lr"]) for name, group in groups}

    def _evaluate(self, split: str) -> Outputs:
        with closing(self._data[split].ordered(pinned=self._pinned)) as batches:
            return evaluate(self.learner.network, batches, self.tasks, self.device)

    def _scores(self, split: str, outputs: Outputs) -> Row:
        scores = {task.name: score(task, *outputs[task.name]) for task in self.tasks}
        row: Row = {
            f"{split}/{metric}/{task.name}": value
            for task in self.tasks
            for metric, value in scores[task.name].items()
            if metric not in PER_CLASS or self._has_all_classes(task, outputs[task.name][1])
        }
        return row | self._joint_losses(split, {name: metrics["nll"] for name, metrics in scores.items()})

    def _has_all_classes(self, task: Task, labels: NDArray[np.generic]) -> bool:
        """Whether a mean over classes tells something: not where a fold lacks classes that training has."""
        if self.specification.fold is None:
            return True
        if task.kind == "multilabel":
            return multilabel.has_both(labels, self._data["train"].labels(task.name))
        return bool(np.isin(self._data["train"].labels(task.name), [*np.unique(labels), MISSING]).all())

    def _joint_losses(self, split: str, losses: Mapping[str, float]) -> Row:
        own = dict(zip(losses, normalised(self.learner.strategy.last_weights.tolist()), strict=True))
        return {
            f"{split}/joint_nll": joint_loss(losses, self.specification.reference_weights),
            f"{split}/weighted_nll": joint_loss(losses, own),
        }

    def _weights(self) -> Row:
        raw = self.learner.strategy.last_weights.tolist()
        names = [task.name for task in self.tasks]
        row: Row = {f"weight/{name}": weight for name, weight in zip(names, normalised(raw), strict=True)}
        return row | {f"raw_weight/{name}": weight for name, weight in zip(names, raw, strict=True)}

    def _class_weights(self) -> dict[str, Tensor]:
        train = self._data["train"]
        return {
            task.name: class_weights(task, train.labels(task.name)).to(self.device)
            for task in self.tasks
            if task.kind != "regression"
        }

    # checkpoints ---------------------------------------------------------------------------------------------------

    def _keep_best(self, row: Row) -> None:
        criterion = self.specification.criterion
        joint = float(row["valid/joint_nll"]) if criterion is None else _weighted(row, criterion)
        if joint < self.best.joint_nll or not self.best.network:
            state = {name: value.detach().clone() for name, value in self.learner.network.state_dict().items()}
            self.best = Best(joint, row, state)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on after the current epoch.

        The best network is part of it: in a file of its own it could be of a later epoch than the rest.
        Generators need no place in it: data order and dropout are functions of the seed and the epoch, and a strategy
        keeps its own generator in its state.
        """
        learner = self.learner
        return {
            "specification": _comparable(self.specification),
            "epoch": self.epoch,
            "step": learner.step,
            "rows": self._rows,
            "best": dict(vars(self.best)),
            "network": learner.network.state_dict(),
            "strategy": learner.strategy.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "scheduler": learner.scheduler.state_dict(),
        }

    def _save(self) -> None:
        """Write ``last.pt``, where to go on, and after training ``best.pt``, the chosen network.

        A trial whose checkpoint cannot be written goes on all the same: all it loses is the way to go on after a kill.
        """
        self._saved_at = time.monotonic()
        if self.specification.folder is None:
            return
        folder = Path(self.specification.folder)
        try:
            checkpoint.save(folder / checkpoint.LAST, self.state_dict(), folder / checkpoint.PREVIOUS)
            if self.epoch >= self.learner.settings.epochs and self.specification.until is None:
                best = {"specification": _comparable(self.specification), "epoch": self.epoch}
                best |= {"units": {name: list(pair) for name, pair in self._units.items()}, "corpus": self._source}
                checkpoint.save(folder / checkpoint.BEST, vars(self.best) | best)
            self._saved()
        except TrainingError as failure:
            self._notes.append(f"{failure}; the trial goes on without it")

    def _resume(self) -> None:
        """Go on from the last checkpoint that can be read; those of another specification are ignored."""
        if self.specification.folder is None:
            return
        state, problems = checkpoint.latest(Path(self.specification.folder), self.device)
        if state is not None and state["specification"] == _comparable(self.specification):
            self._restore(state)
        elif self.specification.parent is not None:
            self._restore(self._parents_state(self.specification.parent))
        where = f"goes on after epoch {self.epoch}, from the one before" if self.epoch else "starts anew"
        self._notes += [f"{problem}; the trial {where}" for problem in problems]

    def _parents_state(self, parent: str) -> dict[str, Any]:
        path = Path(str(self.specification.folder)).parent / parent
        if not path.exists():
            raise TrainingError(f"trial {self.specification.trial} begins from {path}, which is not there")
        return checkpoint.load(path, self.device)

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state with the learning rates, weight decay and options that the specification has there."""
        if self.specification.changes:
            self.learner = self._build(self.specification.at(state["epoch"]))
        learner = self.learner
        wanted = [dict(group) for group in learner.optimizer.param_groups]
        schedule = {name: value for name, value in vars(learner.scheduler).items() if name in _SCHEDULE}
        try:
            learner.network.load_state_dict(state["network"])
            learner.strategy.load_state_dict(state["strategy"])
            learner.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as failure:
            reason = " ".join(str(failure).split())[:200]
            raise TrainingError(f"a checkpoint does not fit trial {self.specification.trial}: {reason}") from failure
        learner.scheduler.load_state_dict(state["scheduler"])
        vars(learner.scheduler).update(schedule)
        for group, own in zip(learner.optimizer.param_groups, wanted, strict=True):
            group["lr"] *= own["initial_lr"] / group["initial_lr"]
            group.update({name: own[name] for name in _GROUP})
        learner.step, self.epoch, self._rows = state["step"], state["epoch"], list(state["rows"])
        self.best = Best(**state["best"])


_SCHEDULE = ("base_lrs", "gamma", "step_size", "T_max")
"""What of a learning-rate schedule is an option and not state."""
_GROUP = ("initial_lr", "weight_decay")
"""What of a group of parameters is an option and not state."""


def _weighted(row: Row, weights: Mapping[str, float]) -> float:
    return math.fsum(weight * float(row[f"valid/nll/{task}"]) for task, weight in weights.items())


def _means(rows: Sequence[Row], kind: str) -> Row:
    """Return the mean of every value whose name starts with ``kind`` over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(kind))
    return {name: statistics.fmean(float(row[name]) for row in rows if name in row) for name in names}


_ELSEWHERE = {"folder", "store", "first", "until", "parent"}
"""What of a specification changes no number of an epoch: where files are, and how far a segment goes."""


_SELDOM = ("changes", "loss_scales", "criterion")
"""What checkpoints from before there was this setting do not name."""


def _comparable(specification: TrialSpecification) -> str:
    """Return what must agree between a checkpoint and the trial that goes on from it."""
    values = {name: value for name, value in specification.as_dict().items() if name not in _ELSEWHERE}
    values = {name: value for name, value in values.items() if value or name not in _SELDOM}
    training = {name: value for name, value in values["training"].items() if name != "diagnose_every"}
    for setting in ("soft_labels", "clip_strategy"):
        if not training.get(setting):  # checkpoints from before there was this setting do not name it
            training.pop(setting, None)
    values["training"] = training
    return json.dumps(values, sort_keys=True)


def _data_of(specification: TrialSpecification) -> _Data:
    """Return the corpus as a trial sees it; trials in one process share what was read, whatever their networks read."""
    data = _load_data(_data_key(specification))
    modalities, size = specification.network["modalities"], specification.training["batch_size"]
    return data._replace(parts={name: part.reading(modalities, size) for name, part in data.parts.items()})


def _data_key(specification: TrialSpecification) -> str:
    """Return what decides the utterances of a trial, their length and labels; what of them is read comes later."""
    network = specification.network
    seconds = networks.input_settings(network["name"], network["preset"], network["options"]).max_seconds
    values = {name: value for name, value in specification.as_dict().items() if name in ("store", "split", "tasks")}
    soft = bool(specification.training.get("soft_labels"))
    return json.dumps(values | {"max_seconds": seconds, "soft_labels": soft}, sort_keys=True)


@functools.lru_cache(maxsize=2)
def _open(path: str) -> Store:
    return open_place(path)


@functools.lru_cache(maxsize=1)
def _load_data(key: str) -> _Data:
    """Return the corpus for a key of ``_data_key``, no media read yet; trials that follow in the process reuse it.

    One at a time: a corpus may take as much memory as ``Batches`` allows.
    """
    values = json.loads(key)
    store = _open(values["store"])
    tasks = [Task.from_dict(task) for task in values["tasks"]]
    chosen = values["split"]
    pooled = bool(chosen.get("pooled"))
    split = split_for_tasks(chosen["protocol"], store.table, tasks, chosen["options"], pooled=pooled)
    units = units_of(store, tasks, split.train)
    parts = {
        name: Batches(
            store,
            getattr(split, name),
            tasks,
            (),
            1,
            values["max_seconds"],
            units,
            soft_labels=values["soft_labels"] and name == "train",
        )
        for name in ("train", "valid", "test")
    }
    source = {"name": store.manifest["corpus"], "options": store.manifest["options"]}
    return _Data(parts, store.table["utterance"].iloc[split.test].to_numpy(dtype=np.str_), units, source)
