"""One trial in plain PyTorch: built from its specification, trained epoch by epoch, resumable, one row an epoch."""

import functools
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import strategies
from strategies import Strategy
from trainables import checkpoint, memory, networks
from trainables.corpora import Batches, Store, open_place, split_for_tasks, units_of
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
from trainables.tasks import Task, balanced_class_weights, joint_loss, normalised, score

Row = dict[str, float | int | str]
"""What a trial reports after an epoch."""

CHECKPOINT_SECONDS = 30.0
"""A checkpoint is written after the first epoch that ends this long after the one before, and at the end."""


@dataclass(frozen=True)
class TrialSpecification:
    """Everything that decides a trial's numbers; plain values, so that it travels to any worker.

    Attributes:
        trial: unique name, such as ``softmax-seed0``.
        arm: the arm it belongs to.
        seed: decides initialisation, data order and dropout; shared by all arms.
        store: path of the prepared corpus.
        split: ``protocol`` and its ``options``.
        network: ``name``, ``preset``, ``modalities`` and ``options``.
        strategy: ``name`` and ``options``.
        tasks: ``name``, ``classes`` and ``kind`` of each task.
        training: see ``TrainingSettings``.
        reference_weights: task -> weight of the joint loss that checkpoints and arms are judged by; sums to 1.
        folder: where checkpoints are kept; None keeps the best network in memory and cannot resume.
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

    def as_dict(self) -> dict[str, Any]:
        """Return the specification as plain dictionaries and lists."""
        return asdict(self)

    def make_tasks(self) -> tuple[Task, ...]:
        """Return the tasks in the order of the network's heads and the strategy's weights."""
        return tuple(Task(task["name"], tuple(task["classes"]), task["kind"]) for task in self.tasks)


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

    Raises:
        UserError: the specification cannot be built.
        TrainingError: its checkpoint is damaged.
    """

    def __init__(self, specification: TrialSpecification, device: torch.device | None = None) -> None:
        self.specification = specification
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tasks = specification.make_tasks()
        self.epoch = 0
        self.best = Best()
        self._timings: list[Row] = []
        self._gradients: list[Row] = []
        self._saved_at = time.monotonic()
        self._data = _load_data(_data_key(specification))
        self.learner = self._build(TrainingSettings(**specification.training))
        self._resume()

    def _build(self, settings: TrainingSettings) -> Learner:
        torch.manual_seed(self.specification.seed)
        network = build_network(self.specification.network, self.tasks).to(self.device)
        strategy = build_strategy(self.specification.strategy, self.tasks, self.specification.seed).to(self.device)
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
            steps_per_epoch=steps,
        )

    def run(self) -> Iterator[Row]:
        """Train to the end; yield one row an epoch and last the final row, the only one that saw the test split.

        Raises:
            TrainingError: a loss or gradient is not finite.
        """
        while self.epoch < self.learner.settings.epochs:
            yield self._advance()
        self._save()
        yield self._final_row()

    def _advance(self) -> Row:
        memory.reset_peak(self.device)
        self._seed_epoch()
        rates = self._learning_rates()
        outcome = train_epoch(self.learner, self._data["train"].epoch(self.specification.seed, self.epoch))
        self.epoch += 1
        row = self._epoch_row(outcome) | rates
        self._keep_best(row)
        if time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS:
            self._save()
        return row

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
        row |= self._joint_losses("train", outcome.losses) | self._scores("valid") | self._weights()
        row |= outcome.diagnostics
        timing: Row = {
            "time/step_ms": 1000.0 * outcome.seconds / max(outcome.steps, 1),
            "time/epoch_s": outcome.seconds,
            "time/diagnostics_s": outcome.diagnostics_seconds,
            "memory/peak_mb": memory.peak_mb(self.device),
        }
        self._timings.append(timing)
        self._gradients.append({name: value for name, value in row.items() if name.startswith("gradient/")})
        return row | timing

    def _final_row(self) -> Row:
        """Score the chosen network on the test split.

        Weights are those at the end of training, gradients the means and costs the medians over epochs.
        """
        self.learner.network.load_state_dict(self.best.network)
        chosen = {name: value for name, value in self.best.row.items() if name.startswith(("train/", "valid/"))}
        costs: Row = {
            name: statistics.median(float(timing[name]) for timing in self._timings) for name in self._timings[0]
        }
        position: Row = {"kind": "final", "epoch": self.best.row["epoch"], "step": self.learner.step}
        return position | chosen | self._scores("test") | self._weights() | _means(self._gradients) | costs

    def _learning_rates(self) -> Row:
        """Return the learning rates of the coming epoch; the strategy has one if it has parameters."""
        groups = zip(("network", "strategy"), self.learner.optimizer.param_groups, strict=False)
        return {f"learning_rate/{name}": float(group["lr"]) for name, group in groups}

    def _scores(self, split: str) -> Row:
        outputs = evaluate(self.learner.network, self._data[split].ordered(), self.tasks, self.device)
        scores = {task.name: score(task, *outputs[task.name]) for task in self.tasks}
        row: Row = {
            f"{split}/{metric}/{name}": value for name, all_ in scores.items() for metric, value in all_.items()
        }
        return row | self._joint_losses(split, {name: metrics["nll"] for name, metrics in scores.items()})

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
            task.name: balanced_class_weights(train.labels(task.name), task.num_outputs).to(self.device)
            for task in self.tasks
            if task.kind == "classification"
        }

    # checkpoints ---------------------------------------------------------------------------------------------------

    def _keep_best(self, row: Row) -> None:
        joint = float(row["valid/joint_nll"])
        if joint < self.best.joint_nll or not self.best.network:
            state = {name: value.detach().clone() for name, value in self.learner.network.state_dict().items()}
            self.best = Best(joint, row, state)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on after the current epoch, except the best network.

        Generators need no place in it: data order and dropout are functions of the seed and the epoch, and a strategy
        keeps its own generator in its state.
        """
        learner = self.learner
        return {
            "specification": _comparable(self.specification),
            "epoch": self.epoch,
            "step": learner.step,
            "timings": self._timings,
            "gradients": self._gradients,
            "network": learner.network.state_dict(),
            "strategy": learner.strategy.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "scheduler": learner.scheduler.state_dict(),
        }

    def _save(self) -> None:
        """Write ``best.pt`` (the chosen network) and ``last.pt`` (where to go on)."""
        self._saved_at = time.monotonic()
        if self.specification.folder is None:
            return
        folder = Path(self.specification.folder)
        best = {"joint_nll": self.best.joint_nll, "row": self.best.row, "network": self.best.network}
        checkpoint.save(folder / "best.pt", {**best, "specification": _comparable(self.specification)})
        checkpoint.save(folder / "last.pt", self.state_dict())

    def _resume(self) -> None:
        """Go on from ``last.pt`` where there is one; that of another specification is ignored."""
        if self.specification.folder is None:
            return
        last, best = (Path(self.specification.folder) / name for name in ("last.pt", "best.pt"))
        if not (last.exists() and best.exists()):
            return
        state = checkpoint.load(last, self.device)
        if state["specification"] == _comparable(self.specification):
            self._restore(state, checkpoint.load(best, self.device))

    def _restore(self, state: Mapping[str, Any], best: Mapping[str, Any]) -> None:
        learner = self.learner
        learner.network.load_state_dict(state["network"])
        learner.strategy.load_state_dict(state["strategy"])
        learner.optimizer.load_state_dict(state["optimizer"])
        learner.scheduler.load_state_dict(state["scheduler"])
        learner.step, self.epoch, self._timings = state["step"], state["epoch"], list(state["timings"])
        self._gradients = list(state.get("gradients", []))  # older checkpoints have none
        self.best = Best(best["joint_nll"], best["row"], best["network"])


def _means(rows: Sequence[Row]) -> Row:
    """Return name -> mean over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: statistics.fmean(float(row[name]) for row in rows if name in row) for name in names}


