"""Dual-balancing multi-task learning, Lin et al. (2023)."""

import torch
from torch import Tensor

from strategies.losses import inverse, present
from strategies.options import Range, checked_number, checked_share
from strategies.tracking import GradientMemory


class DualBalancing(GradientMemory):
    r"""Balance the losses by their logarithms and the gradients by their lengths.

    A running mean follows the gradients of the logarithms, :math:`\tilde g_i \leftarrow \beta_k \tilde g_i +
    (1 - \beta_k) g_i / L_i` with :math:`\beta_k = \beta / k^\sigma` at step k, and all tasks get the length of the
    longest:

    .. math:: d = \sum_i a_i \tilde g_i, \qquad a_i = \max_j \lVert \tilde g_j \rVert / \lVert \tilde g_i \rVert .

    What is reported as the weight of task i, and what its head gets, is :math:`a_i / L_i`.

    Args:
        num_tasks: number of tasks T.
        beta: :math:`\beta`, 0 to 1, how much of the running mean stays; 0.9, the default of LibMTL. At 0 nothing is
            remembered.
        decay: :math:`\sigma`, 0 or more; 0 keeps beta as it is, the default of LibMTL.

    Reference:
        Lin et al., "Dual-Balancing for Multi-Task Learning", 2023, eq. 2-4 and algorithm 1.
        https://arxiv.org/abs/2308.12029

    Raises:
        StrategyError: an option out of range, or a negative loss.
    """

    summary = "log losses, and gradients of equal length"
    reference = "Lin et al., Dual-Balancing for Multi-Task Learning, 2023, eq. 2-4, https://arxiv.org/abs/2308.12029"
    year = 2023
    weight_scale = "1 / (length L)"
    tunable = {"beta": Range(0.0, 0.99), "decay": Range(0.0, 1.0)}
    claims = frozenset({"scale", "permutation"})
    weighs_trunk = False

    def __init__(self, num_tasks: int, *, beta: float = 0.9, decay: float = 0.0) -> None:
        super().__init__(num_tasks)
        self.beta = checked_share("beta", beta)
        self.decay = checked_number("decay", decay, minimum=0)

    def aggregate(self, gradients: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the running means at equal lengths, and the weights of the tasks."""
        self.step += 1
        inverses = inverse(losses, present("db_mtl", losses))
        memory = self.recall(gradients)
        memory.lerp_(inverses[:, None] * gradients, 1 - self.beta / self.step**self.decay)
        norms = memory.norm(dim=1)
        balance = torch.where(norms > 0, norms.max() / norms.clamp(min=torch.finfo(norms.dtype).tiny), 0.0)
        return balance @ memory, balance * inverses
