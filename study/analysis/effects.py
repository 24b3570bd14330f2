"""How large a paired difference is, how often it goes one way, and how large it would have to be to be found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from study.analysis.statistics import ALPHA, finite
from study.errors import StudyError

POWER = 0.8
"""Chance of finding a difference that a study should have (convention of Cohen 1988, p. 56)."""
_LARGEST = 1e3
"""Standard deviations; no difference of arms is that large, and the search for one ends there."""


@dataclass(frozen=True)
class Share:
    """A share of seeds with its interval.

    Attributes:
        value: between 0 and 1.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


def hedges_g(differences: Sequence[float]) -> float | None:
    r"""Return the paired effect size :math:`g = J(n - 1)\,\bar d / s_d`; None for fewer than 2 differences.

    The mean difference in standard deviations of the differences, with the exact correction of its small-sample bias,
    :math:`J(m) = \Gamma(m/2) / (\sqrt{m/2}\,\Gamma((m - 1)/2))`. Infinite where all differences are the same and not
    zero. With 2 differences the correction is not finite and g is 0 times the ratio: NaN.

    >>> round(hedges_g([1.0, 2.0, 3.0, 4.0, 5.0]), 4)
    1.5139

    Raises:
        StudyError: a difference is not finite.

    Reference:
        Hedges, "Distribution theory for Glass's estimator of effect size and related estimators", Journal of
        Educational Statistics 6, 1981, eq. 6e. https://doi.org/10.3102/10769986006002107
    """
    array = finite(differences)
    if array.size < 2:
        return None
    mean = float(array.mean())
    if (array == array[0]).all():
        return 0.0 if mean == 0 else math.copysign(math.inf, mean)
    freedom = array.size - 1
    if freedom < 2:
        return math.nan
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    return correction * mean / float(array.std(ddof=1))


def improvement(differences: Sequence[float], level: float = 1 - ALPHA) -> Share | None:
    """Return the share of seeds in which a loss is lower, ties counted half; None without any.

    The estimate of the probability that the arm is better than the other with the same seed. Its interval is Clopper
    and Pearson's, which covers at least as often as it says.

    >>> improvement([-1.0, -2.0, -1.0, 2.0, 0.0]).value
    0.7

    Raises:
        StudyError: a difference is not finite.

    Reference:
        Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
        https://doi.org/10.1093/biomet/26.4.404
        Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", 2021, section 4.3
        (probability of improvement, there of unpaired runs). https://arxiv.org/abs/2108.13264
    """
    array = finite(differences)
    if not array.size:
        return None
    count, lower = array.size, float((array < 0).sum() + (array == 0).sum() / 2)
    tail = (1 - level) / 2
    low = 0.0 if lower == 0 else float(special.betaincinv(lower, count - lower + 1, tail))
    high = 1.0 if lower == count else float(special.betaincinv(lower + 1, count - lower, 1 - tail))
    return Share(lower / count, low, high)


def power(effect: float, num_seeds: int, alpha: float = ALPHA) -> float:
    """Return the chance that a two-sided paired t-test finds a mean difference, given in standard deviations.

    >>> round(power(0.0, 5), 3), round(power(2.0, 5), 2)
    (0.05, 0.91)
    """
    freedom = num_seeds - 1
    critical = special.stdtrit(freedom, 1 - alpha / 2)
    shift = effect * math.sqrt(num_seeds)
    return float(special.nctdtr(freedom, -shift, -critical) + special.nctdtr(freedom, shift, -critical))


def detectable(num_seeds: int, alpha: float = ALPHA) -> float:
    """Return the smallest mean difference, in standard deviations, that is found four times out of five.

    >>> round(detectable(5), 2), round(detectable(10), 2)
    (1.68, 1.0)

    Raises:
        StudyError: fewer than 2 seeds find nothing.

    Reference:
        Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, section 2.3.
    """
    if num_seeds < 2:
        raise StudyError(f"a test needs at least 2 seeds, got {num_seeds}")
    low, high = 0.0, 1.0
    while power(high, num_seeds, alpha) < POWER and high < _LARGEST:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, num_seeds, alpha) < POWER else (low, middle)
    return high
