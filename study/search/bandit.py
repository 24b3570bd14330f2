"""A Gaussian process over hyperparameters and time, for the population-based bandit PB2."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

MOST_OBSERVATIONS = 200
"""The latest ones: older ones say little about a training that has moved on, and cost grows with the third power."""

CANDIDATES = 1000
"""Places at which the upper confidence bound is looked at."""

LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)
FORGETTING = (0.0, 0.05, 0.1, 0.25, 0.5)
NOISES = (0.001, 0.01, 0.1, 0.5)
"""Settings of the kernel that are tried, the likeliest is used; hyperparameters lie in 0..1, gains are standardised."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Places ``(N, D)`` and times ``(N,)``."""

    places: Array
    times: Array

    def with_places(self, places: Sequence[Sequence[float]], time: float) -> "Points":
        """Return these points and others of one time."""
        return Points(np.vstack([self.places, np.array(places)]), np.append(self.times, np.full(len(places), time)))


@dataclass(frozen=True)
class Process:
    """A Gaussian process with mean 0 and variance 1.

    Attributes:
        length: distance over which gains are alike.
        forgetting: share of what is known that one interval takes away.
        noise: variance of the noise.
    """

    length: float
    forgetting: float
    noise: float

    def kernel(self, one: Points, other: Points) -> Array:
        """Return the covariance ``(N, M)``."""
        distances = ((one.places[:, None] - other.places[None]) ** 2).sum(axis=2)
        ages = np.abs(one.times[:, None] - other.times[None])
        covariance: Array = np.exp(-distances / (2 * self.length**2)) * (1 - self.forgetting) ** (ages / 2)
        return covariance

    def factor(self, points: Points) -> Array:
        """Return the lower Cholesky factor of the covariance of noisy gains."""
        return np.linalg.cholesky(self.kernel(points, points) + self.noise * np.eye(len(points.times))).astype(
            np.float64
        )

    def log_likelihood(self, points: Points, gains: Array) -> float:
        """Return the logarithm of the marginal likelihood of the gains, without its constant."""
        factor = self.factor(points)
        solved = np.linalg.solve(factor, gains)
        return float(-0.5 * solved @ solved - np.log(np.diag(factor)).sum())

    def mean(self, points: Points, gains: Array, candidates: Points) -> Array:
        """Return the expected gains ``(M,)``."""
        factor = self.factor(points)
        weights = np.linalg.solve(factor.T, np.linalg.solve(factor, gains))
        mean: Array = self.kernel(candidates, points) @ weights
        return mean

    def deviation(self, points: Points, candidates: Points) -> Array:
        """Return the standard deviations of the expected gains ``(M,)``."""
        solved = np.linalg.solve(self.factor(points), self.kernel(points, candidates))
        deviation: Array = np.sqrt(np.maximum(1.0 - (solved**2).sum(axis=0), 0.0))
        return deviation


class Bandit:
    r"""Expects gains from what intervals have gained so far.

    The kernel is :math:`k((x, t), (x', t')) = \exp(-|x - x'|^2 / 2 l^2) (1 - \epsilon)^{|t - t'| / 2}` (section 3 of
    the paper), time counted in intervals, with the likeliest of a few settings.

    Args:
        seen: number of an interval, place ``(D,)`` in the unit cube, and gain of what was trained there.

    Reference:
        Parker-Holder et al., NeurIPS 2020. https://arxiv.org/abs/2002.02518
    """

    def __init__(self, seen: Sequence[tuple[float, Sequence[float], float]]) -> None:
        latest = seen[-MOST_OBSERVATIONS:]
        self._points = Points(
            np.array([place for _, place, _ in latest], dtype=float),
            np.array([when for when, _, _ in latest], dtype=float),
        )
        gains = np.array([gain for _, _, gain in latest], dtype=float)
        self._gains = (gains - gains.mean()) / (gains.std() or 1.0)
        processes = [Process(*setting) for setting in product(LENGTHS, FORGETTING, NOISES)]
        self.process = max(processes, key=lambda process: process.log_likelihood(self._points, self._gains))

    def suggest(self, time: float, pending: Sequence[Sequence[float]], random: np.random.Generator) -> list[float]:
        r"""Return the place with the highest upper confidence bound of the gain.

        The bound :math:`\mu + \sqrt{\beta} \sigma` has :math:`\beta = 0.2 + \max(0, \log 0.4 n)` for n observations,
        as in the authors' code. Places already chosen lower the deviation around them, so that a generation
        does not choose one place twice.

        Args:
            time: number of the interval to come.
            pending: places already chosen for it.
            random: draws the candidates.
        """
        drawn = random.random((CANDIDATES, self._points.places.shape[1]))
        candidates = Points(drawn, np.full(CANDIDATES, time))
        known = self._points.with_places(pending, time) if pending else self._points
        beta = 0.2 + max(0.0, float(np.log(0.4 * len(self._gains))))
        bound = self.process.mean(self._points, self._gains, candidates)
        bound = bound + np.sqrt(beta) * self.process.deviation(known, candidates)
        return [float(value) for value in drawn[int(np.argmax(bound))]]
