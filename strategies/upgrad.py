"""Unconflicting projection of gradients, Quinton and Rey (2024)."""

import numpy as np

from strategies.balancing import GramianBalancing, Place
from strategies.solvers import Array, dual_cone_projection


class UnconflictingProjection(GramianBalancing):
    r"""Project each gradient onto the dual cone, where it opposes no other, and take the mean.

    The dual cone holds the directions along which no loss rises. The projection of :math:`g_i` has the weights
    :math:`\arg\min_{v \geq e_i} v^\top G v`, solved exactly. For T = 2 it is half of ``pcgrad``.

    Args:
        num_tasks: number of tasks T.
        at: ``parameters`` as in the paper, or ``features``.

    Reference:
        Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024, eq. 4-5 and proposition 1.
        https://arxiv.org/abs/2406.16232

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the mean of the gradients projected to where they oppose no other"
    reference = "Quinton and Rey, Jacobian Descent, 2024, eq. 4-5, https://arxiv.org/abs/2406.16232"
    year = 2024
    weight_scale = "1/T or more each"
    coincides = {"pcgrad": "T=2, half as long"}
    claims = frozenset({"permutation", "non-conflict"})

    def __init__(self, num_tasks: int, *, at: Place = "parameters") -> None:
        super().__init__(num_tasks, at=at)

    def balance(self, gramian: Array, losses: Array) -> Array:  # noqa: ARG002
        """Return the mean weights of the projections, shapes ``(K, K), (K,) -> (K,)``."""
        projections = [dual_cone_projection(gramian, unit) for unit in np.eye(len(gramian))]
        return np.asarray(np.mean(projections, axis=0))
