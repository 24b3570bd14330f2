"""Impartial multi-task learning by gradient balance, Liu et al. (2021)."""

import numpy as np

from strategies.balancing import FEATURE_PASSES, GramianBalancing, Place
from strategies.solvers import Array, cosines, floored, lengths


class GradientBalance(GramianBalancing):
    r"""Take the step with the same projection onto every gradient.

    With unit gradients :math:`u_i` and :math:`\sum_i w_i = 1`, :math:`d \cdot u_i` is the same for all tasks. That is
    :math:`C b = \mathbf 1` for the cosines C and :math:`w_i \propto b_i / n_i`; for T = 2,
    :math:`w = (n_2, n_1) / (n_1 + n_2)`.

    Two limits are our own: opposite gradients give the limit of nearly opposite ones (there the published formula goes
    uphill), and where the published weights sum to less than 0 before they are scaled, they are scaled by the size of
    the sum, so that d goes downhill for every task. A weight may be negative.

    Args:
        num_tasks: number of tasks T.
        at: ``features`` as in the paper, or ``parameters``.

    Reference:
        Liu et al., "Towards Impartial Multi-task Learning", 2021, section 3.1, eq. 4-6.
        https://openreview.net/forum?id=IMPnRXEWpvr

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the step with equal projections onto all gradients"
    reference = (
        "Liu et al., Towards Impartial Multi-task Learning, 2021, eq. 4-6, https://openreview.net/forum?id=IMPnRXEWpvr"
    )
    year = 2021
    passes = FEATURE_PASSES
    weight_scale = "sum 1"
    coincides = {
        "config": "any T, in direction",
        "imtl": "any T, in direction",
        "nash_mtl": "T=2, in direction",
        "fairgrad": "T=2, in direction",
    }
    claims = frozenset({"scale", "permutation", "non-conflict"})

    def __init__(self, num_tasks: int, *, at: Place = "features") -> None:
        super().__init__(num_tasks, at=at)

    def balance(self, gramian: Array, losses: Array) -> Array:  # noqa: ARG002
        """Return the weights, shapes ``(K, K), (K,) -> (K,)``."""
        return impartial_weights(gramian)


def impartial_weights(gramian: Array) -> Array:
    """Return the weights with equal projections that sum to 1 (or -1, downhill), ``(T, T) -> (T,)``.

    >>> impartial_weights(np.array([[1.0, 0.5], [0.5, 9.0]])).tolist()
    [0.75, 0.25]
    """
    found = bisector(gramian)
    return np.asarray(found / max(abs(found.sum()), 1e-6 * np.abs(found).sum()))


def bisector(gramian: Array) -> Array:
    """Return weights whose step has the same projection, 1, onto every gradient's direction, ``(T, T) -> (T,)``."""
    return np.asarray(np.linalg.solve(floored(cosines(gramian)), np.ones(len(gramian))) / lengths(gramian))
