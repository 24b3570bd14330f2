"""Adam for the own weights of a method that must not share the trial's optimizer."""

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class OwnAdam(nn.Module):
    """Adam (Kingma and Ba, 2015, algorithm 1; https://arxiv.org/abs/1412.6980) with all its state in buffers.

    Args:
        num_values: length of the vector it moves.
        learning_rate: step size.
        weight_decay: factor of the vector added to its gradient.
    """

    first: Tensor
    second: Tensor
    steps: Tensor

    def __init__(self, num_values: int, learning_rate: float, weight_decay: float) -> None:
        super().__init__()
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.register_buffer("first", torch.zeros(num_values))
        self.register_buffer("second", torch.zeros(num_values))
        self.register_buffer("steps", torch.zeros(()))

    @torch.no_grad()
    def step(self, values: Tensor, gradient: Tensor) -> None:
        """Move ``values`` in place, shapes ``(T,), (T,)``."""
        gradient = gradient + self.weight_decay * values
        self.steps += 1
        self.first.lerp_(gradient, 1 - BETAS[0])
        self.second.lerp_(gradient.square(), 1 - BETAS[1])
        first = self.first / (1 - BETAS[0] ** self.steps)
        second = self.second / (1 - BETAS[1] ** self.steps)
        values.sub_(self.learning_rate * first / (second.sqrt() + EPSILON))
