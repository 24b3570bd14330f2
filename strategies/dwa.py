"""Dynamic weight average, Liu et al. (2019)."""

import torch
from torch import Tensor

from strategies.base import Strategy
from strategies.options import Range, checked_number


class DynamicWeightAverage(Strategy):
    r"""Give more weight to the tasks whose losses fall more slowly, once an epoch.

    .. math:: w_i = T\, \mathrm{softmax}(r / \theta)_i, \qquad r_i = \bar L_i(t-1) / \bar L_i(t-2)

    with the mean training losses of the two epochs before. In the first two epochs all weights are 1. A task without
    loss two epochs ago has :math:`r_i = 1`.

    Args:
        num_tasks: number of tasks T.
        temperature: :math:`\theta`, above 0; 2 as in the paper. The larger, the more alike the weights.

    Reference:
        Liu et al., "End-to-End Multi-Task Learning with Attention", 2019, eq. 7. https://arxiv.org/abs/1803.10704

    Raises:
        StrategyError: an option out of range.
    """

    summary = "more weight to the tasks whose losses fall more slowly, per epoch"
    reference = (
        "Liu et al., End-to-End Multi-Task Learning with Attention, 2019, eq. 7, https://arxiv.org/abs/1803.10704"
    )
    year = 2019
    weight_scale = "sum T"
    tunable = {"temperature": Range(0.2, 20, log=True)}
    claims = frozenset({"permutation"})

    history: Tensor

    def __init__(self, num_tasks: int, *, temperature: float = 2.0) -> None:
        super().__init__(num_tasks)
        self.temperature = checked_number("temperature", temperature, minimum=0, exclusive=True)
        self.register_buffer("history", torch.full((2, num_tasks), torch.nan))  # the epoch before the last, the last

    def weights(self, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Return the weights of the epoch, shape ``(T,)``."""
        before, last = self.history
        ratios = torch.where(before > 0, last / before, 1.0)
        weights = self.num_tasks * (ratios / self.temperature).softmax(dim=0)
        return torch.where(before.isnan().any(), torch.ones_like(weights), weights)

    def after_epoch(self, mean_losses: Tensor) -> None:
        """Remember the mean losses of the epoch."""
        self.history.copy_(torch.stack([self.history[1], mean_losses.detach()]))
