"""Fair resource allocation, Ban and Ji (2024)."""

from strategies.balancing import GramianBalancing, Place
from strategies.options import Range, checked_number
from strategies.solvers import Array, bargaining_solution


class FairResourceAllocation(GramianBalancing):
    r"""Take the alpha-fair step: maximise :math:`\sum_i (g_i \cdot d)^{1 - \alpha} / (1 - \alpha)` within a ball.

    The weights solve :math:`G w = w^{-1/\alpha}`. At :math:`\alpha = 1` (proportional fairness) the direction is that
    of ``nash_mtl``; as :math:`\alpha` grows the smallest gain counts for more. The authors solve it by least squares;
    here it is the minimum of a convex function, found by Newton's method.

    Args:
        num_tasks: number of tasks T.
        alpha: kind of fairness, above 0; 1, the default of LibMTL. The authors tune it (2 for NYUv2 and Cityscapes).
        at: ``parameters`` as in the paper, or ``features``.

    Reference:
        Ban and Ji, "Fair Resource Allocation in Multi-Task Learning", 2024, eq. 4-6 and algorithm 1.
        https://arxiv.org/abs/2402.15638

    Raises:
        StrategyError: an option out of range.
    """

    summary = "the alpha-fair step"
    reference = (
        "Ban and Ji, Fair Resource Allocation in Multi-Task Learning, 2024, eq. 4-6, https://arxiv.org/abs/2402.15638"
    )
    year = 2024
    weight_scale = "about 1 / length"
    tunable = {"alpha": Range(0.2, 5, log=True)}
    coincides = {
        "nash_mtl": "any T, in direction",
        "imtl_g": "T=2, in direction",
        "imtl": "T=2, in direction",
        "config": "T=2, in direction",
    }
    claims = frozenset({"permutation", "non-conflict"})

    def __init__(self, num_tasks: int, *, alpha: float = 1.0, at: Place = "parameters") -> None:
        super().__init__(num_tasks, at=at)
        self.alpha = checked_number("alpha", alpha, minimum=0, exclusive=True)

    def balance(self, gramian: Array, losses: Array) -> Array:  # noqa: ARG002
        """Return the fair weights, shapes ``(K, K), (K,) -> (K,)``."""
        return bargaining_solution(gramian, 1 / self.alpha)
