"""Soft optimal uncertainty weighting, Kirchdorfer et al. (2024)."""

import torch
from torch import Tensor

from strategies.base import Strategy
from strategies.losses import inverse, present
from strategies.options import Range, checked_number


class SoftOptimalUncertaintyWeighting(Strategy):
    r"""Weight by a softmax over the inverse losses, :math:`w = \mathrm{softmax}((1 / L) / \theta)`.

    :math:`1 / L_i` is what uncertainty weighting tends to once its variances are at their optimum; here it is computed
    and not learned, and the losses in it count as constants. A small loss takes all the weight unless the temperature
    is of the order of the largest inverse loss: tune it. The losses must not be negative; one that is 0 takes no part.

    Args:
        num_tasks: number of tasks T.
        temperature: :math:`\theta`, above 0; 1 leaves the softmax as it is. The paper tunes it for every data set.

    Reference:
        Kirchdorfer et al., "Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning", 2024, UW-SO.
        https://arxiv.org/abs/2408.07985

    Raises:
        StrategyError: an option out of range, or a negative loss.
    """

    summary = "softmax over inverse losses: uncertainty weighting solved, not learned"
    reference = (
        "Kirchdorfer et al., Analytical Uncertainty-Based Loss Weighting, 2024, https://arxiv.org/abs/2408.07985"
    )
    year = 2024
    weight_scale = "sum 1"
    tunable = {"temperature": Range(0.2, 100, log=True)}
    claims = frozenset({"permutation"})

    def __init__(self, num_tasks: int, *, temperature: float = 1.0) -> None:
        super().__init__(num_tasks)
        self.temperature = checked_number("temperature", temperature, minimum=0, exclusive=True)

    def weights(self, losses: Tensor) -> Tensor:
        """Return the weights, shape ``(T,)``, without graph."""
        active = present("uncertainty_so", losses)
        scores = inverse(losses, active) / self.temperature
        weights = scores.masked_fill(~active, -torch.inf).softmax(dim=0)
        return weights.nan_to_num(nan=0.0)  # no loss takes part: nothing to weight
