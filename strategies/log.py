"""Scale-invariant losses: the sum of their logarithms."""

from torch import Tensor

from strategies.base import Strategy
from strategies.losses import SMALLEST_LOSS, inverse, present


class LogWeighting(Strategy):
    r"""Minimise :math:`\sum_i \log L_i`, so that :math:`w_i = 1 / L_i` and the units of a loss do not matter.

    The simplest of a family: ``gls`` has the same direction at every step, and ``uncertainty`` and ``imtl_l`` reach it
    once their own parameters are at their optimum. The losses must not be negative; one that is 0 takes no part.

    Args:
        num_tasks: number of tasks T.

    Reference:
        Navon et al., "Multi-Task Learning as a Bargaining Game", 2022, section 5 ("scale-invariant", SI).
        https://arxiv.org/abs/2202.01017

    >>> import torch
    >>> strategy = LogWeighting(2)
    >>> round(strategy(torch.tensor([2.0, 8.0])).item(), 4), strategy.last_weights.tolist()
    (2.7726, [0.5, 0.125])

    Raises:
        StrategyError: a negative loss.
    """

    summary = "the sum of the logarithms: inverse losses as weights"
    reference = (
        "Navon et al., Multi-Task Learning as a Bargaining Game, 2022, sec. 5 (SI), https://arxiv.org/abs/2202.01017"
    )
    year = 2022
    weight_scale = "1 / L"
    coincides = {"gls": "any T, in direction"}
    claims = frozenset({"scale", "permutation"})

    def weights(self, losses: Tensor) -> Tensor:
        """Return ``1 / L``, shape ``(T,)``, without graph."""
        return inverse(losses, present("log", losses))

    def combine(self, weights: Tensor, losses: Tensor) -> Tensor:
        """Return ``sum_i log L_i`` over the losses that take part, shapes ``(T,), (T,) -> ()``; it may be negative."""
        return (losses.clamp(min=SMALLEST_LOSS).log() * (weights > 0)).sum()
