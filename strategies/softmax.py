"""The dynamic weights of Chae et al. (2018)."""

import torch
from torch import Tensor, nn

from strategies.base import Strategy
from strategies.options import checked_learning_rate


class SoftmaxWeighting(Strategy):
    r"""Weight each loss by a softmax over learned logits, :math:`w = \mathrm{softmax}(\lambda)`.

    The joint loss is :math:`\sum_i w_i L_i`. The logits start at zero (equal weights 1/T) and are parameters: the
    trial's optimizer trains them together with the network.

    Note:
        :math:`dL/d\lambda_i = w_i (L_i - L)`: descent moves weight to the smaller losses, whatever their importance.
        Under Adam with T = 2 the path is close to :math:`w = \sigma(2 \eta t)` for learning rate :math:`\eta` and step
        t as long as the order of the losses stays the same: a clock more than a balance.

    Args:
        num_tasks: number of tasks T.
        learning_rate: of the logits; None, as published, is that of the network (one Adam for both).

    Reference:
        Chae et al., "End-to-end Multimodal Emotion and Gender Recognition with Dynamic Joint Loss Weights", 2018,
        eq. 1-3. https://arxiv.org/abs/1809.00758

    >>> SoftmaxWeighting(2)(torch.tensor([1.0, 3.0])).item()
    2.0
    """

    summary = "softmax over logits learned together with the network"
    reference = "Chae et al., Dynamic Joint Loss Weights, 2018, eq. 1-3, https://arxiv.org/abs/1809.00758"

    def __init__(self, num_tasks: int, *, learning_rate: float | None = None) -> None:
        super().__init__(num_tasks)
        self.learning_rate = checked_learning_rate(learning_rate)
        self.logits = nn.Parameter(torch.zeros(num_tasks))

    def weights(self, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Return ``softmax(lambda)``, shape ``(T,)``; the losses themselves are not looked at."""
        return self.logits.softmax(dim=0)
