"""Random numbers of a strategy's own: a function of seed and step, so that they need no generator in a checkpoint."""

from typing import Any

import numpy as np
import torch
from torch import nn


class Draws(nn.Module):
    """A generator for every step of training, the same for all micro-batches of the step and after a resume.

    The global generators are left alone: a method that draws random numbers must not change the dropout masks or the
    data order that it shares with the methods it is compared with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seed = 0
        self.step = 0

    def advance(self) -> None:
        """Go on to the next step."""
        self.step += 1

    def numpy(self) -> np.random.Generator:
        """Return the generator of the current step."""
        return np.random.default_rng([self.seed, self.step])

    def torch(self) -> torch.Generator:
        """Return the generator of the current step, on the CPU."""
        state = np.random.SeedSequence([self.seed, self.step]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))

    def get_extra_state(self) -> dict[str, int]:
        """Return seed and step, for ``state_dict``."""
        return {"seed": self.seed, "step": self.step}

    def set_extra_state(self, state: Any) -> None:  # noqa: ANN401  (the signature of nn.Module)
        """Go back to the seed and step of a checkpoint."""
        self.seed, self.step = state["seed"], state["step"]
