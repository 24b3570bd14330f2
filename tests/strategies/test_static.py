"""Static weights, the simplex grid and the names of weights."""

import math
from decimal import Decimal
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import strategies
from strategies import StrategyError, format_weight, simplex_grid
from strategies.static import EqualWeighting, SingleTaskWeighting, StaticWeighting


@pytest.mark.parametrize(("num_tasks", "num_points", "num_interior"), [(1, 1, 1), (2, 11, 9), (3, 66, 36)])
def test_the_grid_has_the_known_number_of_points(num_tasks, num_points, num_interior):
    grid = simplex_grid(num_tasks, 0.1)
    assert len(grid) == len(set(grid)) == num_points
    assert sum(all(point) for point in grid) == num_interior


@given(st.integers(1, 4), st.sampled_from(["1", "0.5", "0.25", "0.2", "0.1", "0.05", "0.125"]))
def test_the_grid_is_exact_and_complete(num_tasks, step):
    grid = simplex_grid(num_tasks, step)
    num_steps = int(1 / Fraction(step))
    assert len(set(grid)) == len(grid) == math.comb(num_steps + num_tasks - 1, num_tasks - 1)
    assert grid == sorted(grid)
    for point in grid:
        assert sum(point) == 1
        assert all((Fraction(weight) / Fraction(step)).denominator == 1 for weight in point)


def test_the_grid_has_no_rounding_residue_in_names():
    points = ["/".join(map(format_weight, point)) for point in simplex_grid(2, 0.1)]
    assert points == [f"{i / 10:.1f}/{1 - i / 10:.1f}" for i in range(11)]
    assert points[3] == "0.3/0.7"
    assert [tuple(map(str, point)) for point in simplex_grid(2, 1)] == [("0.0", "1.0"), ("1.0", "0.0")]


def test_a_step_may_be_text_number_or_decimal():
    assert simplex_grid(2, "0.1") == simplex_grid(2, 0.1) == simplex_grid(2, Decimal("0.1"))


@pytest.mark.parametrize("step", [0.3, 0, -0.1, 2, "0.15"])
def test_a_step_that_does_not_divide_one_is_refused(step):
    with pytest.raises(StrategyError, match=rf"option 'step' is {step}, but 1 / step must be a whole number"):
        simplex_grid(2, step)


@pytest.mark.parametrize(("step", "message"), [("a", "'a', which is not a number"), ("nan", "not a finite number")])
def test_a_step_that_is_no_number_is_refused(step, message):
    with pytest.raises(StrategyError, match=message):
        simplex_grid(2, step)


def test_a_grid_needs_a_task():
    with pytest.raises(StrategyError, match="num_tasks is 0, but a grid needs at least 1 task"):
        simplex_grid(0, 0.1)


@pytest.mark.parametrize(
    ("weight", "text"),
    [(0.1 + 0.2, "0.3"), (1, "1.0"), (0.0, "0.0"), (Decimal("0.30"), "0.30"), (Decimal(1), "1.0"), (1e-7, "0.0000001")],
)
def test_a_weight_is_shown_in_fixed_point(weight, text):
    assert format_weight(weight) == text


def test_static_weights_are_used_as_given():
    strategy = StaticWeighting(3, weights=["0.2", 0.3, Decimal("0.5")])
    assert strategy(torch.tensor([1.0, 10.0, 100.0])).item() == pytest.approx(53.2)
    assert strategy.describe_options() == {"weights": [0.2, 0.3, 0.5]}
    assert strategy.is_static


@given(st.integers(1, 5).flatmap(lambda t: st.sampled_from(simplex_grid(t, "0.25"))))
def test_every_point_of_a_grid_is_accepted(point):
    strategy = StaticWeighting(len(point), weights=[str(weight) for weight in point])
    assert strategy.weights(torch.ones(len(point))).tolist() == [float(weight) for weight in point]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.3, 0.6], r"is \(0\.3, 0\.6\), which sums to 0\.9 and not to 1"),
        ([0.3, 0.7 + 1e-6], r"is \(0\.3, 0\.700001\), which sums to 1\.000001 and not to 1"),
        ([-0.5, 1.5], r"is \(-0\.5, 1\.5\), but no weight may be negative"),
        ([0.2, 0.3, 0.5], r"is \(0\.2, 0\.3, 0\.5\), which is 3 weights for 2 tasks"),
        ([], r"is \(\), which is 0 weights for 2 tasks"),
        (["x", 1], r"has 'x', which is not a number"),
        ([math.nan, 1], r"has nan, which is not a finite number"),
        ("0.3", r"is '0\.3', but must be a list of 2 numbers"),
        (None, r"is None, but must be a list of 2 numbers"),
    ],
)
def test_weights_outside_the_simplex_are_refused(weights, message):
    with pytest.raises(StrategyError, match="strategy 'static': option 'weights' " + message):
        strategies.create("static", 2, weights=weights)


def test_a_sum_within_rounding_is_accepted():
    assert StaticWeighting(3, weights=[1 / 3, 1 / 3, 1 / 3]).weights(torch.ones(3)).sum() == pytest.approx(1)


def test_a_checkpoint_cannot_change_static_weights():
    strategy = StaticWeighting(2, weights=[0.9, 0.1])
    strategy.load_state_dict(StaticWeighting(2, weights=[0.3, 0.7]).state_dict())
    assert strategy.weights(torch.ones(2)).tolist() == pytest.approx([0.9, 0.1])


def test_equal_weights_are_the_mean():
    assert EqualWeighting(4)(torch.tensor([1.0, 2.0, 3.0, 6.0])).item() == 3.0


def test_single_task_has_a_gradient_for_its_own_loss_only():
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    SingleTaskWeighting(3, task=1)(losses).backward()
    assert losses.grad.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("task", [-1, 2, "emotion", True, 0.0])
def test_single_task_refuses_what_is_no_index(task):
    with pytest.raises(StrategyError, match=r"option 'task' is .* must be the index of a task, 0 to 1"):
        SingleTaskWeighting(2, task=task)
