"""Gradient vaccine, Wang et al. (2021)."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from strategies.balancing import GradientBalancing, balance_present, gramian, host, with_gradient
from strategies.base import TaskFacts
from strategies.draws import Draws
from strategies.options import Range, checked_share
from strategies.solvers import Array, length

SMALLEST = 1e-8


class GradientVaccine(GradientBalancing):
    r"""Turn each gradient towards the others until their cosine is what it has been on average.

    For each task i, for the other tasks j in random order: if the cosine :math:`\varphi` of :math:`g_i'` and
    :math:`g_j` is below its running mean :math:`\hat\varphi_{ij}`,

    .. math:: g_i' \leftarrow g_i' + \frac{\lVert g_i' \rVert (\hat\varphi \sqrt{1 - \varphi^2}
        - \varphi \sqrt{1 - \hat\varphi^2})}{\lVert g_j \rVert \sqrt{1 - \hat\varphi^2}} g_j,
        \qquad \hat\varphi \leftarrow (1 - \beta) \hat\varphi + \beta \varphi .

    The means start at 0 (where the first step is that of ``pcgrad``) and are kept for the network as a whole. The step
    is the sum of the gradients turned.

    Args:
        num_tasks: number of tasks T.
        beta: how fast the mean cosine follows, 0 to 1; 0.5, the default of LibMTL and TorchJD.

    Reference:
        Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively Multilingual
        Models", 2021, eq. 2 and algorithm 1. https://arxiv.org/abs/2010.05874

    Raises:
        StrategyError: an option out of range.
    """

    summary = "gradients turned until their cosines are the usual ones"
    reference = "Wang et al., Gradient Vaccine, 2021, eq. 2 and algorithm 1, https://arxiv.org/abs/2010.05874"
    year = 2021
    weight_scale = "1 or more each"
    tunable = {"beta": Range(1e-3, 1.0, log=True)}

    targets: Tensor

    def __init__(self, num_tasks: int, *, beta: float = 0.5) -> None:
        super().__init__(num_tasks)
        self.beta = checked_share("beta", beta)
        self.draws = Draws()
        self.register_buffer("targets", torch.zeros(num_tasks, num_tasks, dtype=torch.float64))

    def setup(self, tasks: Sequence[TaskFacts], seed: int) -> None:  # noqa: ARG002
        """Seed the order of the turns."""
        self.draws.seed = seed

    def aggregate(self, gradients: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the turned gradients and what it holds of each original one."""
        matrix, targets = gramian(gradients), host(self.targets)
        present = with_gradient(matrix)
        block = np.ix_(present, present)

        def balance(reduced: Array, _: Array) -> Array:
            means = targets[block]
            weights = vaccinated(reduced, means, self.beta, self.draws.numpy())
            targets[block] = means
            return weights

        weights = torch.from_numpy(balance_present(matrix, host(losses), balance)).to(gradients)
        self.targets.copy_(torch.from_numpy(targets))
        return weights @ gradients, weights

    def after_step(self, recompute: Callable[[], Tensor]) -> None:  # noqa: ARG002
        """Go on to the next order."""
        self.draws.advance()


def vaccinated(gramian: Array, targets: Array, beta: float, generator: np.random.Generator) -> Array:
    """Return the weights ``(T,)`` of the turned gradients and move the mean cosines ``targets`` ``(T, T)`` in place."""
    parts = np.eye(len(gramian))  # row i: the turned gradient of task i, in terms of the original ones
    norms = np.sqrt(np.diag(gramian))
    for task, part in enumerate(parts):
        for other in generator.permutation(len(gramian)):
            if other == task:
                continue
            found = length(gramian, part)
            cosine = float(
                np.clip(part @ gramian[other] / (found * norms[other] + SMALLEST * norms[other] ** 2), -1, 1)
            )
            target = targets[task, other]
            if cosine < target:
                sine, target_sine = np.sqrt(1 - cosine**2), np.sqrt(1 - target**2)
                turn = found * (target * sine - cosine * target_sine)
                part[other] += turn / (norms[other] * max(target_sine, SMALLEST))
            targets[task, other] = (1 - beta) * target + beta * cosine
    return np.asarray(parts.sum(axis=0))
