"""Multiple gradient descent, Sener and Koltun (2018)."""

from typing import Literal, get_args

import numpy as np

from strategies.balancing import FEATURE_PASSES, GramianBalancing, Place
from strategies.options import Choices, checked_choice
from strategies.solvers import Array, lengths, smallest_combination

Normalisation = Literal["none", "l2", "loss", "loss+"]


class MultipleGradientDescent(GramianBalancing):
    r"""Take the shortest convex combination of the gradients, which no loss opposes.

    :math:`w = \arg\min_{w \in \Delta} \lVert \sum_i w_i g_i \rVert^2`, solved exactly. For T = 2 with lengths
    :math:`n_i` and inner product p: :math:`w_1 = (n_2^2 - p) / (n_1^2 + n_2^2 - 2p)`, clipped to [0, 1]. The method
    favours tasks with short gradients, up to giving all weight to one.

    With a normalisation the combination is sought among scaled gradients, while the weights apply to the losses as
    they are, as in the authors' code.

    Args:
        num_tasks: number of tasks T.
        at: ``features`` as in the paper (there MGDA-UB, the method of its experiments), or ``parameters``.
        normalisation: what each gradient is divided by: ``none`` as in the paper, its length ``l2``, its ``loss``, or
            both, ``loss+``.

    Reference:
        Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", 2018, eq. 3, 5 and algorithm 2.
        https://arxiv.org/abs/1810.04650

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the shortest convex combination of the gradients"
    reference = (
        "Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization, 2018, https://arxiv.org/abs/1810.04650"
    )
    year = 2018
    passes = FEATURE_PASSES
    weight_scale = "sum 1"
    tunable = {"normalisation": Choices(("none", "l2", "loss", "loss+"))}
    claims = frozenset({"permutation", "non-conflict"})

    def __init__(self, num_tasks: int, *, at: Place = "features", normalisation: Normalisation = "none") -> None:
        super().__init__(num_tasks, at=at)
        self.normalisation = checked_choice("normalisation", normalisation, get_args(Normalisation))

    def balance(self, gramian: Array, losses: Array) -> Array:
        """Return the point of the simplex with the shortest combination, shapes ``(K, K), (K,) -> (K,)``."""
        divisors = np.ones_like(losses)
        if self.normalisation in ("l2", "loss+"):
            divisors *= lengths(gramian)
        if self.normalisation in ("loss", "loss+"):
            divisors *= np.maximum(losses, np.finfo(np.float32).tiny)
        return smallest_combination(gramian / np.outer(divisors, divisors))
