"""Impartial multi-task learning by loss balance, Liu et al. (2021)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from strategies.base import Strategy
from strategies.options import Range, checked_learning_rate

LARGEST_LOG_SCALE = 10.0
"""Bound on ``|s|``, our own: a loss that stays 0 would otherwise drive its weight to infinity."""


class LossBalance(Strategy):
    r"""Learn a scale for each loss that brings it to 1: minimise :math:`\sum_i e^{s_i} L_i - s_i`.

    Hence :math:`w_i = e^{s_i}`, and at the optimum :math:`s_i = -\log L_i`: the direction of ``log``. For regression
    tasks it is twice the joint loss of ``uncertainty`` with the sign of s turned. The scales start at 0.

    Args:
        num_tasks: number of tasks T.
        learning_rate: of the scales, 0.025 as for ``uncertainty``; None is that of the network.

    Reference:
        Liu et al., "Towards Impartial Multi-task Learning", 2021, section 3.2, IMTL-L.
        https://openreview.net/forum?id=IMPnRXEWpvr

    >>> LossBalance(2)(torch.tensor([1.0, 3.0])).item()
    4.0
    """

    summary = "learned scales that bring every loss to 1"
    reference = (
        "Liu et al., Towards Impartial Multi-task Learning, 2021, sec. 3.2, https://openreview.net/forum?id=IMPnRXEWpvr"
    )
    year = 2021
    weight_scale = "about 1 / L"
    tunable = {"learning_rate": Range(1e-3, 0.1, log=True)}
    claims = frozenset({"permutation"})

    def __init__(self, num_tasks: int, *, learning_rate: float | None = 0.025) -> None:
        super().__init__(num_tasks)
        self.learning_rate = checked_learning_rate(learning_rate)
        self.log_scales = nn.Parameter(torch.zeros(num_tasks))

    def weights(self, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Return ``e^s``, shape ``(T,)``."""
        return self.log_scales.exp()

    def combine(self, weights: Tensor, losses: Tensor) -> Tensor:
        """Return ``sum_i e^s_i L_i - s_i``, shapes ``(T,), (T,) -> ()``."""
        return torch.dot(weights, losses) - self.log_scales.sum()

    @torch.no_grad()
    def after_step(self, recompute: Callable[[], Tensor]) -> None:  # noqa: ARG002
        """Keep the scales within their bound."""
        self.log_scales.clamp_(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