def _comparable(specification: TrialSpecification) -> str:
    """Return what must agree between a checkpoint and the trial that goes on from it."""
    values = {name: value for name, value in specification.as_dict().items() if name not in {"folder", "store"}}
    training = {name: value for name, value in values["training"].items() if name != "diagnose_every"}
    if not training.get("soft_labels"):  # checkpoints from before there was this setting do not name it
        training.pop("soft_labels", None)
    values["training"] = training
    return json.dumps(values, sort_keys=True)


def _data_key(specification: TrialSpecification) -> str:
    """Return what decides the batches of a trial; trials in one process share them."""
    names = ("store", "split", "network", "tasks")
    values = {name: value for name, value in specification.as_dict().items() if name in names}
    training = {name: specification.training.get(name) for name in ("batch_size", "soft_labels")}
    return json.dumps(values | training, sort_keys=True)


@functools.lru_cache(maxsize=2)
def _open(path: str) -> Store:
    return open_place(path)


@functools.lru_cache(maxsize=2)
def _load_data(key: str) -> dict[str, Batches]:
    """Return split -> batches for a key of ``_data_key``; read once per process, trials that follow reuse them."""
    values = json.loads(key)
    store = _open(values["store"])
    tasks = [Task(task["name"], tuple(task["classes"]), task["kind"]) for task in values["tasks"]]
    split = split_for_tasks(values["split"]["protocol"], store.table, tasks, values["split"]["options"])
    network = values["network"]
    seconds = networks.input_settings(network["name"], network["preset"], network["options"]).max_seconds
    units = units_of(store, tasks, split.train)
    return {
        name: Batches(
            store,
            getattr(split, name),
            tasks,
            network["modalities"],
            values["batch_size"],
            seconds,
            units,
            soft_labels=bool(values["soft_labels"]) and name == "train",
        )
        for name in ("train", "valid", "test")
    }
