"""Intervals by leaving out and drawing again whole seeds.

A seed's values of all tasks come from one network and are drawn together: drawing each task's column for itself, as
is done across tasks elsewhere, takes three tasks of one network for three independent ones.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from study.analysis.statistics import ALPHA, Interval, check_level, finite, t_interval

FEWEST_FOR_BOOTSTRAP = 20
"""Seeds from which a bootstrap interval covers about as often as it says; with 10, one of nominal 95 % covers 89 % of
the time. Student's covers with any number, and the bootstrap's may be lopsided as the values are."""
MOST_FOR_BOOTSTRAP = 1_000
"""Seeds above which the two intervals are the same for all purposes and Student's costs nothing."""
NUM_RESAMPLES = 5_000
"""Draws: the end of a 95 % interval then lies within 0.5 points of its percentile (2 standard errors)."""
_SEED = 20_180_901
"""Of the draws, so that the same rows always give the same report."""


def mean_interval(values: Sequence[float], level: float = 1 - ALPHA) -> Interval | None:
    """Return the interval of a mean over seeds: Student's below 20 seeds, the bootstrap's from there on.

    >>> mean_interval([1.0, 2.0, 3.0]).method, mean_interval(range(20)).method
    ('t', 'bootstrap')

    Raises:
        StudyError: a value is not finite, or the level is not a probability.
    """
    if FEWEST_FOR_BOOTSTRAP <= len(values) <= MOST_FOR_BOOTSTRAP:
        return bootstrap_interval(values, level)
    return t_interval(values, level)


def bootstrap_interval(values: Sequence[float], level: float = 1 - ALPHA) -> Interval | None:
    """Return the expanded percentile bootstrap interval of a mean; None for fewer than 2 values.

    All metrics of the same number of seeds use the same draws, so that whole seeds are drawn: a difference of two means
    has the draws of both. The percentiles are expanded, which leaves many seeds as they are: a plain interval of 20
    seeds is too short by the root of n / (n - 1) and knows no Student. It is not bias-corrected and accelerated: paired
    differences are symmetric, however skewed the losses are, and an acceleration that is estimated from 20 of them
    takes chance for skew (measured on lognormal noise, 20 seeds: BCa covers 92 %, this one 96 %).

    Raises:
        StudyError: a value is not finite, or the level is not a probability.

    Reference:
        Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69, 2015, section 3.3
        (expanded percentiles). https://doi.org/10.1080/00031305.2015.1089789
    """
    array = finite(values)
    check_level(level)
    if array.size < 2:
        return None
    mean = float(array.mean())
    if (array == array[0]).all():
        return Interval(mean, mean, mean, array.size, level, "bootstrap")
    wider = np.sqrt(array.size / (array.size - 1)) * special.stdtrit(array.size - 1, (1 + level) / 2)
    low, high = np.quantile(draws(array.size) @ array, special.ndtr([-wider, wider]))
    return Interval(mean, float(low), float(high), array.size, level, "bootstrap")


@lru_cache(maxsize=8)
def draws(num_values: int) -> NDArray[np.float64]:
    """Return how much each of n seeds counts in each draw, ``(NUM_RESAMPLES, n)``; rows sum to 1."""
    counts = np.random.default_rng(_SEED).multinomial(num_values, [1 / num_values] * num_values, NUM_RESAMPLES)
    return np.asarray(counts / num_values)


def jackknife_interval(
    statistic: Callable[[NDArray[np.float64]], float], rows: NDArray[np.float64], level: float = 1 - ALPHA
) -> Interval | None:
    r"""Return the interval of a function of means over seeds, by leaving out one seed at a time; None for fewer than 2.

    Its standard error is :math:`\sqrt{(n - 1)/n \sum_s (\theta_{(s)} - \theta_{(\cdot)})^2}`, its quantile Student's
    with n - 1 degrees of freedom. Of a mean it is Student's own interval.

    Args:
        statistic: mean row ``(...)`` -> the number.
        rows: one for each seed, ``(S, ...)``, all finite.
        level: coverage, between 0 and 1.

    >>> interval = jackknife_interval(float, np.array([1.0, 2.0, 3.0]))
    >>> round(interval.mean, 6), round(interval.half_width, 3)
    (2.0, 2.484)

    Raises:
        StudyError: a value is not finite, or the level is not a probability.

    Reference:
        Tukey, "Bias and confidence in not-quite large samples", Annals of Mathematical Statistics 29, 1958, p. 614.
        Efron and Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981.
        https://doi.org/10.1214/aos/1176345462
    """
    finite(rows.ravel().tolist())
    check_level(level)
    count = len(rows)
    if count < 2:
        return None
    mean = rows.mean(axis=0)
    estimate = float(statistic(mean))
    without = np.array([float(statistic((mean * count - row) / (count - 1))) for row in rows])
    error = float(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))
    half_width = float(special.stdtrit(count - 1, (1 + level) / 2)) * error
    return Interval(estimate, estimate - half_width, estimate + half_width, count, level, "jackknife")
