"""What methods that work on the tasks' gradients have in common: collecting them, and handing back one step.

The gradients of the tasks meet at the features that all heads read. A method *at the features* balances the gradients
there, which takes T backward passes through the heads and one through the trunk; one *at the parameters* balances
those of the shared parameters, T backward passes through the trunk. The passes run one after the other, so recurrent
layers, custom functions and mixed precision need no special treatment, and what is kept is one gradient a task.

The heads get the same treatment from every method: each is trained by its own loss at the weight that the method gave
the task, and never uphill (a negative weight, which has a meaning only for a sum of gradients, counts as 0).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from strategies.base import Shared, Strategy
from strategies.errors import StrategyError
from strategies.options import checked_choice
from strategies.solvers import Array

Place = Literal["parameters", "features"]

ABSENT_BELOW = 1e-10
"""A gradient shorter than this share of the longest counts as none: that task takes no part in the step."""

COLUMNS_AT_ONCE = 1 << 17
"""A part that fits the cache of a processor: eight times as many take up to four times as long."""

PARAMETER_PASSES = "T trunks + T heads"
FEATURE_PASSES = "1 trunk + T heads"


@dataclass
class TaskGradients:
    """The gradients of one step, summed over its micro-batches.

    Attributes:
        trunk: ``(R, d)``, one row per task, of all shared parameters or of all features as one vector. A method that
            samples has more rows.
        heads: for each parameter of the heads the gradient of every task, None where the task does not use it.
        losses: the task losses ``(T,)``.
    """

    trunk: Tensor
    heads: list[list[Tensor | None]]
    losses: Tensor

    def add(self, other: "TaskGradients") -> None:
        """Add the gradients of another micro-batch."""
        self.trunk += other.trunk
        self.losses += other.losses
        self.heads = [
            [_sum(mine, its) for mine, its in zip(ours, others, strict=True)]
            for ours, others in zip(self.heads, other.heads, strict=True)
        ]


class GradientBalancing(Strategy):
    """A strategy that sees the gradient of every task and makes one step of them.

    A subclass defines ``aggregate``, and takes ``at`` as an option if it works at both places. With gradient
    accumulation a method at the parameters balances the gradients of the whole step; one at the features balances every
    micro-batch by itself, because the features of different micro-batches have no gradient in common.

    Args:
        num_tasks: number of tasks T.
        at: where the gradients are balanced, ``parameters`` or ``features``.

    Raises:
        StrategyError: no such place.
    """

    kind = "gradient"
    passes = PARAMETER_PASSES

    def __init__(self, num_tasks: int, *, at: Place = "parameters") -> None:
        super().__init__(num_tasks)
        self.at = cast(Place, checked_choice("at", at, get_args(Place)))
        self._step: TaskGradients | None = None
        self._shared = Shared()

    def aggregate(self, gradients: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the step of the trunk and the weight of each task, shapes ``(R, d), (T,) -> (d,), (T,)``.

        It is called once a step (at the features: once a micro-batch, where it must not change what is remembered).
        """
        raise NotImplementedError(f"{type(self).__name__} must define aggregate(gradients, losses)")

    def samples(self, gradients: Tensor) -> Tensor:
        """Return the gradients at the features to send through the trunk, ``(T, N, F) -> (R, N, F)``: all, as they are.

        A method that needs independent estimates of each gradient sends parts of the batch instead.
        """
        return gradients

    def backward(self, losses: Tensor, shared: Shared, scale: float = 1.0) -> None:
        """Collect the gradients of the tasks; at the features, also balance them.

        Raises:
            StrategyError: the losses have the wrong shape, or no shared parameter is trained.
        """
        self.check_shape(losses)
        features = shared.features
        if features is None or not features.requires_grad or not _trained(shared.parameters):
            raise StrategyError(
                f"{type(self).__name__} balances gradients of the shared part of the network, but none is trained"
            )
        at_features, heads = feature_gradients(losses, features, _trained(shared.heads))
        if self.at == "features":
            step, weights = self.aggregate(at_features.flatten(1), losses.detach())
            self.last_weights = weights.to(losses)
            features.backward((scale * step).view_as(features).to(features.dtype))  # type: ignore[no-untyped-call]
            _add_heads(_trained(shared.heads), heads, scale * self.last_weights)
            return
        rows = trunk_gradients(features, self.samples(at_features), _trained(shared.parameters))
        heads = [[None if each is None else scale * each for each in tasks] for tasks in heads]
        found = TaskGradients(rows.mul_(scale), heads, scale * losses.detach())
        self._shared = replace(shared, features=None)  # the graph is spent: let its memory go
        if self._step is None:
            self._step = found
        else:
            self._step.add(found)

    @torch.no_grad()
    def before_step(self) -> None:
        """Balance the gradients of the step and add the result to ``.grad``."""
        found, self._step = self._step, None
        if found is None:
            return
        step, weights = self.aggregate(found.trunk, found.losses)
        self.last_weights = weights.to(found.losses)
        _add_flat(_trained(self._shared.parameters), step)
        _add_heads(_trained(self._shared.heads), found.heads, self.last_weights)
        self._shared = Shared()


