"""Multi-task learning as a bargaining game, Navon et al. (2022)."""

from collections.abc import Callable

import torch
from torch import Tensor

from strategies.balancing import GramianBalancing, Place
from strategies.base import Shared, Strategy
from strategies.options import Choices, checked_whole_number
from strategies.solvers import Array, bargaining_solution


class NashBargaining(GramianBalancing):
    r"""Take the Nash bargaining solution: the step with the largest product of gains.

    The weights solve :math:`G a = 1 / a`, so that the step has the length :math:`\sqrt T`; for T = 2,
    :math:`w_i = 1 / (n_i \sqrt{1 + \cos})`. They are the minimum of a convex function and are found by Newton's method
    to machine precision, where the authors iterate a convex approximation 20 times. (Their code divides G by its norm
    for the solver only: its constraint :math:`a_i (G a)_i \geq 1` has the norm put back.)

    The clipping of the shared gradient that the authors add for this method alone is left to the training loop, which
    clips all methods alike.

    Args:
        num_tasks: number of tasks T.
        update_every: steps between two solutions; in between, the weights stay and a step costs one backward pass. 1
            as in most of the paper's experiments.
        at: ``parameters`` as in the paper, or ``features``.

    Reference:
        Navon et al., "Multi-Task Learning as a Bargaining Game", 2022, claim 3.1 and algorithm 1.
        https://arxiv.org/abs/2202.01017

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the bargaining solution: the largest product of gains"
    reference = (
        "Navon et al., Multi-Task Learning as a Bargaining Game, 2022, algorithm 1, https://arxiv.org/abs/2202.01017"
    )
    year = 2022
    weight_scale = "about 1 / length"
    tunable = {"update_every": Choices((1, 5, 10, 25, 50))}
    coincides = {
        "fairgrad": "any T, in direction",
        "imtl_g": "T=2, in direction",
        "imtl": "T=2, in direction",
        "config": "T=2, in direction",
    }
    claims = frozenset({"scale", "permutation", "non-conflict"})

    step: Tensor

    def __init__(self, num_tasks: int, *, update_every: int = 1, at: Place = "parameters") -> None:
        super().__init__(num_tasks, at=at)
        self.update_every = checked_whole_number("update_every", update_every, minimum=1)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def backward(self, losses: Tensor, shared: Shared, scale: float = 1.0) -> None:
        """Bargain if it is time to; otherwise keep the weights."""
        if self.update_every == 1 or int(self.step) % self.update_every == 0:
            super().backward(losses, shared, scale)
        else:
            Strategy.backward(self, losses, shared, scale)

    def weights(self, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Return the weights of the last bargain, shape ``(T,)``; they are positive, so heads need no exception."""
        return self.last_weights

    def balance(self, gramian: Array, losses: Array) -> Array:  # noqa: ARG002
        """Return the bargaining solution, shapes ``(K, K), (K,) -> (K,)``."""
        return bargaining_solution(gramian)

    def after_step(self, recompute: Callable[[], Tensor]) -> None:  # noqa: ARG002
        """Count the step."""
        self.step += 1
