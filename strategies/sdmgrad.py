"""Stochastic direction-oriented multi-objective gradient descent, Xiao et al. (2023)."""

import numpy as np

from strategies.options import Range, checked_number, checked_whole_number
from strategies.sampling import DoubleSampling
from strategies.solvers import Array, simplex_projection

MOMENTUM = 0.5
"""Of the inner descent, as in the authors' code."""


class DirectionOriented(DoubleSampling):
    r"""Look for the common direction near the mean gradient, with weights that follow independent samples.

    With the product :math:`A = J_1 J_2^\top` of two samples, divided by the square of the mean length on its diagonal,
    the weights descend :math:`\frac12 w^\top A w + \lambda\, w^\top A \mathbf 1 / T` on the simplex by projected steps
    with momentum 0.5, from where they were in the last step. The step is
    :math:`d = (g_w + \lambda g_0) / (1 + \lambda)` with the mean gradient :math:`g_0`.

    Args:
        num_tasks: number of tasks T.
        pull: :math:`\lambda`, 0 or more, the pull towards the mean gradient; 0.3 as in the authors' experiments.
        rate: size of the inner steps; 5, as LibMTL gives the authors' code.
        iterations: number of inner steps; 20, likewise.

    Reference:
        Xiao et al., "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms", 2023,
        algorithm 1 and section 6.1. https://arxiv.org/abs/2305.18409

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the common direction near the mean gradient, from two samples"
    reference = (
        "Xiao et al., Direction-oriented Multi-objective Learning, 2023, alg. 1, https://arxiv.org/abs/2305.18409"
    )
    year = 2023
    weight_scale = "sum 1"
    tunable = {"pull": Range(0.01, 10, log=True)}
    claims = frozenset({"permutation"})

    def __init__(self, num_tasks: int, *, pull: float = 0.3, rate: float = 5.0, iterations: int = 20) -> None:
        super().__init__(num_tasks)
        self.pull = checked_number("pull", pull, minimum=0)
        self.rate = checked_number("rate", rate, minimum=0, exclusive=True)
        self.iterations = checked_whole_number("iterations", iterations, minimum=1)

    def move(self, product: Array) -> Array:
        """Descend on the simplex and return ``(w + pull / T) / (1 + pull)``, shapes ``(T, T) -> (T,)``."""
        scale = np.sqrt(np.maximum(np.diag(product), 0.0)).mean()
        if scale > 0:
            self.task_weights = self._descend(product / scale**2)
        return np.asarray((self.task_weights + self.pull / self.num_tasks) / (1 + self.pull))

    def _descend(self, product: Array) -> Array:
        weights, velocity = self.task_weights, np.zeros(self.num_tasks)
        towards_mean = self.pull * product.mean(axis=1)
        for _ in range(self.iterations):
            velocity = MOMENTUM * velocity + product @ weights + towards_mean
            weights = simplex_projection(weights - self.rate * velocity)
        return weights
