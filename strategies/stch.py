"""Smooth Tchebycheff scalarisation, Lin et al. (2024)."""

from typing import Literal, get_args

import torch
from torch import Tensor

from strategies.base import Strategy
from strategies.losses import SMALLEST_LOSS, inverse, present
from strategies.options import Range, checked_choice, checked_number, checked_whole_number

Form = Literal["log", "plain"]


class SmoothTchebycheff(Strategy):
    r"""Minimise a smooth maximum of the losses, so that the worst task leads.

    ``log``, as the authors train networks, after ``warmup_epochs`` epochs on :math:`\sum_i \log L_i`:

    .. math:: T \mu \log \sum_i \exp(\log(L_i / \bar L_i) / \mu), \qquad
        w_i = T\, \mathrm{softmax}(\log(L_i / \bar L_i) / \mu)_i / L_i

    where :math:`\bar L_i`, the nadir, is the mean training loss of the last epoch of warming up.

    ``plain``, the formula of the paper with equal preferences and the ideal point at 0:

    .. math:: \mu \log \sum_i \exp(L_i / (T \mu)), \qquad w_i = \mathrm{softmax}(L / (T \mu))_i / T

    from the first step on; the weights go from 1/T for a single worst task (:math:`\mu \to 0`) to 1/T² each.

    For ``log`` the losses must not be negative, and one that is 0 takes no part; for ``plain`` 0 is a value like any.

    Args:
        num_tasks: number of tasks T.
        mu: smoothness, above 0; 1 as in the authors' code. It is on the scale of the losses for ``plain``.
        form: ``log`` or ``plain``.
        warmup_epochs: of ``log``, at least 1 (something must measure the nadir); 5, the first four and the one that
            measures in the authors' code, or fewer in a short training.

    Reference:
        Lin et al., "Smooth Tchebycheff Scalarization for Multi-Objective Optimization", 2024, eq. 9 and appendix on
        multi-task learning. https://arxiv.org/abs/2402.19078

    Raises:
        StrategyError: an option out of range, or a negative loss where a logarithm is taken.
    """

    summary = "a smooth maximum of the losses: the worst task leads"
    reference = "Lin et al., Smooth Tchebycheff Scalarization, 2024, eq. 9, https://arxiv.org/abs/2402.19078"
    year = 2024
    weight_scale = "T / L, or 1/T"
    tunable = {"mu": Range(0.01, 10, log=True)}
    claims = frozenset({"permutation"})

    nadir: Tensor
    epochs: Tensor

    def __init__(self, num_tasks: int, *, mu: float = 1.0, form: Form = "log", warmup_epochs: int = 5) -> None:
        super().__init__(num_tasks)
        self.mu = checked_number("mu", mu, minimum=0, exclusive=True)
        self.form = checked_choice("form", form, get_args(Form))
        self.warmup_epochs = checked_whole_number("warmup_epochs", warmup_epochs, minimum=1)
        self.register_buffer("nadir", torch.ones(num_tasks))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def weights(self, losses: Tensor) -> Tensor:
        """Return the derivative of the objective by each loss, shape ``(T,)``, without graph."""
        values = losses.detach()
        if self.form == "plain":
            return (values / (self.num_tasks * self.mu)).softmax(dim=0) / self.num_tasks
        active = present("stch", losses)
        inverses = inverse(losses, active)
        scores = (values.clamp(min=SMALLEST_LOSS) / self.nadir).log() / self.mu
        leading = self.num_tasks * scores.masked_fill(~active, -torch.inf).softmax(dim=0).nan_to_num(nan=0.0)
        return torch.where(self.epochs < self.warmup_epochs, inverses, leading * inverses)

    def after_epoch(self, mean_losses: Tensor) -> None:
        """Count the epoch; the last one of warming up gives the nadir."""
        self.epochs += 1
        is_last = self.epochs == self.warmup_epochs
        self.nadir.copy_(torch.where(is_last, mean_losses.detach().clamp(min=SMALLEST_LOSS), self.nadir))
