"""Impartial multi-task learning in full: loss balance, then gradient balance, Liu et al. (2021)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from strategies.balancing import FEATURE_PASSES, GramianBalancing, Place, host
from strategies.base import Shared
from strategies.imtl_g import impartial_weights
from strategies.imtl_l import LARGEST_LOG_SCALE
from strategies.options import Range, checked_learning_rate
from strategies.solvers import Array


class ImpartialLearning(GramianBalancing):
    r"""Scale the losses as ``imtl_l`` does, and balance the gradients of the scaled losses as ``imtl_g`` does.

    The weights are :math:`w_i = e^{s_i} a_i` with the :math:`a_i` of ``imtl_g`` for the gradients
    :math:`e^{s_i} g_i`; the log-scales s follow :math:`e^{s_i} L_i - 1`. The direction of the shared step is that of
    ``imtl_g``, since equal projections do not depend on lengths: what the scales change is its size and the heads.

    Args:
        num_tasks: number of tasks T.
        learning_rate: of the log-scales, 0.025 as for ``uncertainty``; None is that of the network.
        at: ``features`` as in the paper, or ``parameters``.

    Reference:
        Liu et al., "Towards Impartial Multi-task Learning", 2021, section 3.3, algorithm 1.
        https://openreview.net/forum?id=IMPnRXEWpvr

    Raises:
        StrategyError: an option out of range.
    """

    summary = "losses scaled to 1, then equal projections onto all gradients"
    reference = (
        "Liu et al., Towards Impartial Multi-task Learning, 2021, alg. 1, https://openreview.net/forum?id=IMPnRXEWpvr"
    )
    year = 2021
    passes = FEATURE_PASSES
    weight_scale = "about 1 / L"
    tunable = {"learning_rate": Range(1e-3, 0.1, log=True)}
    coincides = {
        "imtl_g": "any T, in direction",
        "config": "any T, in direction",
        "nash_mtl": "T=2, in direction",
        "fairgrad": "T=2, in direction",
    }
    claims = frozenset({"scale", "permutation", "non-conflict"})

    def __init__(self, num_tasks: int, *, learning_rate: float | None = 0.025, at: Place = "features") -> None:
        super().__init__(num_tasks, at=at)
        self.learning_rate = checked_learning_rate(learning_rate)
        self.log_scales = nn.Parameter(torch.zeros(num_tasks))

    def backward(self, losses: Tensor, shared: Shared, scale: float = 1.0) -> None:
        """Balance the gradients of the scaled losses and add the gradient of the log-scales."""
        super().backward(losses, shared, scale)
        gradient = scale * (self.log_scales.detach().exp() * losses.detach() - 1)
        self.log_scales.grad = gradient if self.log_scales.grad is None else self.log_scales.grad + gradient

    def _weights(self, matrix: Array, losses: Array) -> Array:
        scales = host(self.log_scales.exp())
        scaled = matrix * scales[:, None] * scales
        return scales * super()._weights(scaled, losses)

    def balance(self, gramian: Array, losses: Array) -> Array:  # noqa: ARG002
        """Return the weights of the scaled gradients, shapes ``(K, K), (K,) -> (K,)``."""
        return impartial_weights(gramian)

    @torch.no_grad()
    def after_step(self, recompute: Callable[[], Tensor]) -> None:  # noqa: ARG002
        """Keep the scales within their bound."""
        self.log_scales.clamp_(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
