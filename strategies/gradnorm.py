"""Gradient normalisation, Chen et al. (2018), without a second-order graph."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from strategies.balancing import entries
from strategies.base import Shared, Strategy, TaskFacts
from strategies.errors import StrategyError, unknown
from strategies.options import Range, checked_learning_rate, checked_number

InitialLoss = Literal["first", "chance"]

SMALLEST_INITIAL_LOSS = 1e-3
"""Floor of L(0), our own: a task that starts solved would otherwise look infinitely slow ever after."""

SMALLEST_WEIGHT = 1e-3
"""Floor of a weight before renormalisation, our own: a step of the optimizer may not switch a task off or around."""


class GradNorm(Strategy):
    r"""Balance how fast the tasks learn, by weights that bring their gradients to a common length.

    With :math:`n_i = \lVert \nabla_W L_i \rVert` at the last shared layer W, and :math:`r_i` the loss ratio
    :math:`L_i / L_i(0)` divided by its mean over the tasks, the weights descend

    .. math:: L_{grad} = \sum_i \lvert w_i n_i - t_i \rvert, \qquad t_i = \mathrm{mean}_j(w_j n_j)\, r_i^{\alpha}

    where :math:`t_i` counts as a constant. Hence :math:`dL_{grad}/dw_i = n_i\, \mathrm{sign}(w_i n_i - t_i)`, which
    needs lengths only: no double backward, and nothing of it reaches the network, whose gradient is
    :math:`\sum_i w_i \nabla L_i`. After every step the weights are made positive and sum to T.

    The weights start at 1 and are parameters; the trial's optimizer trains them. A step costs T - 1 partial backward
    passes, down to W, on top of the ordinary one: the gradient of the task with the largest weight is what the others
    leave of the joint one.

    Args:
        num_tasks: number of tasks T.
        alpha: strength of the pull towards equal learning rates, 0 or more; 1.5 as in the paper's experiments on
            NYUv2 and the default of LibMTL; at 0 all gradients get the same length.
        initial_loss: L(0): ``first``, the losses of the first step (as published), or ``chance``, those of a
            predictor that knows nothing (the paper's alternative, log C), which no lucky batch distorts.
        learning_rate: of the weights, 0.025 as nash-mtl and FAMO give the own parameters of a method; None is that
            of the network.

    Reference:
        Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks", 2018,
        eq. 1-2 and algorithm 1. https://arxiv.org/abs/1711.02257

    Raises:
        StrategyError: an option out of range.
    """

    summary = "weights that let every task learn at the same rate, by gradient norms"
    reference = "Chen et al., GradNorm, 2018, eq. 1-2 and algorithm 1, https://arxiv.org/abs/1711.02257"
    year = 2018
    kind = "gradient norm"
    passes = "1 backward + T-1 partial"
    weight_scale = "sum T"
    tunable = {"alpha": Range(0.0, 3.0), "learning_rate": Range(1e-3, 0.1, log=True)}
    claims = frozenset({"permutation"})

    initial_losses: Tensor

    def __init__(
        self,
        num_tasks: int,
        *,
        alpha: float = 1.5,
        initial_loss: InitialLoss = "first",
        learning_rate: float | None = 0.025,
    ) -> None:
        super().__init__(num_tasks)
        if initial_loss not in get_args(InitialLoss):
            raise StrategyError(unknown("initial_loss", str(initial_loss), get_args(InitialLoss)))
        self.alpha = checked_number("alpha", alpha, minimum=0)
        self.initial_loss = initial_loss
        self.learning_rate = checked_learning_rate(learning_rate)
        self.loss_weights = nn.Parameter(torch.ones(num_tasks))
        self.register_buffer("initial_losses", torch.full((num_tasks,), torch.nan))  # NaN: not seen yet
        self._step: tuple[Tensor, Tensor] | None = None  # gradients (T, W) and losses (T,) of the step, so far

    def setup(self, tasks: Sequence[TaskFacts], seed: int) -> None:  # noqa: ARG002
        """Take L(0) from chance, if that is the option."""
        if self.initial_loss == "chance":
            self._note_initial(self.initial_losses.new_tensor([task.chance_loss for task in tasks]))

    def weights(self, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Return the weights, shape ``(T,)``, as constants: the joint loss must not train them."""
        return self.loss_weights.detach()

    def backward(self, losses: Tensor, shared: Shared, scale: float = 1.0) -> None:
        """Add the joint gradient to the network and keep the tasks' own gradients at the last shared layer.

        Raises:
            StrategyError: the losses have the wrong shape, or the network names no last shared layer to train.
        """
        layer = [parameter for parameter in shared.last_layer if parameter.requires_grad]
        if not layer:
            raise StrategyError("gradnorm measures gradients at the last shared layer, but there is none to train")
        joint = self(losses)
        gradients = scale * backward_with_gradients(joint, losses, self.last_weights, layer, scale)
        values = scale * losses.detach()
        self._step = (gradients, values) if self._step is None else (self._step[0] + gradients, self._step[1] + values)

    @torch.no_grad()
    def before_step(self) -> None:
        """Add the gradient of ``L_grad``, from the gradients and losses of the whole step, to that of the weights."""
        found, self._step = self._step, None
        if found is None:
            return
        gradients, losses = found
        self._note_initial(losses)
        norms, rates = gradients.norm(dim=1), self._relative_rates(losses)
        gradient = weight_gradient(self.last_weights, norms, rates, self.alpha)
        previous = self.loss_weights.grad
        self.loss_weights.grad = gradient if previous is None else previous + gradient

    @torch.no_grad()
    def after_step(self, recompute: Callable[[], Tensor]) -> None:  # noqa: ARG002
        """Make the weights positive and let them sum to T."""
        self.loss_weights.clamp_(min=SMALLEST_WEIGHT)
        self.loss_weights.mul_(self.num_tasks / self.loss_weights.sum())

    def _note_initial(self, losses: Tensor) -> None:
        """Keep the first loss of each task; exactly 0 is what a batch without labels of the task gives."""
        is_first = self.initial_losses.isnan() & (losses > 0)
        self.initial_losses.copy_(torch.where(is_first, losses.clamp(min=SMALLEST_INITIAL_LOSS), self.initial_losses))

    def _relative_rates(self, losses: Tensor) -> Tensor:
        ratios = losses.clamp(min=0) / self.initial_losses.nan_to_num(nan=1.0)
        mean = ratios.mean()
        return torch.where(mean > 0, ratios / mean, torch.ones_like(ratios))


def weight_gradient(weights: Tensor, norms: Tensor, relative_rates: Tensor, alpha: float) -> Tensor:
    r"""Return :math:`dL_{grad}/dw_i = n_i\, \mathrm{sign}(w_i n_i - t_i)`, shapes ``(T,), (T,), (T,) -> (T,)``.

    >>> weight_gradient(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]), alpha=1.5)
    tensor([-1.,  3.])
    """
    weighted = weights * norms
    return norms * torch.sign(weighted - weighted.mean() * relative_rates**alpha)


def backward_with_gradients(
    joint: Tensor, losses: Tensor, weights: Tensor, layer: Sequence[nn.Parameter], scale: float
) -> Tensor:
    """Run ``(scale * joint).backward()`` and return each task's own gradient at ``layer``, as a vector: ``(T, W)``.

    The joint loss must be ``sum_i w_i L_i``. All tasks but one have their gradient taken by a partial backward pass;
    that of the task with the largest weight is the rest of the joint gradient, which costs no pass. Its error is of
    the order of the machine precision times the largest ``w_j n_j / (w_i n_i)``.
    """
    rest = int(weights.argmax())
    found = losses.new_zeros(len(losses), sum(parameter.numel() for parameter in layer))
    for task, entry in enumerate(entries(losses)):
        if task != rest:
            parts = torch.autograd.grad(entry, layer, retain_graph=True, materialize_grads=True)
            found[task] = torch.cat([part.flatten() for part in parts])
    with _captured(layer) as total:
        (scale * joint).backward()  # type: ignore[no-untyped-call]
    parts = tuple(total.get(index, torch.zeros_like(parameter)) for index, parameter in enumerate(layer))
    found[rest] = (torch.cat([part.flatten() for part in parts]) / scale - weights @ found) / weights[rest]
    return found


@contextmanager
def _captured(layer: Sequence[nn.Parameter]) -> Iterator[dict[int, Tensor]]:
    """Collect what one backward pass adds to each parameter: a hook sees it before it joins what is in ``.grad``."""
    found: dict[int, Tensor] = {}
    handles = [
        parameter.register_hook(partial(found.__setitem__, index))  # type: ignore[no-untyped-call]
        for index, parameter in enumerate(layer)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
