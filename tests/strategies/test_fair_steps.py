"""IMTL-G, IMTL, Nash-MTL, FairGrad, ConFIG and Aligned-MTL: steps that treat all tasks alike, by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from strategies import StrategyError
from strategies.imtl import ImpartialLearning
from strategies.toys import ToyTrial, factory, linear_steps

ORTHOGONAL = [[2.0, 0.0], [0.0, 6.0]]


def step(name, rows, losses=None, **options):
    rows = torch.as_tensor(rows, dtype=torch.float32)
    values = torch.ones(len(rows)) if losses is None else torch.tensor(losses)
    return linear_steps(strategies.create(name, len(rows), **options), [rows], [values])[0]


def random_rows(seed, num_tasks=3):
    return torch.randn(num_tasks, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("at", ["parameters", "features"])
def test_two_impartial_weights_are_the_lengths_exchanged(at):
    # (n2, n1) / (n1 + n2), whatever the angle
    for rows in (ORTHOGONAL, [[2.0, 0.0], [-3.0, 27**0.5]]):
        assert step("imtl_g", rows, at=at).weights.tolist() == pytest.approx([0.75, 0.25])


def test_three_impartial_weights_of_orthogonal_gradients_are_their_inverse_lengths():
    found = step("imtl_g", np.diag([1.0, 2.0, 4.0]))
    assert found.weights.tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert found.direction.tolist() == pytest.approx([4 / 7, 4 / 7, 4 / 7])


@pytest.mark.parametrize("name", ["imtl_g", "imtl", "config"])
@pytest.mark.parametrize("seed", range(5))
def test_projections_onto_all_gradients_are_equal(name, seed):
    rows = random_rows(seed)
    projections = rows @ step(name, rows).direction / rows.norm(dim=1)
    assert projections.min() > 0
    torch.testing.assert_close(projections, projections.mean().expand(3), rtol=1e-4, atol=1e-5)


def test_opposite_gradients_give_no_step_uphill():
    # the published formula goes 5 uphill for the first task
    found = step("imtl_g", [[1.0, 0.0], [-2.0, 0.0]])
    assert found.weights.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert found.direction.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_weights_that_would_sum_to_less_than_zero_still_go_downhill():
    # the second lies between the others and is held back; being short, it makes the sum of the weights negative
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 1.0, 0.3]])
    held_back = int(step("imtl_g", rows).weights.argmin())
    rows[held_back] /= 100
    found = step("imtl_g", rows)
    assert found.weights.sum().item() == pytest.approx(-1, abs=1e-5)
    assert (rows @ found.direction > 0).all()


def test_losses_are_scaled_before_their_gradients_are_balanced():
    strategy = ImpartialLearning(2)
    strategy.log_scales.data = torch.tensor([math.log(2.0), math.log(0.5)])
    # scaled lengths 4 and 3: a = (3, 4) / 7, w = (2 * 3, 0.5 * 4) / 7; the direction is that of imtl_g, (1, 1)
    found = linear_steps(strategy, [torch.tensor(ORTHOGONAL)], [torch.tensor([3.0, 0.5])])[0]
    assert found.weights.tolist() == pytest.approx([6 / 7, 2 / 7])
    assert found.direction.tolist() == pytest.approx([12 / 7, 12 / 7])
    # e^s L - 1 = 2 * 3 - 1 and 0.5 * 0.5 - 1
    assert strategy.log_scales.grad.tolist() == pytest.approx([5.0, -0.75])


def test_the_log_scales_settle_where_scaled_losses_are_one():
    strategy = ImpartialLearning(2, learning_rate=0.05)
    losses = torch.tensor([4.0, 0.5])
    found = linear_steps(strategy, [torch.tensor(ORTHOGONAL)] * 400, [losses] * 400)[-1]
    assert strategy.log_scales.exp().tolist() == pytest.approx([0.25, 2.0], rel=1e-2)
    # scaled lengths 0.5 and 12: a = (12, 0.5) / 12.5
    assert found.weights.tolist() == pytest.approx([0.25 * 12 / 12.5, 2 * 0.5 / 12.5], rel=2e-2)


def test_the_bargain_of_two_tasks_by_hand():
    # n^2 a = 1 / a
    assert step("nash_mtl", ORTHOGONAL).weights.tolist() == pytest.approx([1 / 2, 1 / 6], rel=1e-5)
    # lengths 1 and 2, cosine 0.5: a_i = 1 / (n_i sqrt(1.5))
    found = step("nash_mtl", [[1.0, 0.0], [1.0, 3**0.5]])
    assert found.weights.tolist() == pytest.approx([1 / 1.5**0.5, 0.5 / 1.5**0.5], rel=1e-5)


@settings(deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 5))
def test_the_bargain_solves_the_equation_of_the_paper_at_its_exact_scale(seed, num_tasks):
    rows = random_rows(seed, num_tasks)
    found = step("nash_mtl", rows)
    assert found.direction.norm().item() == pytest.approx(num_tasks**0.5, rel=1e-3)  # d.d = a.G a = T
    weights = found.weights.double()
    matrix = (rows @ rows.T).double()
    terms = matrix.abs() @ weights
    assert ((matrix @ weights - 1 / weights).abs() <= 1e-4 * terms).all()


@pytest.mark.parametrize("seed", range(5))
def test_no_step_of_the_same_length_has_a_larger_product_of_gains(seed):
    rows = random_rows(seed)
    best = step("nash_mtl", rows).direction
    others = torch.randn(5000, 6, generator=torch.Generator().manual_seed(seed)) * 0.5 + best / best.norm()
    gains = torch.cat([best[None], others])
    gains = rows @ (gains / gains.norm(dim=1, keepdim=True)).T
    products = torch.where((gains > 0).all(dim=0), gains.clamp(min=0).prod(dim=0), 0.0)
    assert products[0] >= products.max() * (1 - 1e-6)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(0.5, 1 / 4), (1.0, 1 / 8), (2.0, 1 / 16)],  # n^2 w = w^(-1 / alpha): w = n^(-2 alpha / (1 + alpha)), n = 8
)
def test_the_fair_weights_of_orthogonal_gradients_by_hand(alpha, expected):
    found = step("fairgrad", [[1.0, 0.0], [0.0, 8.0]], alpha=alpha)
    assert found.weights.tolist() == pytest.approx([1.0, expected], rel=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("seed", range(4))
def test_no_step_of_the_same_length_is_fairer(alpha, seed):
    rows = random_rows(seed)
    best = step("fairgrad", rows, alpha=alpha).direction
    others = torch.randn(5000, 6, generator=torch.Generator().manual_seed(seed)) * 0.5 + best / best.norm()
    steps = torch.cat([best[None], others]).double()
    gains = rows.double() @ (steps / steps.norm(dim=1, keepdim=True)).T
    utility = (gains.clamp(min=1e-9) ** (1 - alpha) / (1 - alpha)).sum(dim=0)
    utility = torch.where((gains > 0).all(dim=0), utility, -torch.inf)
    assert utility[0] >= utility.max() - 1e-6 * utility[0].abs()


def test_the_conflict_free_step_is_as_long_as_the_projections_add_up_to():
    # direction (1, 1) / sqrt(2), length (2 + 6) / sqrt(2)
    found = step("config", ORTHOGONAL)
    assert found.direction.tolist() == pytest.approx([4.0, 4.0])
    assert found.weights.tolist() == pytest.approx([2.0, 2 / 3])


@pytest.mark.parametrize("seed", range(5))
def test_the_length_of_the_conflict_free_step_is_the_sum_of_projections(seed):
    rows = random_rows(seed)
    direction = step("config", rows).direction
    assert direction.norm().item() == pytest.approx((rows @ direction / direction.norm()).sum().item(), rel=1e-4)


def test_opposite_gradients_leave_no_conflict_free_direction():
    assert step("config", [[1.0, 2.0], [-1.0, -2.0]]).direction.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("lengths", "scale", "expected"),
    [
        ([1.0, 3.0], "min", [1.0, 1 / 3]),  # eigenvalues 1 and 9: all as long as the shortest
        ([1.0, 3.0], "rmse", [5**0.5, 5**0.5 / 3]),
        ([1.0, 2.0, 3.0], "median", [2.0, 1.0, 2 / 3]),
        ([1.0, 2.0, 3.0], "rmse", [(14 / 3) ** 0.5 / n for n in (1, 2, 3)]),
    ],
)
def test_orthogonal_gradients_are_brought_to_one_length(lengths, scale, expected):
    assert step("aligned_mtl", np.diag(lengths), scale=scale).weights.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_aligned_step_is_that_of_the_singular_vectors_at_the_smallest_singular_value(seed):
    rows = random_rows(seed)
    left, values, right = torch.linalg.svd(rows, full_matrices=False)
    expected = values.min() * (left @ right).sum(dim=0)
    torch.testing.assert_close(step("aligned_mtl", rows).direction, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("num_parameters", [3, 300_000])
@pytest.mark.parametrize("factor", [1.0, -2.0, 0.7, 3.3])
def test_collinear_gradients_are_one_direction_whatever_the_rounding(factor, num_parameters):
    # V = (1, f) / sqrt(1 + f^2): w = V (V . 1); the second singular value is 0 and is left out
    first = torch.randn(num_parameters, generator=torch.Generator().manual_seed(0))
    found = step("aligned_mtl", torch.stack([first, factor * first]))
    share = (1 + factor) / (1 + factor**2)
    assert found.weights.tolist() == pytest.approx([share, factor * share], abs=1e-4)
    assert (found.direction @ first / first.square().sum()).item() == pytest.approx(1 + factor, abs=1e-4)


@pytest.mark.parametrize("name", ["imtl_g", "imtl"])
def test_a_toy_trial_ends_with_equal_weights_of_equal_tasks(name):
    trial = ToyTrial.build(factory(strategies.load(name)), 2)
    losses, shared = trial.losses()
    trial.strategy.backward(torch.stack([losses[0], losses[0] * 1.0]), shared)
    assert trial.strategy.last_weights.tolist() == pytest.approx([0.5, 0.5], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fairgrad", {"alpha": 0}, "option 'alpha' is 0, but must be a number above 0"),
        ("nash_mtl", {"update_every": 0}, "option 'update_every' is 0, but must be a whole number of at least 1"),
        ("aligned_mtl", {"scale": "mean"}, "unknown scale 'mean' .known: median, min, rmse"),
        ("imtl", {"learning_rate": 0}, "option 'learning_rate' is 0, but must be a number above 0"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(StrategyError, match=message):
        strategies.create(name, 2, **options)
