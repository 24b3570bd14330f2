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
from trainables.diagnostics import Diagnostics, GradientProbe, gradient_probe
from trainables.errors import TrainingError
from trainables.networks.base import Network
from trainables.tasks import Task, task_loss
from trainables.uncompiled import uncompiled


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
            left out, so that no method changes how far the network is clipped, unless ``clip_strategy`` is true.
        clip_strategy: clip the norm of network and strategy together, as the code of Chae et al. 2018 does.
        schedule: learning rate over epochs: ``constant``, ``cosine``, or ``step`` (``gamma`` every ``step_epochs``).
        step_epochs: epochs between two steps of the ``step`` schedule.
        gamma: factor of the ``step`` schedule.
        precision: ``auto`` (bfloat16 autocast on a GPU that has it), ``float32`` or ``bfloat16``.
        class_weights: weigh the classes of each task inversely to their frequency in training; of a multilabel task
            what is yes against what is no, class by class.
        soft_labels: train classification tasks on the votes of the annotators where the corpus has them; validation and
            test are scored against the labels in any case.
        diagnose_every: steps between two probes of the tasks' gradients, of which the first comes after half as many;
            None is once an epoch, in its middle, and 0 never. A probe changes no other number of a trial.
    """

    epochs: int = 10
    batch_size: int = 16
    accumulation: int = 1
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    clip_strategy: bool = False
    schedule: Literal["constant", "step", "cosine"] = "constant"
    step_epochs: int = 10
    gamma: float = 0.1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    class_weights: bool = False
    soft_labels: bool = False
    diagnose_every: int | None = None


@dataclass
class Learner:
    """Everything a training step touches.

    Attributes:
        class_weights: task -> weights ``(C,)`` of its classes, for the tasks that have any.
        loss_scales: task -> factor of its loss, for the tasks that have any; the losses of an epoch are without it.
        step: optimizer steps taken so far.
        steps_per_epoch: steps that an epoch will have; where it is not told, a probe once an epoch does not take place.
    """

    network: Network
    strategy: Strategy
    tasks: Sequence[Task]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    settings: TrainingSettings
    device: torch.device
    class_weights: Mapping[str, Tensor] = field(default_factory=dict)
    loss_scales: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    steps_per_epoch: int = 0

    def __post_init__(self) -> None:
        shared = self.network.shared_parameters()
        known = {id(parameter) for parameter in shared}
        heads = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        self._shared = Shared(shared, self.network.last_shared_layer(), heads=heads)

    def shared(self, features: Tensor) -> Shared:
        """Return the shared part of the network with the features ``(N, F)`` of the current micro-batch."""
        return replace(self._shared, features=features)

    @property
    def probe_is_due(self) -> bool:
        """Whether the gradients are to be measured before the next step."""
        wanted = self.settings.diagnose_every
        every = self.steps_per_epoch if wanted is None else wanted
        return every > 0 and self.step % every == every // 2


@dataclass(frozen=True)
class EpochOutcome:
    """What one epoch of training gave.

    Attributes:
        losses: task -> mean loss.
        seconds: time of training, without that of diagnostics.
        steps: optimizer steps.
        diagnostics: what was measured of weights and gradients, by the names of a row.
        diagnostics_seconds: what measuring it took.
    """

    losses: dict[str, float]
    seconds: float
    steps: int
    diagnostics: dict[str, float]
    diagnostics_seconds: float


def make_optimizer(network: Network, strategy: Strategy, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return the optimizer of network and strategy; the strategy is a group of its own, without weight decay."""
    groups: list[dict[str, object]] = [{"params": list(network.parameters()), "weight_decay": settings.weight_decay}]
    own = list(strategy.parameters())
    if own:
        rate = settings.learning_rate if strategy.learning_rate is None else strategy.learning_rate
        groups.append({"params": own, "weight_decay": 0.0, "lr": rate})
    if settings.optimizer == "sgd":
        return uncompiled(torch.optim.SGD)(groups, lr=settings.learning_rate, momentum=0.9)
    if settings.optimizer == "adamw":
        return uncompiled(torch.optim.AdamW)(groups, lr=settings.learning_rate)
    return uncompiled(torch.optim.Adam)(groups, lr=settings.learning_rate)


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
    diagnostics = Diagnostics([task.name for task in learner.tasks])
    start = time.perf_counter()
    for batch in batches:
        losses = _diagnosed_step(learner, batch.to(learner.device), diagnostics)
        totals += losses.double().cpu() * len(batch)
        num_utterances += len(batch)
        steps += 1
    seconds = time.perf_counter() - start - diagnostics.seconds
    means = totals / max(num_utterances, 1)
    learner.strategy.after_epoch(means.float().to(learner.device))
    learner.scheduler.step()
    return EpochOutcome(
        losses={
            task.name: float(mean) / learner.loss_scales.get(task.name, 1.0)
            for task, mean in zip(learner.tasks, means, strict=True)
        },
        seconds=seconds,
        steps=steps,
        diagnostics=diagnostics.row(),
        diagnostics_seconds=diagnostics.seconds,
    )


