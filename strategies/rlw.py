"""Random loss weighting, Lin et al. (2022)."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from strategies.base import Strategy, TaskFacts
from strategies.draws import Draws
from strategies.options import Choices, checked_choice

Distribution = Literal["normal", "dirichlet"]


class RandomWeighting(Strategy):
    r"""Draw the weights anew for every step: the baseline that any dynamic method should beat.

    ``normal``: :math:`w = \mathrm{softmax}(z)` with :math:`z_i \sim N(0, 1)`; ``dirichlet``: uniform on the simplex.
    The numbers are a function of the trial's seed and the step, from a generator of the strategy's own: data order and
    dropout stay those of the other arms.

    Args:
        num_tasks: number of tasks T.
        distribution: ``normal``, as in the paper's main experiments and LibMTL, or ``dirichlet``, another of the
            paper's.

    Reference:
        Lin et al., "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning", 2022,
        section 3. https://arxiv.org/abs/2111.10603

    Raises:
        StrategyError: no such distribution.
    """

    summary = "random weights, drawn anew for every step"
    reference = (
        "Lin et al., Reasonable Effectiveness of Random Weighting, 2022, sec. 3, https://arxiv.org/abs/2111.10603"
    )
    year = 2022
    weight_scale = "sum 1"
    tunable = {"distribution": Choices(("normal", "dirichlet"))}

    def __init__(self, num_tasks: int, *, distribution: Distribution = "normal") -> None:
        super().__init__(num_tasks)
        self.distribution = checked_choice("distribution", distribution, get_args(Distribution))
        self.draws = Draws()

    def setup(self, tasks: Sequence[TaskFacts], seed: int) -> None:  # noqa: ARG002
        """Seed the generator."""
        self.draws.seed = seed

    def weights(self, losses: Tensor) -> Tensor:
        """Return the weights of this step, shape ``(T,)``."""
        generator = self.draws.torch()
        if self.distribution == "normal":
            return torch.randn(self.num_tasks, generator=generator).softmax(dim=0).to(losses)
        lengths = torch.empty(self.num_tasks).exponential_(generator=generator)
        return (lengths / lengths.sum()).to(losses)

    def after_step(self, recompute: Callable[[], Tensor]) -> None:  # noqa: ARG002
        """Go on to the next draw."""
        self.draws.advance()
