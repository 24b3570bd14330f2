"""Points in the space of the tasks' losses: which are on the front, how far from it others are, what it encloses."""

import numpy as np
from numpy.typing import NDArray

from study.errors import StudyError

MOST_OBJECTIVES = 4
"""Objectives up to which the hypervolume is computed; it is exact, and grows with the square of the points for each
further one."""


def pareto_front(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of N points no other point dominates, smaller being better; shapes ``(N, T) -> (N,)``.

    Equal points do not dominate each other; a point with NaN is never on the front and dominates nothing.

    >>> pareto_front(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [3.0, 3.0]])).tolist()
    [True, True, True, False]
    """
    known = np.asarray(~np.isnan(points).any(axis=1), dtype=np.bool_)
    front = known.copy()
    for index in np.flatnonzero(known):
        if front[index]:  # what a dominated point dominates, the one above it does as well
            point = points[index]
            front &= ~((points >= point).all(axis=1) & (points > point).any(axis=1))
    return np.asarray(front, dtype=np.bool_)


def distance_behind(point: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    r"""Return by how much a point ``(T,)`` lies behind the surface that points ``(N, T)`` attain, smaller being better.

    :math:`\max_q \min_i (p_i - q_i)`: by how much every loss of the point has to fall until none of the others is
    better on all of them. Negative for a point beyond the surface: by how much every loss may rise. In the unit of the
    losses; points with NaN are left out, and NaN is returned where nothing is left.

    >>> front = np.array([[1.0, 3.0], [3.0, 1.0]])
    >>> distance_behind(np.array([4.0, 3.5]), front), distance_behind(np.array([2.0, 2.0]), front)
    (1.0, -1.0)

    Reference:
        Zitzler et al., "Performance assessment of multiobjective optimizers: an analysis and review", IEEE Transactions
        on Evolutionary Computation 7, 2003, section III-B (additive epsilon indicator).
        https://doi.org/10.1109/TEVC.2003.810758
    """
    known = others[~np.isnan(others).any(axis=1)]
    if np.isnan(point).any() or not len(known):
        return float("nan")
    return float((point - known).min(axis=1).max())


def hypervolume(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the volume between points ``(N, T)`` and a reference ``(T,)`` that is worse, smaller being better.

    Exact, for up to four objectives. Points that are not better than the reference on every objective, or not finite,
    count for nothing.

    >>> hypervolume(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), np.array([4.0, 4.0]))
    6.0

    Raises:
        StudyError: another number of objectives, or a reference that is not finite.

    Reference:
        Zitzler and Thiele, "Multiobjective evolutionary algorithms: a comparative case study", IEEE Transactions on
        Evolutionary Computation 3, 1999. https://doi.org/10.1109/4235.797969
    """
    objectives = len(reference)
    if points.ndim != 2 or points.shape[1] != objectives:
        raise StudyError(f"the points have the shape {points.shape}, but the reference {objectives} objectives")
    if not 1 <= objectives <= MOST_OBJECTIVES:
        raise StudyError(f"the hypervolume is exact for 1 to {MOST_OBJECTIVES} objectives, got {objectives}")
    if not np.isfinite(reference).all():
        raise StudyError("the reference of a hypervolume must be finite")
    inside = points[np.isfinite(points).all(axis=1)]
    inside = inside[(inside < reference).all(axis=1)]
    return _volume(np.unique(inside[pareto_front(inside)], axis=0), reference) if len(inside) else 0.0


def exclusive_volume(point: NDArray[np.float64], others: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return by how much a point ``(T,)`` enlarges the hypervolume of others ``(N, T)``.

    >>> exclusive_volume(np.array([1.0, 1.0]), np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([3.0, 3.0]))
    1.0

    Raises:
        StudyError: see ``hypervolume``.
    """
    alone = hypervolume(point[None], reference)
    return alone - hypervolume(np.maximum(others, point), reference) if alone else 0.0


def _volume(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    if len(reference) == MOST_OBJECTIVES:
        return _in_slabs(points, reference)
    return _on_grid(points, reference)


def _in_slabs(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Cut the volume where the last objective changes; a slab has the base of all points before it."""
    ordered = points[np.argsort(points[:, -1], kind="stable")]
    heights = np.diff(np.append(ordered[:, -1], reference[-1]))
    return sum(
        float(height) * _volume(ordered[: index + 1, :-1], reference[:-1])
        for index, height in enumerate(heights)
        if height > 0
    )


def _on_grid(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Add up the columns over the grid that all objectives but the last one span."""
    if len(reference) == 1:
        return float(reference[0] - points.min())
    axes = [np.unique(points[:, axis]) for axis in range(points.shape[1] - 1)]
    lowest = np.full([len(axis) for axis in axes], reference[-1])
    cells = tuple(np.searchsorted(values, points[:, axis]) for axis, values in enumerate(axes))
    np.minimum.at(lowest, cells, points[:, -1])
    for axis in range(lowest.ndim):
        lowest = np.minimum.accumulate(lowest, axis=axis)
    volume = reference[-1] - lowest
    for values, end in zip(axes, reference, strict=False):
        volume = np.tensordot(np.diff(np.append(values, end)), volume, axes=(0, 0))
    return float(volume)
