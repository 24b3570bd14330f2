"""Projecting conflicting gradients, Yu et al. (2020)."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from strategies.balancing import GramianBalancing, Place
from strategies.base import TaskFacts
from strategies.draws import Draws
from strategies.solvers import Array


class ProjectConflictingGradients(GramianBalancing):
    r"""Remove from each gradient what points against another one, and add up what is left.

    For each task i, for the other tasks j in random order: if :math:`g_i' \cdot g_j < 0`, then
    :math:`g_i' \leftarrow g_i' - \frac{g_i' \cdot g_j}{n_j^2} g_j` with the original :math:`g_j`. For T = 2 there is no
    order to draw, and with a conflict :math:`w_i = 1 - g_1 \cdot g_2 / n_i^2`: twice ``upgrad``.

    Args:
        num_tasks: number of tasks T.
        at: ``parameters`` as in the paper, or ``features``.

    Reference:
        Yu et al., "Gradient Surgery for Multi-Task Learning", 2020, algorithm 1. https://arxiv.org/abs/2001.06782

    Raises:
        StrategyError: an option out of range.
    """

    summary = "gradients without what points against the others"
    reference = (
        "Yu et al., Gradient Surgery for Multi-Task Learning, 2020, algorithm 1, https://arxiv.org/abs/2001.06782"
    )
    year = 2020
    weight_scale = "1 or more each"
    coincides = {"upgrad": "T=2, twice as long"}

    def __init__(self, num_tasks: int, *, at: Place = "parameters") -> None:
        super().__init__(num_tasks, at=at)
        self.draws = Draws()

    def setup(self, tasks: Sequence[TaskFacts], seed: int) -> None:  # noqa: ARG002
        """Seed the order of projections."""
        self.draws.seed = seed

    def balance(self, gramian: Array, losses: Array) -> Array:  # noqa: ARG002
        """Return what the projected gradients hold of each original one, shapes ``(K, K), (K,) -> (K,)``."""
        generator = self.draws.numpy()
        parts = np.eye(len(gramian))  # row i: the projected gradient of task i, in terms of the original ones
        for task, part in enumerate(parts):
            for other in generator.permutation(len(gramian)):
                inner = part @ gramian[other]
                if other != task and inner < 0:
                    part[other] -= inner / gramian[other, other]
        return np.asarray(parts.sum(axis=0))

    def after_step(self, recompute: Callable[[], Tensor]) -> None:  # noqa: ARG002
        """Go on to the next order."""
        self.draws.advance()
