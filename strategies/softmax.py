"""The dynamic weights of Chae et al. (2018)."""

import torch
from torch import Tensor, nn

from strategies.base import Strategy
from strategies.options import Range, checked_learning_rate, checked_number


class SoftmaxWeighting(Strategy):
    r"""Weight each loss by a softmax over learned logits, :math:`w = \mathrm{softmax}(\lambda / \theta)`.

    The joint loss is :math:`\sum_i w_i L_i - \beta H(w)` with the entropy :math:`H(w) = -\sum_i w_i \log w_i`; as
    published, :math:`\theta = 1` and :math:`\beta = 0`. The logits start at 0 (equal weights 1/T) and are parameters:
    the trial's optimizer trains them together with the network.

    Note:
        As published :math:`dL/d\lambda_i = w_i (L_i - L)`: descent moves weight to the smaller losses, whatever their
        importance. Under Adam with T = 2 the path is close to :math:`w = \sigma(2 \eta t)` for learning rate
        :math:`\eta` and step t as long as the order of the losses stays the same: a clock more than a balance. The
        weights collapse onto the smallest loss; with :math:`\beta > 0` they settle at
        :math:`\mathrm{softmax}(-L / \beta)` instead.

    Args:
        num_tasks: number of tasks T.
        temperature: :math:`\theta`, above 0; 1 as published. The larger, the slower and the more alike the weights.
        entropy: :math:`\beta`, 0 or more, in nats of loss per nat of entropy: a guard against collapse that is our own
            addition; 0 as published.
        learning_rate: of the logits; None, as published, is that of the network (one Adam for both).

    Reference:
        Chae et al., "End-to-end Multimodal Emotion and Gender Recognition with Dynamic Joint Loss Weights", 2018,
        eq. 1-3. https://arxiv.org/abs/1809.00758

    >>> SoftmaxWeighting(2)(torch.tensor([1.0, 3.0])).item()
    2.0
    """

    summary = "softmax over logits learned together with the network"
    reference = "Chae et al., Dynamic Joint Loss Weights, 2018, eq. 1-3, https://arxiv.org/abs/1809.00758"
    year = 2018
    weight_scale = "sum 1"
    tunable = {"temperature": Range(0.5, 10, log=True), "entropy": Range(0.0, 2.0)}
    claims = frozenset({"permutation"})
    may_be_clock = True

    def __init__(
        self, num_tasks: int, *, temperature: float = 1.0, entropy: float = 0.0, learning_rate: float | None = None
    ) -> None:
        super().__init__(num_tasks)
        self.temperature = checked_number("temperature", temperature, minimum=0, exclusive=True)
        self.entropy = checked_number("entropy", entropy, minimum=0)
        self.learning_rate = checked_learning_rate(learning_rate)
        self.may_be_clock = self.temperature == 1
        self.logits = nn.Parameter(torch.zeros(num_tasks))

    def weights(self, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Return ``softmax(lambda / temperature)``, shape ``(T,)``; the losses themselves are not looked at."""
        return (self.logits / self.temperature).softmax(dim=0)

    def combine(self, weights: Tensor, losses: Tensor) -> Tensor:
        """Return ``sum_i w_i L_i - entropy * H(w)``, shapes ``(T,), (T,) -> ()``."""
        joint = torch.dot(weights, losses)
        if self.entropy == 0:
            return joint
        # Not entr(weights): its derivative at a weight that rounds to 0 is infinite.
        logarithms = (self.logits / self.temperature).log_softmax(dim=0)
        return joint + self.entropy * torch.dot(weights, logarithms)