class GramianBalancing(GradientBalancing):
    r"""A strategy whose weights depend on lengths and angles of the gradients only, :math:`G = J J^\top`.

    A subclass defines ``balance``. A task without gradient (none of its labels in the batch, or solved) takes no part:
    most methods are undefined there, and those that are not would stop the other tasks as well. Its weight is 0.
    """

    def balance(self, gramian: Array, losses: Array) -> Array:
        """Return the weights of K tasks with a gradient, shapes ``(K, K), (K,) -> (K,)``, in double precision."""
        raise NotImplementedError(f"{type(self).__name__} must define balance(gramian, losses)")

    def aggregate(self, gradients: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the gradients and its weights."""
        weights = torch.from_numpy(self._weights(gramian(gradients), host(losses))).to(gradients)
        return weights @ gradients, weights

    def _weights(self, matrix: Array, losses: Array) -> Array:
        return balance_present(matrix, losses, self.balance)


def balance_present(gramian: Array, losses: Array, balance: Callable[[Array, Array], Array]) -> Array:
    """Return the weights ``(T,)`` that ``balance`` gives the tasks that have a gradient, 0 for the others.

    What is not finite stays so: the training loop then stops with step, losses and weights.
    """
    if not np.isfinite(gramian).all():
        return np.full(len(losses), np.nan)
    weights = np.zeros(len(losses))
    present = with_gradient(gramian)
    if present.any():
        weights[present] = balance(gramian[np.ix_(present, present)], losses[present])
    return weights


def with_gradient(gramian: Array) -> NDArray[np.bool_]:
    """Return which tasks have a gradient to speak of, ``(T, T) -> (T,)``."""
    squares = np.diag(gramian)
    return cast(NDArray[np.bool_], squares > ABSENT_BELOW**2 * squares.max(initial=0.0))


def gramian(gradients: Tensor) -> Array:
    """Return the inner products of the gradients on the host, ``(T, d) -> (T, T)``, computed in double precision.

    In single precision collinear gradients get a second eigenvalue from rounding alone, about 1e-6 of the first for
    100,000 parameters: a method that looks for the smallest one then follows noise.
    """
    total = gradients.new_zeros((len(gradients), len(gradients)), dtype=torch.float64)
    for part in torch.split(gradients, COLUMNS_AT_ONCE, dim=1):  # a copy of all would be twice as large as they are
        double = part.double()
        total += double @ double.T
    return host(total)


def host(values: Tensor) -> Array:
    """Return a tensor as an array in double precision."""
    return cast(Array, values.detach().cpu().double().numpy())


def feature_gradients(
    losses: Tensor, features: Tensor, heads: Sequence[nn.Parameter]
) -> tuple[Tensor, list[list[Tensor | None]]]:
    """Run one backward pass through the heads per task.

    Returns:
        the gradients at the features ``(T, N, F)`` in single precision, and for each parameter of the heads the
        gradient of every task.
    """
    rows, found = [], []
    for entry in entries(losses):
        gradients = torch.autograd.grad(entry, [features, *heads], retain_graph=True, allow_unused=True)
        rows.append(torch.zeros_like(features) if gradients[0] is None else gradients[0])
        found.append(gradients[1:])
    return torch.stack(rows).float(), [list(each) for each in zip(*found, strict=True)]


def trunk_gradients(features: Tensor, rows: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Send each of R gradients at the features through the trunk, ``(R, N, F) -> (R, d)``; the graph is then spent."""
    sizes = [each.numel() for each in parameters]
    found = features.new_empty((len(rows), sum(sizes)), dtype=torch.float32)
    for index, row in enumerate(rows):
        parts = torch.split(found[index], sizes)
        # Nothing keeps the gradients of one task while those of the next are made.
        torch._foreach_copy_(
            [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)],
            torch.autograd.grad(
                features,
                parameters,
                row.to(features.dtype),
                retain_graph=index + 1 < len(rows),
                materialize_grads=True,
            ),
        )
    return found


def entries(losses: Tensor) -> list[Tensor | GradientEdge]:
    """Return where the graph of each loss starts.

    For losses that come straight from ``torch.stack`` that is below the stack: entering at ``losses[i]`` would send
    zeros through the heads of all other tasks, T times the work.
    """
    node = losses.grad_fn
    if node is not None and node.name() == "StackBackward0":
        edges = [GradientEdge(function, number) for function, number in node.next_functions if function is not None]
        if len(edges) == len(losses):
            return list(edges)
    return list(losses)


def _trained(parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _add_flat(parameters: Sequence[nn.Parameter], step: Tensor) -> None:
    parts = torch.split(step, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        _add(parameter, part.view_as(parameter).to(parameter.dtype))


def _add_heads(parameters: Sequence[nn.Parameter], gradients: list[list[Tensor | None]], weights: Tensor) -> None:
    never_uphill = weights.clamp(min=0)
    for parameter, tasks in zip(parameters, gradients, strict=True):
        for weight, gradient in zip(never_uphill, tasks, strict=True):
            if gradient is not None:
                _add(parameter, (weight * gradient).to(parameter.dtype))


def _add(parameter: nn.Parameter, gradient: Tensor) -> None:
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
