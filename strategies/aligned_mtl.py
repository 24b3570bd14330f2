"""Independent component alignment, Senushkin et al. (2023)."""

from typing import Literal, get_args

import numpy as np

from strategies.balancing import GramianBalancing, Place
from strategies.options import Choices, checked_choice
from strategies.solvers import Array

Scale = Literal["min", "median", "rmse"]

RELATIVE_RANK = float(np.finfo(np.float32).eps)
"""Eigenvalues below this share of the largest, times T, count as 0, as in the authors' code: noise of floats."""


class AlignedGradients(GramianBalancing):
    r"""Replace the gradients by the nearest set of orthogonal ones of equal length, and add those up.

    With :math:`G = V \Lambda V^\top`, the weights are the sums of
    :math:`B = \sqrt{\lambda} V \Lambda^{-1/2} V^\top` over its rows; the common length :math:`\sqrt\lambda` is that of
    the smallest non-zero eigenvalue. Directions without gradient are left out. A weight may be negative.

    Args:
        num_tasks: number of tasks T.
        scale: the eigenvalue that sets the length: ``min`` as in the paper, ``median``, or ``rmse`` (their mean).
        at: ``parameters`` as in the paper (its cheaper variant is ``features``).

    Reference:
        Senushkin et al., "Independent Component Alignment for Multi-Task Learning", 2023, eq. 10-13 and algorithm 1.
        https://arxiv.org/abs/2305.19000

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the nearest orthogonal gradients of equal length, added up"
    reference = "Senushkin et al., Independent Component Alignment, 2023, eq. 10-13, https://arxiv.org/abs/2305.19000"
    year = 2023
    weight_scale = "T or less"
    tunable = {"scale": Choices(("min", "median", "rmse"))}
    claims = frozenset({"permutation"})

    def __init__(self, num_tasks: int, *, scale: Scale = "min", at: Place = "parameters") -> None:
        super().__init__(num_tasks, at=at)
        self.scale = checked_choice("scale", scale, get_args(Scale))

    def balance(self, gramian: Array, losses: Array) -> Array:  # noqa: ARG002
        """Return the sums of the rows of B, shapes ``(K, K), (K,) -> (K,)``."""
        values, vectors = np.linalg.eigh(gramian)
        kept = values > values[-1] * len(values) * RELATIVE_RANK
        values, vectors = values[kept], vectors[:, kept]
        length = {"min": values[0], "median": values[(len(values) - 1) // 2], "rmse": values.mean()}[self.scale]
        return np.asarray(np.sqrt(length) * (vectors / np.sqrt(values)) @ vectors.sum(axis=0))
