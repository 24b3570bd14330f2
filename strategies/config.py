"""Conflict-free update, Liu et al. (2025)."""

import numpy as np

from strategies.balancing import GramianBalancing, Place
from strategies.imtl_g import bisector
from strategies.solvers import Array, length, lengths


class ConflictFree(GramianBalancing):
    r"""Take the direction at equal angles to all gradients, as long as the gradients are along it.

    The direction is :math:`U^+ \mathbf 1` with the unit gradients as rows of U, scaled to unit length; the length is
    :math:`\sum_i g_i \cdot d`. The direction is that of ``imtl_g``; the length is not.

    Args:
        num_tasks: number of tasks T.
        at: ``parameters`` as in the paper, or ``features``.

    Reference:
        Liu et al., "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks", 2025, eq. 2-4.
        https://arxiv.org/abs/2408.11104

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the direction at equal angles to all gradients"
    reference = "Liu et al., ConFIG, 2025, eq. 2-4, https://arxiv.org/abs/2408.11104"
    year = 2025
    weight_scale = "about T / length"
    coincides = {
        "imtl_g": "any T, in direction",
        "imtl": "any T, in direction",
        "nash_mtl": "T=2, in direction",
        "fairgrad": "T=2, in direction",
    }
    claims = frozenset({"scale", "permutation", "non-conflict"})

    def __init__(self, num_tasks: int, *, at: Place = "parameters") -> None:
        super().__init__(num_tasks, at=at)

    def balance(self, gramian: Array, losses: Array) -> Array:  # noqa: ARG002
        """Return the weights, shapes ``(K, K), (K,) -> (K,)``."""
        weights = bisector(gramian)
        found = length(gramian, weights)
        if found <= 1e-6 * (np.abs(weights) @ lengths(gramian)):  # opposite gradients: no direction serves them all
            return np.zeros(len(gramian))
        return np.asarray(weights * (gramian @ weights).sum() / found**2)
