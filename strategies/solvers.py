"""Small convex problems that gradient-balancing methods solve once a step, on the T x T Gramian of the gradients.

All work in double precision on the host: for the few tasks a network has, that takes less time than one launch of a
kernel saves.
"""

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SMALLEST_EIGENVALUE = 1e-5
"""Floor of the eigenvalues of a matrix of cosines, our own: what single precision leaves of a zero eigenvalue is noise
of either sign, and opposite gradients then give the limit of nearly opposite ones instead of a step uphill."""

NEWTON_STEPS = 100


def lengths(gramian: Array) -> Array:
    """Return the lengths of the gradients, ``(T, T) -> (T,)``."""
    return cast(Array, np.sqrt(np.diag(gramian)))


def length(gramian: Array, weights: Array) -> float:
    """Return the length of the weighted sum of the gradients, ``(T, T), (T,) -> ()``.

    >>> length(np.array([[1.0, 0.0], [0.0, 4.0]]), np.array([3.0, 2.0]))
    5.0
    """
    return math.sqrt(max(float(weights @ gramian @ weights), 0.0))


def cosines(gramian: Array) -> Array:
    """Return the cosines between the gradients, ``(T, T) -> (T, T)``; no gradient may be zero.

    >>> cosines(np.array([[4.0, -3.0], [-3.0, 9.0]])).tolist()
    [[1.0, -0.5], [-0.5, 1.0]]
    """
    norms = lengths(gramian)
    return gramian / np.outer(norms, norms)


def floored(symmetric: Array, smallest: float = SMALLEST_EIGENVALUE) -> Array:
    """Return the symmetric matrix with its eigenvalues raised to ``smallest``, ``(T, T) -> (T, T)``."""
    values, vectors = np.linalg.eigh(symmetric)
    if values[0] >= smallest:
        return symmetric
    return cast(Array, (vectors * np.maximum(values, smallest)) @ vectors.T)


def square_root(gramian: Array) -> Array:
    """Return R with ``R.T @ R`` equal to the Gramian, negative eigenvalues taken as 0, ``(T, T) -> (T, T)``."""
    values, vectors = np.linalg.eigh(gramian)
    return cast(Array, np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)


def smallest_combination(gramian: Array) -> Array:
    r"""Return the point of the simplex with the shortest combined gradient, ``(T, T) -> (T,)``.

    :math:`\arg\min_{a \in \Delta} a^\top G a`, exactly: the non-negative least squares solution u of
    :math:`\lVert R u \rVert^2 + (\mathbf{1}^\top u - 1)^2`, scaled to sum 1 (Lawson and Hanson, "Solving Least Squares
    Problems", 1974, chapter 23).

    >>> smallest_combination(np.array([[1.0, 0.0], [0.0, 4.0]])).round(6).tolist()
    [0.8, 0.2]
    """
    num_tasks = len(gramian)
    root = square_root(gramian / np.trace(gramian))
    system = np.vstack([root, np.ones(num_tasks)])
    found = _non_negative_least_squares(system, np.append(np.zeros(num_tasks), 1.0))
    return cast(Array, found / found.sum())


def dual_cone_projection(gramian: Array, preference: Array) -> Array:
    r"""Return the weights of the projection of a weighted gradient onto the dual cone, ``(T, T), (T,) -> (T,)``.

    :math:`\arg\min_{v \geq u} v^\top G v`: the nearest direction to :math:`J^\top u` along which no loss rises
    (Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024, proposition 1).

    >>> dual_cone_projection(np.array([[1.0, -0.5], [-0.5, 1.0]]), np.array([1.0, 0.0])).round(6).tolist()
    [1.0, 0.5]
    """
    root = square_root(gramian / np.trace(gramian))
    return preference + _non_negative_least_squares(root, -root @ preference)


