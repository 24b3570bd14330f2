"""Uncertainty with a regulariser that cannot become negative, Liebel and Koerner (2018)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from strategies.base import Strategy
from strategies.options import Range, checked_learning_rate

SMALLEST_DEVIATION = 1e-2
"""Floor of sigma, our own: a loss that stays 0 would otherwise drive its weight to infinity and sigma through 0."""


class RevisedUncertaintyWeighting(Strategy):
    r"""Weight each loss by its learned precision, with a penalty that keeps the joint loss positive.

    The joint loss is :math:`\sum_i \frac{1}{2 \sigma_i^2} L_i + \log(1 + \sigma_i^2)`, hence
    :math:`w_i = 1 / (2 \sigma_i^2)`, for every kind of task. At the optimum
    :math:`L_i (1 + \sigma_i^2) = 2 \sigma_i^4`. The deviations start at 1 and do not fall below 0.01.

    Args:
        num_tasks: number of tasks T.
        learning_rate: of the deviations, 0.025 as for ``uncertainty``; None is that of the network.

    Reference:
        Liebel and Koerner, "Auxiliary Tasks in Multi-task Learning", 2018, eq. 3. https://arxiv.org/abs/1805.06334

    >>> round(RevisedUncertaintyWeighting(2)(torch.tensor([1.0, 3.0])).item(), 4)  # 4 / 2 + 2 log 2
    3.3863
    """

    summary = "inverse learned variances with a regulariser that stays positive"
    reference = (
        "Liebel and Koerner, Auxiliary Tasks in Multi-task Learning, 2018, eq. 3, https://arxiv.org/abs/1805.06334"
    )
    year = 2018
    weight_scale = "1 / (2 variance)"
    tunable = {"learning_rate": Range(1e-3, 0.1, log=True)}
    claims = frozenset({"permutation"})

    def __init__(self, num_tasks: int, *, learning_rate: float | None = 0.025) -> None:
        super().__init__(num_tasks)
        self.learning_rate = checked_learning_rate(learning_rate)
        self.deviations = nn.Parameter(torch.ones(num_tasks))

    def weights(self, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Return ``1 / (2 sigma^2)``, shape ``(T,)``."""
        return 0.5 / self.deviations.square()

    def combine(self, weights: Tensor, losses: Tensor) -> Tensor:
        """Return ``sum_i w_i L_i + log(1 + sigma_i^2)``, shapes ``(T,), (T,) -> ()``."""
        return torch.dot(weights, losses) + self.deviations.square().log1p().sum()

    @torch.no_grad()
    def after_step(self, recompute: Callable[[], Tensor]) -> None:  # noqa: ARG002
        """Keep the deviations above their floor."""
        self.deviations.clamp_(min=SMALLEST_DEVIATION)
