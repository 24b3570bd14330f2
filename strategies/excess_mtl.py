"""Robust multi-task learning with excess risks, He et al. (2024)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from strategies.options import Range, checked_number
from strategies.tracking import GradientMemory

EPSILON = 1e-7
"""Added to the sum of squares before the root, as in the authors' code."""


class ExcessRisk(GradientMemory):
    r"""Give more weight to the tasks that are further from the best loss they can reach.

    The distance, the excess risk, is estimated as :math:`E_i = g_i^\top \mathrm{diag}(S_i + \epsilon)^{-1/2} g_i` with
    the sum of squared gradients :math:`S_i` so far, and measured in units of its first value. The weights start at 1/T
    and follow :math:`w_i \leftarrow w_i \exp(\eta E_i / E_i(0))`, scaled to sum 1. Noise that
    no model can fit does not count.

    A task whose first gradient is zero gets its unit when it first has one. At the first step all weights grow alike
    and stay as they are; TorchJD's grow by :math:`\eta E_i(0)` there, not in units of it, a factor that stays.

    Args:
        num_tasks: number of tasks T.
        rate: :math:`\eta`, above 0; 0.01, the default of the authors' code within LibMTL (TorchJD's is 1).

    Reference:
        He et al., "Robust Multi-Task Learning with Excess Risks", 2024, eq. 5-7 and algorithm 1.
        https://arxiv.org/abs/2402.02009

    Raises:
        StrategyError: an option out of range.
    """

    summary = "more weight to the tasks further from the best they can reach"
    reference = (
        "He et al., Robust Multi-Task Learning with Excess Risks, 2024, eq. 5-7, https://arxiv.org/abs/2402.02009"
    )
    year = 2024
    weight_scale = "sum 1"
    tunable = {"rate": Range(1e-3, 1.0, log=True)}
    claims = frozenset({"permutation"})

    def __init__(self, num_tasks: int, *, rate: float = 0.01) -> None:
        super().__init__(num_tasks)
        self.rate = checked_number("rate", rate, minimum=0, exclusive=True)
        self.units = torch.zeros(num_tasks)
        self.log_weights = torch.zeros(num_tasks)

    def aggregate(self, gradients: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the weighted sum of the gradients and its weights."""
        memory = self.recall(gradients).add_(gradients.square())
        excess = (gradients.square() / (memory + EPSILON).sqrt()).sum(dim=1)
        units, log_weights = self.units.to(gradients), self.log_weights.to(gradients)
        growth = torch.where(units > 0, excess / units.clamp(min=torch.finfo(units.dtype).tiny), 0.0)
        self.units = torch.where(units > 0, units, excess)
        self.log_weights = (log_weights + self.rate * growth).log_softmax(dim=0)
        weights = self.log_weights.exp()
        return weights @ gradients, weights

    def get_extra_state(self) -> dict[str, Any]:
        """Return squares, units and weights, for ``state_dict``."""
        return {**super().get_extra_state(), "units": self.units, "log_weights": self.log_weights}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go back to squares, units and weights of a checkpoint."""
        super().set_extra_state(state)
        self.units, self.log_weights = state["units"].clone(), state["log_weights"].clone()
