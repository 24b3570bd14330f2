"""What weights and gradients of the tasks look like, measured beside training: nothing here changes a trial."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class GradientProbe:
    """The tasks' own gradients at one layer, at one moment of training.

    Attributes:
        norms: length of each task's gradient, ``(T,)`` float64.
        cosines: cosine of the angle between every two of them, ``(T, T)`` float64; NaN where one has no length.
    """

    norms: Tensor
    cosines: Tensor

    def without(self, missing: Sequence[bool]) -> "GradientProbe":
        """Return the probe with NaN for tasks that had nothing to measure, ``(T,)``: those without any label."""
        gone = torch.tensor(missing, device=self.norms.device)
        either = gone.unsqueeze(0) | gone.unsqueeze(1)
        return GradientProbe(self.norms.masked_fill(gone, math.nan), self.cosines.masked_fill(either, math.nan))


def gradient_probe(losses: Tensor, layer: Sequence[nn.Parameter]) -> GradientProbe:
    """Return lengths and angles of the gradients of the losses ``(T,)`` at the parameters of one layer.

    One partial backward pass per task, down to the layer; ``.grad`` is left alone and the graph is kept.

    >>> weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> probe = gradient_probe(torch.stack([3 * weight[0], weight[0] - weight[1]]), [weight])
    >>> [round(norm, 4) for norm in probe.norms.tolist()], round(probe.cosines[0, 1].item(), 4)
    ([3.0, 1.4142], 0.7071)
    """
    gradients = torch.stack([_flat_gradient(loss, layer) for loss in losses])
    norms = torch.linalg.vector_norm(gradients, dim=1)
    directions = gradients / norms.unsqueeze(1)
    return GradientProbe(norms, (directions @ directions.T).clamp(-1.0, 1.0))


def _flat_gradient(loss: Tensor, layer: Sequence[nn.Parameter]) -> Tensor:
    parts = torch.autograd.grad(loss, layer, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten().double() for part in parts])


def shares(weights: Tensor) -> Tensor:
    """Return weights scaled to sum 1, ``(..., T)``; negative ones count as 0, as they do for the task heads.

    >>> shares(torch.tensor([1.0, 3.0, -2.0])).tolist()
    [0.25, 0.75, 0.0]
    """
    positive = weights.clamp(min=0)
    return positive / positive.sum(dim=-1, keepdim=True)


class Diagnostics:
    """Collects what is measured beside one epoch of training, and what that took.

    Weights are noted at every step and stay on their device until the epoch ends, so that no step waits for them.

    Args:
        tasks: names of the T tasks.

    Attributes:
        seconds: spent in ``off_the_clock`` so far.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self.seconds = 0.0
        self._tasks = tuple(tasks)
        self._probes: list[tuple[GradientProbe, Tensor]] = []
        self._largest: Tensor | None = None
        self._entropy: Tensor | None = None
        self._total: Tensor | None = None
        self._steps = 0

    @contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """Count the time of a block as time of diagnostics."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    @torch.no_grad()
    def note(self, weights: Tensor, probe: GradientProbe | None = None) -> None:
        """Note the weights ``(T,)`` of a step and, where there was one, the probe of the gradients before it."""
        share = shares(weights)
        entropy = torch.special.entr(share).sum().double()
        self._largest = share if self._largest is None else torch.fmax(self._largest, share)
        self._entropy = entropy if self._entropy is None else self._entropy + entropy
        raw = weights.detach().to(torch.float64, copy=True)
        self._total = raw if self._total is None else self._total + raw
        self._steps += 1
        if probe is not None:
            self._probes.append((probe, raw))

    def row(self) -> dict[str, float]:
        """Return what an epoch's row says of weights and gradients; what is not a number is left out."""
        found = self._weight_row() | self._gradient_row()
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _weight_row(self) -> dict[str, float]:
        if self._largest is None or self._entropy is None or self._total is None:
            return {}
        row = self._per_task("largest_weight", self._largest)
        row |= self._per_task("mean_weight", self._total / self._steps)
        if len(self._tasks) > 1:
            # Rounding may give equal weights a little more than 1; in this order NaN stays NaN.
            row["weight/entropy"] = min(self._entropy.item() / (self._steps * math.log(len(self._tasks))), 1.0)
        return row

    def _gradient_row(self) -> dict[str, float]:
        if not self._probes:
            return {}
        norms = torch.stack([probe.norms for probe, _ in self._probes])
        effective = norms * torch.stack([weights for _, weights in self._probes])
        row = self._per_task("gradient/norm", norms.nanmean(dim=0))
        row |= self._per_task("gradient/effective", effective.nanmean(dim=0))
        row |= self._per_task("gradient/share", shares(effective).nanmean(dim=0))
        return row | self._angles(torch.stack([probe.cosines for probe, _ in self._probes]))

    def _angles(self, cosines: Tensor) -> dict[str, float]:
        """Return mean cosine of every pair of tasks and the share of conflicts, from cosines ``(P, T, T)``."""
        first, second = torch.triu_indices(len(self._tasks), len(self._tasks), offset=1)
        pairs = cosines[:, first, second]
        conflict = (pairs < 0).sum() / (~pairs.isnan()).sum()
        names = [f"{self._tasks[i]}:{self._tasks[j]}" for i, j in zip(first.tolist(), second.tolist(), strict=True)]
        means = dict(zip(names, pairs.nanmean(dim=0).tolist(), strict=True))
        return {f"gradient/cosine/{name}": mean for name, mean in means.items()} | {
            "gradient/conflict": conflict.item()
        }

    def _per_task(self, name: str, values: Tensor) -> dict[str, float]:
        return {f"{name}/{task}": value for task, value in zip(self._tasks, values.tolist(), strict=True)}
