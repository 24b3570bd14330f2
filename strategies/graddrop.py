"""Gradient sign dropout, Chen et al. (2020)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from strategies.balancing import FEATURE_PASSES, GradientBalancing, Place
from strategies.base import Shared, TaskFacts
from strategies.draws import Draws
from strategies.options import Range, checked_share


class GradientSignDropout(GradientBalancing):
    r"""Where the tasks disagree on the sign, follow those of one sign, drawn at random.

    For every component, :math:`P = \frac12 (1 + \sum_i g_i / \sum_i \lvert g_i \rvert)`; with a number U uniform on
    [0, 1], the positive gradients are kept if :math:`U < P` and the negative ones otherwise. At the features there is
    one P and U for each of the F features, from the gradients times the sign of the feature, summed over the batch, as
    published; at the parameters one for each parameter. The weight of every task is 1.

    The random numbers are a function of the trial's seed and the step.

    Args:
        num_tasks: number of tasks T.
        at: ``features`` as in the paper, or ``parameters`` as in the code of FAMO and TorchJD.
        leak: share of every gradient that passes in any case, 0 to 1; 0 as in the paper.

    Reference:
        Chen et al., "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout", 2020, algorithm 1
        and section 3.3. https://arxiv.org/abs/2010.06808

    Raises:
        StrategyError: an option out of range.
    """

    summary = "one sign per component, drawn where the tasks disagree"
    reference = "Chen et al., Just Pick a Sign (GradDrop), 2020, algorithm 1, https://arxiv.org/abs/2010.06808"
    year = 2020
    passes = FEATURE_PASSES
    weight_scale = "1 each"
    tunable = {"leak": Range(0.0, 0.9)}
    weighs_trunk = False

    def __init__(self, num_tasks: int, *, at: Place = "features", leak: float = 0.0) -> None:
        super().__init__(num_tasks, at=at)
        self.leak = checked_share("leak", leak)
        self.draws = Draws()
        self._features = torch.zeros(0)

    def setup(self, tasks: Sequence[TaskFacts], seed: int) -> None:  # noqa: ARG002
        """Seed the draws."""
        self.draws.seed = seed

    def backward(self, losses: Tensor, shared: Shared, scale: float = 1.0) -> None:
        """Balance at the features, which the published rule also looks at, or collect the gradients."""
        if self.at == "features" and shared.features is not None:
            self._features = shared.features.detach()
        super().backward(losses, shared, scale)
        self._features = torch.zeros(0)

    def aggregate(self, gradients: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the sum of what passes and weights of 1."""
        weights = torch.ones(len(gradients), device=gradients.device)
        if self.at == "parameters":
            return self._passed(gradients, gradients).sum(dim=0), weights
        per_sample = gradients.view(len(gradients), *self._features.shape)
        votes = (per_sample * self._features.sign()).sum(dim=1)
        return self._passed(per_sample, votes.unsqueeze(1)).sum(dim=0).flatten(), weights

    def after_step(self, recompute: Callable[[], Tensor]) -> None:  # noqa: ARG002
        """Go on to the next draw."""
        self.draws.advance()

    def _passed(self, gradients: Tensor, votes: Tensor) -> Tensor:
        total = votes.abs().sum(dim=0)
        positive = 0.5 * (1 + votes.sum(dim=0) / total.clamp(min=torch.finfo(total.dtype).tiny))
        drawn = torch.rand(positive.shape, generator=self.draws.torch()).to(positive)
        kept = torch.where(drawn < positive, votes > 0, votes < 0)
        return gradients * kept if self.leak == 0 else torch.where(kept, gradients, self.leak * gradients)
