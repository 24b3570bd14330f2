"""Geometric loss strategy, Chennupati et al. (2019)."""

from torch import Tensor

from strategies.base import Strategy
from strategies.losses import SMALLEST_LOSS, inverse, present


class GeometricLoss(Strategy):
    r"""Minimise the geometric mean of the losses, :math:`L = (\prod_i L_i)^{1/T}`.

    Hence :math:`w_i = \partial L / \partial L_i = L / (T L_i)`: the direction of ``log``, on the scale of the losses.
    The losses must not be negative; one that is 0 takes no part in the step, and the mean is that of the others.

    Args:
        num_tasks: number of tasks T.

    Reference:
        Chennupati et al., "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task
        Learning", 2019, eq. 3. https://arxiv.org/abs/1904.08492

    >>> import torch
    >>> strategy = GeometricLoss(2)
    >>> strategy(torch.tensor([2.0, 8.0])).item(), strategy.last_weights.tolist()
    (4.0, [1.0, 0.25])

    Raises:
        StrategyError: a negative loss.
    """

    summary = "the geometric mean of the losses"
    reference = "Chennupati et al., MultiNet++, 2019, eq. 3, https://arxiv.org/abs/1904.08492"
    year = 2019
    weight_scale = "mean / (T L)"
    coincides = {"log": "any T, in direction"}
    claims = frozenset({"scale", "permutation"})

    def weights(self, losses: Tensor) -> Tensor:
        """Return ``L / (T L_i)``, shape ``(T,)``, without graph; their sum over the losses is again L."""
        active = present("gls", losses)
        num_active = active.sum().clamp(min=1)
        logarithms = losses.detach().clamp(min=SMALLEST_LOSS).log()
        mean = ((logarithms * active).sum() / num_active).exp()
        return mean * inverse(losses, active) / num_active
