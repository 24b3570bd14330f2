"""Multi-objective gradient with double sampling, Chen et al. (2023)."""

import numpy as np

from strategies.options import Range, checked_number
from strategies.sampling import DoubleSampling
from strategies.solvers import Array, simplex_projection


class DoubleSampledDescent(DoubleSampling):
    r"""Follow the weights of the shortest combination slowly, by one step per batch from independent samples.

    .. math:: w \leftarrow \Pi_\Delta \left( w - \gamma (J_1 J_2^\top w + \rho w) \right), \qquad d = J^\top w

    where :math:`\Pi_\Delta` projects onto the simplex. At the default rate the weights hardly move unless gradients
    are long: tune it.

    Args:
        num_tasks: number of tasks T.
        rate: :math:`\gamma`, above 0; 1e-3, the default of LibMTL, which adapts the authors' code.
        decay: :math:`\rho`, 0 or more, a pull towards equal weights; 0.1, likewise.

    Reference:
        Chen et al., "Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization and
        Conflict-Avoidance", 2023, eq. 2.9 and algorithm 1. https://arxiv.org/abs/2305.20057

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the shortest combination, followed slowly with two samples"
    reference = (
        "Chen et al., Three-Way Trade-Off in Multi-Objective Learning, 2023, eq. 2.9, https://arxiv.org/abs/2305.20057"
    )
    year = 2023
    weight_scale = "sum 1"
    tunable = {"rate": Range(1e-4, 10, log=True), "decay": Range(0.0, 1.0)}
    claims = frozenset({"permutation"})

    def __init__(self, num_tasks: int, *, rate: float = 1e-3, decay: float = 0.1) -> None:
        super().__init__(num_tasks)
        self.rate = checked_number("rate", rate, minimum=0, exclusive=True)
        self.decay = checked_number("decay", decay, minimum=0)

    def move(self, product: Array) -> Array:
        """Take one projected step and return the new weights, shapes ``(T, T) -> (T,)``."""
        step = product @ self.task_weights + self.decay * self.task_weights
        self.task_weights = simplex_projection(self.task_weights - self.rate * step)
        return np.asarray(self.task_weights)
