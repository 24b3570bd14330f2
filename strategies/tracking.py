"""Tensors as long as the gradient that a method remembers from step to step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from strategies.balancing import GradientBalancing


class GradientMemory(GradientBalancing):
    """A method that remembers something of the size of all gradients, ``(T, d)``.

    How many parameters the network shares is known at the first step only, so this is no buffer of a fixed size; it
    travels in ``state_dict`` as extra state.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        self.step = 0
        self.memory = torch.zeros(num_tasks, 0)

    def recall(self, gradients: Tensor) -> Tensor:
        """Return the memory, zeros at the first step, on the device of ``gradients``; shape ``(T, d)``."""
        if not self.memory.numel():
            self.memory = torch.zeros_like(gradients)
        self.memory = self.memory.to(gradients.device)
        return self.memory

    def get_extra_state(self) -> dict[str, Any]:
        """Return step and memory, for ``state_dict``."""
        return {"step": self.step, "memory": self.memory}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go back to step and memory of a checkpoint."""
        self.step, self.memory = state["step"], state["memory"].clone()
