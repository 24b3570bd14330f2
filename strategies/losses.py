"""What methods that divide by a loss, or take its logarithm, have in common."""

from torch import Tensor

from strategies.errors import StrategyError

SMALLEST_LOSS = 1e-8
"""A loss at or below this takes no part in a step: exactly 0 is what a batch without labels of the task gives, and its
logarithm would drown the other tasks."""


def present(name: str, losses: Tensor) -> Tensor:
    """Return which losses take part, ``(T,) -> (T,)``, for a method that cannot use negative ones.

    Raises:
        StrategyError: a negative loss.
    """
    lowest = float(losses.detach().min())
    if lowest < 0:
        raise StrategyError(f"{name} needs losses of at least 0, but one is {lowest:.4g}")
    return losses.detach() > SMALLEST_LOSS


def inverse(losses: Tensor, active: Tensor) -> Tensor:
    """Return ``1 / L`` without graph, 0 for a loss that takes no part, ``(T,), (T,) -> (T,)``."""
    return active / losses.detach().clamp(min=SMALLEST_LOSS)
