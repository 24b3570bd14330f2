"""Training and evaluation in plain PyTorch; no strategy, network or corpus is known by name."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from strategies import Shared, Strategy
from trainables.batch import Batch
from trainables.errors import TrainingError
from trainables.networks.base import Network
from trainables.tasks import Task, task_loss


@dataclass(frozen=True)
class TrainingSettings:
    """How a trial is trained; the same for every arm of a study.

    Attributes:
        epochs: passes over the training split.
        batch_size: utterances per optimizer step.
        accumulation: number of micro-batches that a step is computed in.
        optimizer: ``adam`` (Chae et al. 2018), ``adamw`` or ``sgd`` (momentum 0.9).
        learning_rate: of the network, and of a strategy that does not set its own.
        weight_decay: of the network only.
        clip_norm: largest norm of the network's gradient; None means no clipping. The strategy's own parameters are
            left out, so that no method changes how far the network is clipped.
        schedule: learning rate over epochs: ``constant``, ``cosine``, or ``step`` (``gamma`` every ``step_epochs``).
        step_epochs: epochs between two steps of the ``step`` schedule.
        gamma: factor of the ``step`` schedule.
        precision: ``auto`` (bfloat16 autocast on a GPU that has it), ``float32`` or ``bfloat16``.
        class_weights: weigh the classes of each task inversely to their frequency in training.
    """

    epochs: int = 10
    batch_size: int = 16
    accumulation: int = 1
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    schedule: Literal["constant", "step", "cosine"] = "constant"
    step_epochs: int = 10
    gamma: float = 0.1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    class_weights: bool = False


@dataclass
class Learner:
    """Everything a training step touches.

    Attributes:
        class_weights: task -> weights ``(C,)`` of its classes, for the tasks that have any.
        step: optimizer steps taken so far.
    """

    network: Network
    strategy: Strategy
    tasks: Sequence[Task]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    settings: TrainingSettings
    device: torch.device
    class_weights: Mapping[str, Tensor] = field(default_factory=dict)
    step: int = 0

    def __post_init__(self) -> None:
        self._shared = Shared(self.network.shared_parameters(), self.network.last_shared_layer())

    def shared(self, features: Tensor) -> Shared:
        """Return the shared part of the network with the features ``(N, F)`` of the current micro-batch."""
        return replace(self._shared, features=features)


@dataclass(frozen=True)
class EpochOutcome:
    """What one epoch of training gave: mean losses by task, seconds, and optimizer steps."""

    losses: dict[str, float]
    seconds: float
    steps: int


def make_optimizer(network: Network, strategy: Strategy, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return the optimizer of network and strategy; the strategy is a group of its own, without weight decay."""
    groups: list[dict[str, object]] = [{"params": list(network.parameters()), "weight_decay": settings.weight_decay}]
    own = list(strategy.parameters())
    if own:
        rate = settings.learning_rate if strategy.learning_rate is None else strategy.learning_rate
        groups.append({"params": own, "weight_decay": 0.0, "lr": rate})
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    return torch.optim.Adam(groups, lr=settings.learning_rate)


