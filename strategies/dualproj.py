"""Projection of the mean gradient onto the dual cone, after Lopez-Paz and Ranzato (2017)."""

import numpy as np

from strategies.balancing import GramianBalancing, Place
from strategies.solvers import Array, dual_cone_projection


class DualProjection(GramianBalancing):
    r"""Take the mean gradient if no loss opposes it, and otherwise the nearest direction that none opposes.

    The weights are :math:`\arg\min_{v \geq 1/T} v^\top G v`, solved exactly.

    Args:
        num_tasks: number of tasks T.
        at: ``parameters``, or ``features``.

    Reference:
        Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", 2017, eq. 8-11, with the mean gradient
        in place of the current one, as in Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024,
        table 1. https://arxiv.org/abs/1706.08840

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the mean gradient, projected to where it opposes no task"
    reference = "Lopez-Paz and Ranzato, Gradient Episodic Memory, 2017, eq. 8-11, https://arxiv.org/abs/1706.08840"
    year = 2017
    weight_scale = "1/T or more each"
    claims = frozenset({"permutation", "non-conflict"})

    def __init__(self, num_tasks: int, *, at: Place = "parameters") -> None:
        super().__init__(num_tasks, at=at)

    def balance(self, gramian: Array, losses: Array) -> Array:  # noqa: ARG002
        """Return the weights of the projection, shapes ``(K, K), (K,) -> (K,)``."""
        return dual_cone_projection(gramian, np.full(len(gramian), 1 / len(gramian)))
