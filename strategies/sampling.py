"""Two independent estimates of every gradient, from the two halves of one batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strategies.balancing import GradientBalancing, host
from strategies.solvers import Array


class DoubleSampling(GradientBalancing):
    r"""A method whose weights follow products of gradients of independent samples, :math:`J_1 J_2^\top`.

    The Gramian of one sample overestimates lengths by the noise in it; the product of two does not. The published
    methods draw two or three batches for a step and so see fewer steps in an epoch than the methods they are compared
    with. Here the first and the second half of each (micro-)batch are the two samples: their gradients take 2 T
    backward passes through the trunk, and the step is made of their sum, the gradient of the batch. A batch of one
    utterance has an empty half, whose gradient is 0.

    A subclass defines ``move``; the weights start at 1/T.
    """

    passes = "2T trunks + T heads"

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        self.task_weights = np.full(num_tasks, 1 / num_tasks)

    def move(self, product: Array) -> Array:
        """Return the new weights given the product ``(T, T)`` of the two samples' gradients, and remember them."""
        raise NotImplementedError(f"{type(self).__name__} must define move(product)")

    def samples(self, gradients: Tensor) -> Tensor:
        """Return the gradients of the first half of the batch and those of the second, ``(T, N, F) -> (2T, N, F)``."""
        middle = (gradients.shape[1] + 1) // 2
        first, second = gradients.clone(), gradients.clone()
        first[:, middle:], second[:, :middle] = 0, 0
        return torch.cat([first, second])

    def aggregate(self, gradients: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the weighted sum of the gradients of the whole batch and its weights."""
        first, second = gradients.chunk(2)
        product = host(4 * first @ second.T)  # the mean over a half is twice its share of the mean over the batch
        found = self.move(product) if np.isfinite(product).all() else np.full(self.num_tasks, np.nan)
        weights = torch.from_numpy(found).to(gradients)
        return weights @ (first + second), weights

    def get_extra_state(self) -> dict[str, Any]:
        """Return the weights in double precision, for ``state_dict``."""
        return {"task_weights": torch.from_numpy(self.task_weights.copy())}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go back to the weights of a checkpoint."""
        self.task_weights = state["task_weights"].double().cpu().numpy().copy()
