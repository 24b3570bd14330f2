"""Dynamic weight average: worked numbers, epochs and not steps, temperature."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import StrategyError, create
from strategies.dwa import DynamicWeightAverage
from strategies.testing import linear_steps


def after(*epochs, **options):
    strategy = DynamicWeightAverage(len(epochs[0]), **options)
    for losses in epochs:
        strategy.after_epoch(torch.tensor(losses))
    return strategy.weights(torch.ones(strategy.num_tasks)).tolist()


def test_the_weights_of_a_worked_case():
    # ratios 1/2 and 9/10, over the temperature 0.25 and 0.45: 2 / (1 + e^0.2) and 2 / (1 + e^-0.2)
    assert after([4.0, 1.0], [2.0, 0.9]) == pytest.approx([0.9003, 1.0997], abs=5e-5)


def test_the_first_two_epochs_have_weights_of_one():
    fresh = DynamicWeightAverage(3)
    assert fresh.weights(torch.tensor([1.0, 2.0, 3.0])).tolist() == [1.0] * 3
    assert after([4.0, 1.0, 7.0]) == [1.0] * 3
    assert after([4.0, 1.0, 7.0], [2.0, 0.9, 7.0]) != [1.0] * 3


def test_only_the_two_epochs_before_count():
    assert after([100.0, 0.1], [4.0, 1.0], [2.0, 0.9]) == after([4.0, 1.0], [2.0, 0.9])


@pytest.mark.parametrize(("temperature", "expected"), [(0.4, 2 / (1 + math.exp(-1))), (4.0, 2 / (1 + math.exp(-0.1)))])
def test_the_ratios_are_divided_by_the_temperature(temperature, expected):
    assert after([4.0, 1.0], [2.0, 0.9], temperature=temperature)[1] == pytest.approx(expected)


def test_losses_of_single_steps_do_not_move_the_weights():
    strategy = DynamicWeightAverage(2)
    strategy.after_epoch(torch.tensor([4.0, 1.0]))
    strategy.after_epoch(torch.tensor([2.0, 0.9]))
    gradients = [torch.eye(2)] * 3
    steps = linear_steps(strategy, gradients, [torch.tensor(values) for values in ([2.0, 9.0], [9.0, 0.1], [0.0, 5.0])])
    for step in steps:
        assert step.weights.tolist() == pytest.approx([0.9003, 1.0997], abs=5e-5)
        assert step.direction.tolist() == step.weights.tolist()


def test_a_task_that_had_no_loss_two_epochs_ago_counts_as_standing_still():
    # ratios 1 and 1/2, over the temperature 0.5 and 0.25
    expected = 2 / (1 + math.exp(-0.25))
    assert after([0.0, 1.0], [0.0, 0.5]) == pytest.approx([expected, 2 - expected])
    assert after([0.0, 1.0], [3.0, 0.5]) == pytest.approx([expected, 2 - expected])


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), min_size=1, max_size=6))
def test_weights_sum_to_the_number_of_tasks_and_follow_the_order_of_the_ratios(pairs):
    before, last = (list(values) for values in zip(*pairs, strict=True))
    weights = after(before, last)
    assert sum(weights) == pytest.approx(len(pairs), rel=1e-5)
    slowest = max(range(len(pairs)), key=lambda task: last[task] / before[task])
    assert weights[slowest] == pytest.approx(max(weights), rel=1e-5)


@pytest.mark.parametrize("value", [0, -2, math.inf, "hot"])
def test_a_temperature_is_a_positive_number(value):
    with pytest.raises(
        StrategyError, match=r"^strategy 'dwa': option 'temperature' is .*, but must be a number above 0$"
    ):
        create("dwa", 2, temperature=value)
