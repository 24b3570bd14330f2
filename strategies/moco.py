"""Multi-objective gradient correction, Fernando et al. (2023)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from strategies.options import Range, checked_number, checked_share
from strategies.tracking import GradientMemory


class GradientCorrection(GradientMemory):
    r"""Follow the gradients by running means, and the weights of their shortest combination by small steps.

    At step k, with :math:`h_i = L_i g_i / n_i` (the authors' code scales every gradient to the length of its loss),

    .. math:: y_i \leftarrow y_i - \frac{\beta}{k^{\sigma_\beta}} (y_i - h_i), \qquad
        \lambda \leftarrow \mathrm{softmax}\left( \lambda - \frac{\gamma}{k^{\sigma_\gamma}} (Y Y^\top + \rho I) \lambda
        \right), \qquad d = Y^\top \lambda .

    The softmax takes the place of the paper's projection onto the simplex, as in the authors' code. What is reported
    as the weight of task i, and what its head gets, is :math:`\lambda_i L_i / n_i`.

    Args:
        num_tasks: number of tasks T.
        beta: rate of the means, 0 to 1; 0.5, as the other defaults that of LibMTL, which adapts the authors' code.
        beta_decay: :math:`\sigma_\beta`, 0.5.
        gamma: rate of the weights, 0.1.
        gamma_decay: :math:`\sigma_\gamma`, 0.5.
        rho: pull towards equal weights, 0 or more; 0.

    Reference:
        Fernando et al., "Mitigating Gradient Bias in Multi-objective Learning: A Provably Convergent Approach", 2023,
        algorithm 1. https://openreview.net/forum?id=dLAYGdKTi2

    Raises:
        StrategyError: an option out of range.
    """

    summary = "running means of the gradients and of their shortest combination"
    reference = "Fernando et al., Mitigating Gradient Bias (MoCo), 2023, algorithm 1, https://openreview.net/forum?id=dLAYGdKTi2"
    year = 2023
    weight_scale = "L / length"
    tunable = {"beta": Range(0.05, 1.0, log=True), "gamma": Range(1e-3, 10, log=True)}
    claims = frozenset({"permutation"})
    weighs_trunk = False

    def __init__(
        self,
        num_tasks: int,
        *,
        beta: float = 0.5,
        beta_decay: float = 0.5,
        gamma: float = 0.1,
        gamma_decay: float = 0.5,
        rho: float = 0.0,
    ) -> None:
        super().__init__(num_tasks)
        self.beta = checked_share("beta", beta)
        self.beta_decay = checked_number("beta_decay", beta_decay, minimum=0)
        self.gamma = checked_number("gamma", gamma, minimum=0)
        self.gamma_decay = checked_number("gamma_decay", gamma_decay, minimum=0)
        self.rho = checked_number("rho", rho, minimum=0)
        self.shares = torch.full((num_tasks,), 1 / num_tasks)

    def aggregate(self, gradients: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the running means at the weights, and the weights of the tasks' current gradients."""
        self.step += 1
        norms = gradients.norm(dim=1)
        factors = torch.where(norms > 0, losses / norms.clamp(min=torch.finfo(norms.dtype).tiny), 0.0)
        memory = self.recall(gradients)
        memory.lerp_(factors[:, None] * gradients, self.beta / self.step**self.beta_decay)
        shares = self.shares.to(gradients)
        slope = memory @ (memory.T @ shares) + self.rho * shares
        self.shares = (shares - self.gamma / self.step**self.gamma_decay * slope).softmax(dim=0)
        return self.shares @ memory, self.shares * factors

    def get_extra_state(self) -> dict[str, Any]:
        """Return step, means and weights, for ``state_dict``."""
        return {**super().get_extra_state(), "shares": self.shares}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go back to step, means and weights of a checkpoint."""
        super().set_extra_state(state)
        self.shares = state["shares"].clone()