def _diagnosed_step(learner: Learner, batch: Batch, diagnostics: Diagnostics) -> Tensor:
    """Take one optimizer step and note its weights, and the gradients before it where a probe is due."""
    probe = None
    if learner.probe_is_due:
        with diagnostics.off_the_clock():
            # As the step itself does first: the probe then needs no more memory than a step.
            learner.optimizer.zero_grad(set_to_none=True)
            probe = probe_gradients(learner, batch)
    losses = train_step(learner, batch)
    with diagnostics.off_the_clock():
        diagnostics.note(learner.strategy.last_weights, probe)
    return losses


def probe_gradients(learner: Learner, batch: Batch) -> GradientProbe | None:
    """Measure the tasks' gradients at the last shared layer, as the step on this batch is about to see them.

    A forward pass of its own, in training mode, on the first micro-batch; batch statistics and generators are put
    back, so that the step draws the same dropout, and ``.grad`` is left alone. NaN stands for a task that no utterance
    of the micro-batch has a label of. None if the last shared layer is frozen.
    """
    layer = [parameter for parameter in learner.network.last_shared_layer() if parameter.requires_grad]
    if not layer:
        return None
    first = batch.split(learner.settings.accumulation)[0]
    with _untouched(learner.network, learner.device):
        probe = gradient_probe(_forward(learner, first)[0], layer)
    # What a GPU still computes would be counted as time of the step: reading the answer waits for it.
    return probe.without([not _is_labelled(task, first) for task in learner.tasks])


def _is_labelled(task: Task, batch: Batch) -> bool:
    """Whether any utterance of a batch trains a task."""
    soft = batch.soft.get(task.name)
    return bool((task.present(batch.labels[task.name]) if soft is None else ~soft.isnan().any(dim=1)).any())


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
    learner.strategy.before_step()
    norm = _clip(learner)
    _refuse_non_finite(learner, mean_losses, norm)
    learner.optimizer.step()
    learner.step += 1
    learner.strategy.after_step(_recompute(learner, micro_batches))
    return mean_losses


def evaluate(
    network: Network, batches: Iterable[Batch], tasks: Sequence[Task], device: torch.device
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.generic]]]:
    """Return task -> (outputs ``(N, C)``, labels ``(N,)`` or ``(N, C)``) over all batches, in order, for evaluation."""
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
        task_loss(
            task,
            outputs[task.name].float(),
            batch.labels[task.name],
            learner.class_weights.get(task.name),
            batch.soft.get(task.name),
        )
        for task in learner.tasks
    ]
    scaled = [
        loss * learner.loss_scales[task.name] if task.name in learner.loss_scales else loss
        for task, loss in zip(learner.tasks, losses, strict=True)
    ]
    return torch.stack(scaled), features


def _precision(learner: Learner) -> contextlib.AbstractContextManager[object]:
    wanted = learner.settings.precision
    automatic = wanted == "auto" and learner.device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(learner.device.type, torch.bfloat16, enabled=automatic or wanted == "bfloat16")


def _clip(learner: Learner) -> Tensor:
    settings = learner.settings
    limit = math.inf if settings.clip_norm is None else settings.clip_norm
    own = learner.strategy.parameters() if settings.clip_strategy else ()
    return nn.utils.clip_grad_norm_([*learner.network.parameters(), *own], limit)


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