def make_scheduler(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the learning-rate schedule, stepped once an epoch."""
    if settings.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.epochs)
    gamma = settings.gamma if settings.schedule == "step" else 1.0
    return torch.optim.lr_scheduler.StepLR(optimizer, settings.step_epochs, gamma)


def train_epoch(learner: Learner, batches: Iterable[Batch]) -> EpochOutcome:
    """Train on every batch once and tell the strategy the mean losses.

    Raises:
        TrainingError: a loss or the gradient is not finite; the message has the step, the losses and the weights.
    """
    learner.network.train()
    totals, num_utterances, steps = torch.zeros(len(learner.tasks), dtype=torch.float64), 0, 0
    start = time.perf_counter()
    for batch in batches:
        losses = train_step(learner, batch.to(learner.device))
        totals += losses.double().cpu() * len(batch)
        num_utterances += len(batch)
        steps += 1
    seconds = time.perf_counter() - start
    means = totals / max(num_utterances, 1)
    learner.strategy.after_epoch(means.float().to(learner.device))
    learner.scheduler.step()
    return EpochOutcome(
        {task.name: float(mean) for task, mean in zip(learner.tasks, means, strict=True)}, seconds, steps
    )


def train_step(learner: Learner, batch: Batch) -> Tensor:
    """Take one optimizer step on one batch and return its mean losses, ``(T,)``."""
    learner.optimizer.zero_grad(set_to_none=True)
    micro_batches = batch.split(learner.settings.accumulation)
    mean_losses = torch.zeros(len(learner.tasks), device=learner.device)
    for micro_batch in micro_batches:
        share = len(micro_batch) / len(batch)
        losses, features = _forward(learner, micro_batch)
        mean_losses += losses.detach() * share
        learner.strategy.backward(losses, learner.shared(features), scale=share)
    norm = _clip(learner.network, learner.settings.clip_norm)
    _refuse_non_finite(learner, mean_losses, norm)
    learner.optimizer.step()
    learner.step += 1
    learner.strategy.after_step(_recompute(learner, micro_batches))
    return mean_losses


def evaluate(
    network: Network, batches: Iterable[Batch], tasks: Sequence[Task], device: torch.device
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.generic]]]:
    """Return task -> (outputs ``(N, C)``, labels ``(N,)``) over all batches, in their order, in evaluation mode."""
    network.eval()
    outputs: dict[str, list[Tensor]] = {task.name: [] for task in tasks}
    labels: dict[str, list[Tensor]] = {task.name: [] for task in tasks}
    with torch.inference_mode():
        for batch in batches:
            for name, logits in network(batch.to(device)).items():
                outputs[name].append(logits.float().cpu())
                labels[name].append(batch.labels[name])
    return {name: (torch.cat(outputs[name]).numpy(), torch.cat(labels[name]).numpy()) for name in outputs}


def _forward(learner: Learner, batch: Batch) -> tuple[Tensor, Tensor]:
    with _precision(learner):
        features = learner.network.features(batch)
        outputs = learner.network.predict(features)
    losses = [
        task_loss(task, outputs[task.name].float(), batch.labels[task.name], learner.class_weights.get(task.name))
        for task in learner.tasks
    ]
    return torch.stack(losses), features


def _precision(learner: Learner) -> contextlib.AbstractContextManager[object]:
    wanted = learner.settings.precision
    automatic = wanted == "auto" and learner.device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(learner.device.type, torch.bfloat16, enabled=automatic or wanted == "bfloat16")


def _clip(network: Network, clip_norm: float | None) -> Tensor:
    limit = math.inf if clip_norm is None else clip_norm
    return nn.utils.clip_grad_norm_(network.parameters(), limit)


def _refuse_non_finite(learner: Learner, losses: Tensor, norm: Tensor) -> None:
    if math.isfinite(float(losses.sum() + norm)):
        return
    found = ", ".join(f"{task.name} {loss:.4g}" for task, loss in zip(learner.tasks, losses.tolist(), strict=True))
    weights = ", ".join(f"{weight:.4g}" for weight in learner.strategy.last_weights.tolist())
    raise TrainingError(
        f"not a finite number at step {learner.step + 1}: losses {found}; gradient norm {float(norm):.4g}; "
        f"weights ({weights}); a smaller learning rate or clip_norm may help"
    )


def _recompute(learner: Learner, batches: Sequence[Batch]) -> Callable[[], Tensor]:
    """Return a thunk: the losses on the same batch after the step, without trace in statistics or generators."""

    def losses_after_step() -> Tensor:
        total = sum(len(batch) for batch in batches)
        with torch.no_grad(), _untouched(learner.network, learner.device):
            parts = [_forward(learner, batch)[0] * (len(batch) / total) for batch in batches]
        return torch.stack(parts).sum(dim=0)

    return losses_after_step


@contextlib.contextmanager
def _untouched(network: Network, device: torch.device) -> Iterator[None]:
    """Leave the network's buffers and the global generators as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield
    for buffer, before in buffers:
        buffer.copy_(before)
