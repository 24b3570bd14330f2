"""The convex problems on the Gramian: optimality conditions, brute force on fine grids, values by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.solvers import (
    SMALLEST_EIGENVALUE,
    bargaining_solution,
    conflict_averse_weights,
    cosines,
    dual_cone_projection,
    floored,
    length,
    lengths,
    simplex_projection,
    smallest_combination,
    square_root,
)


@st.composite
def gramians(draw, smallest=2, largest=5, spread=1.0):
    """Return the Gramian of random gradients whose lengths differ by up to ``10 ** (2 * spread)``."""
    num_tasks = draw(st.integers(smallest, largest))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = generator.normal(size=(num_tasks, draw(st.integers(num_tasks, 9))))
    rows *= 10 ** generator.uniform(-spread, spread, size=(num_tasks, 1))
    return rows @ rows.T


def simplex_grid(num_tasks, steps):
    """Return all points of the simplex with coordinates that are multiples of ``1 / steps``."""
    bars = itertools.combinations(range(steps + num_tasks - 1), num_tasks - 1)
    edges = np.array([(-1, *each, steps + num_tasks - 1) for each in bars])
    return (np.diff(edges) - 1) / steps


def test_lengths_and_cosines_by_hand():
    gramian = np.array([[4.0, -3.0], [-3.0, 9.0]])
    assert lengths(gramian).tolist() == [2.0, 3.0]
    assert cosines(gramian).tolist() == [[1.0, -0.5], [-0.5, 1.0]]
    # |2 g1 + g2|^2 = 4 * 4 + 9 + 2 * 2 * (-3) = 13
    assert length(gramian, np.array([2.0, 1.0])) == pytest.approx(math.sqrt(13))


def test_the_floor_raises_the_eigenvalue_of_opposite_gradients_only():
    opposite = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert np.linalg.eigvalsh(floored(opposite)) == pytest.approx([SMALLEST_EIGENVALUE, 2.0])
    apart = np.array([[1.0, -0.9], [-0.9, 1.0]])
    assert floored(apart) is apart


@settings(deadline=None)
@given(gramians())
def test_the_square_root_squared_is_the_gramian(gramian):
    root = square_root(gramian)
    np.testing.assert_allclose(root.T @ root, gramian, rtol=1e-9, atol=1e-12 * gramian.max())


@pytest.mark.parametrize(
    ("first", "second", "inner", "expected"),
    [
        (1.0, 2.0, 0.0, 4 / 5),  # (n2^2 - p) / (n1^2 + n2^2 - 2 p)
        (1.0, 2.0, -1.0, 5 / 7),
        (1.0, 2.0, 0.5, 3.5 / 4),
        (1.0, 2.0, 1.5, 1.0),  # 2.5 / 2, clipped: the first is the shortest point of the segment
        (2.0, 1.0, 1.5, 0.0),
    ],
)
def test_the_shortest_combination_of_two_by_hand(first, second, inner, expected):
    found = smallest_combination(np.array([[first**2, inner], [inner, second**2]]))
    np.testing.assert_allclose(found, [expected, 1 - expected], atol=1e-9)


@settings(deadline=None)
@given(gramians())
def test_the_shortest_combination_is_on_the_simplex_and_no_gradient_shortens_it(gramian):
    weights = smallest_combination(gramian)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    # the condition of optimality: g_i . d >= d . d for all i, with equality where the weight is positive
    gains, square = gramian @ weights, weights @ gramian @ weights
    slack = 1e-7 * np.sqrt(np.diag(gramian) * max(square, 1e-8 * gramian.max()))
    assert (gains - square >= -slack).all()
    assert (np.abs(weights * (gains - square)) <= slack).all()


@pytest.mark.parametrize(("num_tasks", "steps"), [(2, 1000), (3, 120)])
@pytest.mark.parametrize("seed", range(5))
def test_no_point_of_a_fine_grid_is_shorter(num_tasks, steps, seed):
    rows = np.random.default_rng(seed).normal(size=(num_tasks, 4))
    gramian = rows @ rows.T
    squares = np.einsum("pi,ij,pj->p", *[(grid := simplex_grid(num_tasks, steps)), gramian, grid])
    weights = smallest_combination(gramian)
    assert weights @ gramian @ weights <= squares.min() + 1e-9
    assert np.abs(grid[squares.argmin()] - weights).max() < 2 * num_tasks / steps


def test_two_projections_onto_the_dual_cone_by_hand():
    gramian = np.array([[1.0, -0.5], [-0.5, 4.0]])
    # g1 + x g2 must not oppose g2: -0.5 + 4 x = 0; g2 + y g1 must not oppose g1: -0.5 + y = 0
    np.testing.assert_allclose(dual_cone_projection(gramian, np.array([1.0, 0.0])), [1.0, 0.125], atol=1e-9)
    np.testing.assert_allclose(dual_cone_projection(gramian, np.array([0.0, 1.0])), [0.5, 1.0], atol=1e-9)
    np.testing.assert_allclose(dual_cone_projection(np.abs(gramian), np.array([0.3, 0.7])), [0.3, 0.7], atol=1e-9)


@settings(deadline=None)
@given(gramians(), st.integers(0, 2**16))
def test_the_projection_satisfies_the_conditions_of_karush_kuhn_and_tucker(gramian, seed):
    preference = np.random.default_rng(seed).uniform(0, 1, len(gramian))
    weights = dual_cone_projection(gramian, preference)
    norms = lengths(gramian)
    gains, scale = gramian @ weights / norms, length(gramian, preference)
    assert (weights >= preference - 1e-12).all()
    assert (gains >= -1e-7 * scale).all()
    assert np.abs(gains * norms * (weights - preference)).max() <= 1e-7 * scale**2


@settings(deadline=None)
@given(st.floats(1e-6, 1.0), st.floats(-0.95, -0.05))
def test_the_projection_is_exact_for_gradients_of_very_different_length(ratio, cosine):
    gramian = np.array([[1.0, cosine * ratio], [cosine * ratio, ratio**2]])
    found = dual_cone_projection(gramian, np.array([1.0, 0.0]))
    np.testing.assert_allclose(found, [1.0, -cosine / ratio], rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_no_point_of_a_fine_grid_above_the_preference_is_shorter(seed):
    rows = np.random.default_rng(seed).normal(size=(2, 3))
    gramian, preference = rows @ rows.T, np.array([0.5, 0.5])
    axis = np.linspace(0, 10, 400)
    grid = preference + np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    weights = dual_cone_projection(gramian, preference)
    assert weights @ gramian @ weights <= np.einsum("pi,ij,pj->p", grid, gramian, grid).min() + 1e-9


@settings(max_examples=200, deadline=None)
@given(gramians(smallest=1, spread=2.0), st.floats(0.2, 5.0))
def test_the_bargain_solves_its_equation(gramian, power):
    norms = lengths(gramian)
    gramian = floored(cosines(gramian), 0.02) * np.outer(norms, norms)  # far from a limit where rounding decides
    weights = bargaining_solution(gramian, power)
    assert weights.min() > 0
    terms = np.abs(gramian) @ weights  # the sums cancel where gradients oppose each other
    assert (np.abs(gramian @ weights - weights**-power) <= 1e-9 * terms).all()


@pytest.mark.parametrize("power", [0.2, 0.5, 1.0, 2.0, 5.0])
def test_the_bargain_of_orthogonal_gradients_by_hand(power):
    # n^2 a = a^-p, hence a = n^(-2 / (p + 1)), for lengths that differ by 10,000 too
    norms = np.array([0.01, 1.0, 100.0])
    np.testing.assert_allclose(bargaining_solution(np.diag(norms**2), power), norms ** (-2 / (power + 1)), rtol=1e-9)


def test_a_short_gradient_gets_its_exact_bargain_too():
    # C b = k n^(p - 1) b^-p: for p = 0.2 the entries of b differ as widely as the lengths do
    norms = np.array([1e-4, 1e4, 1e-4, 1e4])
    gramian = (0.9 * np.eye(4) + 0.1) * np.outer(norms, norms)
    weights = bargaining_solution(gramian, 0.2)
    np.testing.assert_allclose(gramian @ weights, weights**-0.2, rtol=1e-9)


@settings(max_examples=50, deadline=None)
@given(gramians(), st.floats(0.05, 2.0))
def test_no_neighbour_of_the_conflict_averse_weights_is_better(gramian, share):
    mean = np.full(len(gramian), 1 / len(gramian))
    radius = share * length(gramian, mean)

    def objective(point):
        return point @ gramian @ mean + radius * length(gramian, point)

    weights = conflict_averse_weights(gramian, radius)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    scale = radius * math.sqrt(gramian.max())
    for corner in np.eye(len(gramian)):  # a convex function is least where it rises towards every corner
        assert objective(weights + 1e-3 * (corner - weights)) >= objective(weights) - 1e-9 * scale


@pytest.mark.parametrize(("num_tasks", "steps"), [(2, 1000), (3, 100)])
@pytest.mark.parametrize("seed", range(4))
def test_no_point_of_a_fine_grid_is_more_conflict_averse(num_tasks, steps, seed):
    rows = np.random.default_rng(seed).normal(size=(num_tasks, 4))
    gramian, mean = rows @ rows.T, np.full(num_tasks, 1 / num_tasks)
    radius = 0.5 * length(gramian, mean)
    grid = simplex_grid(num_tasks, steps)
    norms = np.sqrt(np.maximum(np.einsum("pi,ij,pj->p", grid, gramian, grid), 0))
    weights = conflict_averse_weights(gramian, radius)
    found = weights @ gramian @ mean + radius * length(gramian, weights)
    assert found <= (grid @ gramian @ mean + radius * norms).min() + 1e-9


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=6), st.integers(0, 2**16))
def test_the_nearest_point_of_the_simplex_is_on_it_and_at_an_obtuse_angle_to_all_others(values, seed):
    point = np.array(values)
    found = simplex_projection(point)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    other = np.random.default_rng(seed).dirichlet(np.ones(len(point)))
    assert (point - found) @ (other - found) <= 1e-9 * (1 + np.abs(point).max())


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ([0.2, 0.8], [0.2, 0.8]),
        ([1.0, 1.0], [0.5, 0.5]),
        ([0.5, 1.1], [0.2, 0.8]),  # 0.3 off each
        ([-2.0, 3.0], [0.0, 1.0]),
        ([0.8, 0.6, -1.0], [0.6, 0.4, 0.0]),
    ],
)
def test_the_nearest_point_of_the_simplex_by_hand(point, expected):
    np.testing.assert_allclose(simplex_projection(np.array(point)), expected, atol=1e-12)
