"""Conflict-averse gradient descent, Liu et al. (2021)."""

from typing import Literal, get_args

import numpy as np

from strategies.balancing import GramianBalancing, Place
from strategies.options import Range, checked_choice, checked_number
from strategies.solvers import Array, conflict_averse_weights, length

Rescale = Literal["none", "square", "linear"]


class ConflictAverse(GramianBalancing):
    r"""Near the mean gradient, take the step that is best for the task it serves least.

    :math:`\max_d \min_i g_i \cdot d` subject to :math:`\lVert d - g_0 \rVert \leq c \lVert g_0 \rVert`, where
    :math:`g_0` is the mean gradient. Its dual is a problem on the simplex,
    :math:`w = \arg\min g_w \cdot g_0 + c \lVert g_0 \rVert \lVert g_w \rVert`, and
    :math:`d = g_0 + c \lVert g_0 \rVert g_w / \lVert g_w \rVert`.

    Args:
        num_tasks: number of tasks T.
        c: radius around the mean gradient, 0 or more, below 1 for the paper's guarantee; 0.4 as the authors use for
            NYUv2. At 0 it is ``equal``.
        rescale: what d is divided by: ``square``, 1 + c², as in the authors' code; ``linear``, 1 + c; or ``none``.
        at: ``parameters`` as in the paper, or ``features``.

    Reference:
        Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", 2021, eq. 3-4 and algorithm 1.
        https://arxiv.org/abs/2110.14048

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the step near the mean gradient that is best for the worst-served task"
    reference = "Liu et al., Conflict-Averse Gradient Descent, 2021, eq. 3-4, https://arxiv.org/abs/2110.14048"
    year = 2021
    weight_scale = "near sum 1"
    tunable = {"c": Range(0.1, 0.9)}
    claims = frozenset({"permutation"})

    def __init__(
        self, num_tasks: int, *, c: float = 0.4, rescale: Rescale = "square", at: Place = "parameters"
    ) -> None:
        super().__init__(num_tasks, at=at)
        self.c = checked_number("c", c, minimum=0)
        self.rescale = checked_choice("rescale", rescale, get_args(Rescale))

    def balance(self, gramian: Array, losses: Array) -> Array:  # noqa: ARG002
        """Return the weights of d, shapes ``(K, K), (K,) -> (K,)``."""
        mean = np.full(len(gramian), 1 / len(gramian))
        radius = self.c * length(gramian, mean)
        if radius > 1e-6 * np.sqrt(gramian.max()):  # else the mean gradient vanishes, or c is 0
            inner = conflict_averse_weights(gramian, radius)
            found = length(gramian, inner)
            mean = mean + (radius / found * inner if found > 1e-6 * radius else 0.0)
        return mean / {"none": 1.0, "square": 1 + self.c**2, "linear": 1 + self.c}[self.rescale]