def bargaining_solution(gramian: Array, power: float = 1.0) -> Array:
    r"""Return the positive weights with :math:`G a = a^{-p}`, ``(T, T) -> (T,)``.

    They minimise the convex function :math:`\frac12 a^\top G a - \sum_i \int a_i^{-p}`, by damped Newton steps on
    :math:`b_i = n_i a_i` (:math:`n_i` the lengths), where the matrix is that of the cosines. No gradient may be zero.

    >>> bargaining_solution(np.array([[1.0, 0.0], [0.0, 4.0]])).tolist()
    [1.0, 0.5]
    """
    norms = lengths(gramian)
    matrix = floored(cosines(gramian))
    scale = np.exp(
        (power - 1.0) * (np.log(norms) - np.log(norms).mean())
    )  # n^(p-1), up to a common factor put back below
    point = np.full(len(norms), (scale.mean() / matrix.sum(axis=1).mean()) ** (1.0 / (power + 1.0)))
    for _ in range(NEWTON_STEPS):
        gradient = matrix @ point - scale * point**-power
        hessian = matrix + np.diag(power * scale * point ** -(power + 1.0))
        change = -np.linalg.solve(hessian, gradient)
        falling = change < 0
        longest = 0.9 * np.min(-point[falling] / change[falling]) if falling.any() else 1.0
        point = point + min(1.0, longest) * change
        if np.max(np.abs(change) / point) <= 1e-12:
            break
    common = np.exp((power - 1.0) * np.log(norms).mean() / (power + 1.0))
    return cast(Array, common * point / norms)


def conflict_averse_weights(gramian: Array, radius: float) -> Array:
    r"""Return the simplex point w of CAGrad, ``(T, T) -> (T,)``.

    :math:`\arg\min_{w \in \Delta} g_w \cdot g_0 + \rho \lVert g_w \rVert` with :math:`g_0` the mean gradient and
    :math:`\rho` the radius of the ball around it. Since :math:`\rho \lVert g_w \rVert` is the least of
    :math:`\frac\rho2 (\lVert g_w \rVert^2 / \tau + \tau)` over :math:`\tau > 0`, and for a fixed :math:`\tau` what
    remains is the shortest combination of the gradients :math:`g_i + \frac{\tau}{\rho} g_0`, it is solved for any T by
    the one :math:`\tau` that equals :math:`\lVert g_w \rVert` (the function is jointly convex).

    >>> conflict_averse_weights(np.eye(2), 0.5).round(6).tolist()
    [0.5, 0.5]
    """
    num_tasks = len(gramian)
    mean = np.full(num_tasks, 1.0 / num_tasks)
    longest = float(np.sqrt(np.diag(gramian).max()))

    def weights(tau: float) -> Array:
        shift = np.eye(num_tasks) + tau / radius * np.outer(np.ones(num_tasks), mean)
        return smallest_combination(shift @ gramian @ shift.T)

    from scipy.optimize import brentq  # here, because methods without it start half a second sooner

    def slope(tau: float) -> float:
        return tau - length(gramian, weights(tau))

    smallest = 1e-6 * longest
    if slope(smallest) >= 0:  # some combination of the gradients vanishes: there is nothing to gain
        return weights(smallest)
    return weights(brentq(slope, smallest, longest, xtol=1e-12 * longest))


def simplex_projection(point: Array) -> Array:
    """Return the nearest point of the simplex, ``(T,) -> (T,)`` (Held, Wolfe and Crowder, 1974).

    >>> simplex_projection(np.array([0.8, 0.6, -1.0])).round(6).tolist()
    [0.6, 0.4, 0.0]
    """
    ordered = np.sort(point)[::-1]
    excess = (np.cumsum(ordered) - 1.0) / np.arange(1, len(point) + 1)
    threshold = excess[np.nonzero(ordered > excess)[0][-1]]
    return cast(Array, np.maximum(point - threshold, 0.0))


def _non_negative_least_squares(matrix: Array, target: Array) -> Array:
    from scipy.optimize import nnls

    return cast(Array, nnls(matrix, target)[0])
