"""Fast adaptive multitask optimization, Liu et al. (2023)."""

from collections.abc import Callable

import torch
from torch import Tensor

from strategies.adam import OwnAdam
from strategies.base import Shared, Strategy
from strategies.errors import StrategyError
from strategies.losses import SMALLEST_LOSS, inverse
from strategies.options import Range, checked_number


class Famo(Strategy):
    r"""Let all losses fall at the same rate, judged by what the last step did to each.

    With :math:`z = \mathrm{softmax}(\xi)` and the lower bounds :math:`b_i`, a step takes

    .. math:: w_i = c\, \frac{z_i}{L_i - b_i}, \qquad c = 1 / \sum_j \frac{z_j}{L_j - b_j}

    and the same batch is then looked at again: the logits follow the gradient
    :math:`J_{\mathrm{softmax}}^\top (\log(L - b) - \log(L' - b))` of the losses before and after the step. The task
    that improved most loses weight. The logits have an Adam of their own, whose state is part of the strategy's.

    The second forward pass takes the losses on the micro-batches of the step as they were, and leaves batch statistics
    and random generators as it found them. A loss at its bound takes no part in the step: it gets
    no weight, and does not count among the losses that did not fall.

    Args:
        num_tasks: number of tasks T.
        learning_rate: of the logits; 0.025 as in the authors' code.
        weight_decay: of the logits, the paper's gamma; 1e-3, one of the values the authors use (1e-2, 1e-3 or 0 by data
            set) and the default of LibMTL.
        lower_bound: :math:`b` for all tasks, a number that no loss falls below; 0 for likelihoods and 1 - CCC.

    Reference:
        Liu et al., "FAMO: Fast Adaptive Multitask Optimization", 2023, algorithm 1. https://arxiv.org/abs/2306.03792

    >>> strategy = Famo(2)
    >>> _ = strategy(torch.tensor([2.0, 8.0]))
    >>> [round(weight, 4) for weight in strategy.last_weights.tolist()]
    [0.8, 0.2]

    Raises:
        StrategyError: an option out of range, or a loss below the bound.
    """

    summary = "all losses fall at the same rate, judged by a second look at the batch"
    reference = "Liu et al., FAMO, 2023, algorithm 1, https://arxiv.org/abs/2306.03792"
    year = 2023
    passes = "1 backward + 1 forward"
    weight_scale = "sum 1"
    tunable = {"learning_rate": Range(1e-3, 0.1, log=True), "weight_decay": Range(1e-5, 1e-1, log=True)}
    claims = frozenset({"scale", "permutation"})

    logits: Tensor
    before: Tensor

    def __init__(
        self, num_tasks: int, *, learning_rate: float = 0.025, weight_decay: float = 1e-3, lower_bound: float = 0.0
    ) -> None:
        super().__init__(num_tasks)
        self.learning_rate = checked_number("learning_rate", learning_rate, minimum=0, exclusive=True)
        self.weight_decay = checked_number("weight_decay", weight_decay, minimum=0)
        self.lower_bound = checked_number("lower_bound", lower_bound, minimum=-1e6)
        self.adam = OwnAdam(num_tasks, self.learning_rate, self.weight_decay)
        self.register_buffer("logits", torch.zeros(num_tasks))
        self.register_buffer("before", torch.zeros(num_tasks))

    def weights(self, losses: Tensor) -> Tensor:
        """Return ``c z / (L - b)``, shape ``(T,)``, without graph; they sum to 1."""
        gaps = self._gaps(losses)
        weights = self.logits.softmax(dim=0) * inverse(gaps, gaps > SMALLEST_LOSS)
        return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def backward(self, losses: Tensor, shared: Shared, scale: float = 1.0) -> None:
        """Add the joint gradient, and remember the losses of the step."""
        super().backward(losses, shared, scale)
        self.before += scale * losses.detach()

    @torch.no_grad()
    def after_step(self, recompute: Callable[[], Tensor]) -> None:
        """Move the logits by what the step did to the losses."""
        before, after = self._gaps(self.before), recompute().detach() - self.lower_bound
        improved = before.clamp(min=SMALLEST_LOSS).log() - after.clamp(min=SMALLEST_LOSS).log()
        # A task that took no part stands for the mean of the others: it did not fail to improve.
        shares = self.logits.softmax(dim=0) * (before > SMALLEST_LOSS)
        mean = shares @ improved / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)
        self.adam.step(self.logits, shares * (improved - mean))
        self.before.zero_()

    def _gaps(self, losses: Tensor) -> Tensor:
        gaps = losses.detach() - self.lower_bound
        if float(gaps.min()) < 0:
            raise StrategyError(
                f"famo: a loss is {float(losses.min()):.4g}, below the option 'lower_bound' ({self.lower_bound:g})"
            )
        return gaps
