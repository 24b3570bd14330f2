"""One trial in plain PyTorch: built from its specification, trained epoch by epoch, resumable, one row an epoch."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import strategies
from strategies import Strategy
from trainables import checkpoint, memory, multilabel, networks
from trainables.batch import Batch
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
from trainables.rows import Row, Scoring, means, medians
from trainables.specification import TrialSpecification
from trainables.tasks import Task, class_weights
from trainables.trial_data import data_of

CHECKPOINT_SECONDS = float(os.environ.get("STUDY_CHECKPOINT_SECONDS", 30.0))
"""A checkpoint is written after the first epoch that ends this long after the one before, and at the end.

Half a minute is what a kill may cost; ``STUDY_CHECKPOINT_SECONDS`` says otherwise, as for machines
that are often taken away.
"""


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


class Session:
    """A trial that is advanced epoch by epoch; picks up where its last checkpoint left off.

    Args:
        specification: what to train.
        device: where; None picks the first GPU this process may use, else the CPU.
        saved: called whenever a checkpoint has been written.

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
        self._data, self._tested, self._units, self._source = data_of(specification)
        folds = None if specification.fold is None else self._data["train"]
        self._scoring = Scoring(self.tasks, specification.reference_weights, folds)
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
        weights = self._raw_weights
        row |= {f"train/nll/{name}": loss for name, loss in outcome.losses.items()}
        row |= self._scoring.joint_losses("train", outcome.losses, weights)
        row |= self._scoring.scores("valid", self._evaluate("valid"), weights)
        row |= self._scoring.weights(weights)
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
        position: Row = {"kind": "final", "epoch": self.best.row["epoch"], "step": self.learner.step}
        thresholds, outputs = self._thresholds(), self._evaluate("test")
        self.predictions = predictions_of(self.tasks, self._tested, outputs, self._units, thresholds)
        scores = self._scoring.scores("test", outputs, self._raw_weights)
        scores |= self._scoring.searched("test", outputs, thresholds) | self._scoring.weights(self._raw_weights)
        return position | chosen | scores | means(self._rows, "gradient/") | medians(self._rows, "time/", "memory/")

    def _thresholds(self) -> dict[str, NDArray[np.float32]]:
        """Return multilabel task -> log odds above which a class is a yes, the best on validation, ``(K,)``."""
        several = [task.name for task in self.tasks if task.kind == "multilabel"]
        outputs = self._evaluate("valid") if several else {}
        return {name: multilabel.best_thresholds(*outputs[name]) for name in several}

    def _learning_rates(self) -> Row:
        """Return the learning rates of the coming epoch; the strategy has one if it has parameters."""
        groups = zip(("network", "strategy"), self.learner.optimizer.param_groups, strict=False)
        return {f"learning_rate/{name}": float(group["lr"]) for name, group in groups}

    def _evaluate(self, split: str) -> Outputs:
        with closing(self._data[split].ordered(pinned=self._pinned)) as batches:
            return evaluate(self.learner.network, batches, self.tasks, self.device)

    @property
    def _raw_weights(self) -> list[float]:
        return list(self.learner.strategy.last_weights.tolist())

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
            "specification": self.specification.comparable(),
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
                best = {"specification": self.specification.comparable(), "epoch": self.epoch}
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
        if state is not None and state["specification"] == self.specification.comparable():
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
