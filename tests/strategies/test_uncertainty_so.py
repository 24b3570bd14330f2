"""The softmax over inverse losses: worked values and both limits of its temperature."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import StrategyError, create
from strategies.testing import linear_steps
from strategies.uncertainty_so import SoftOptimalUncertaintyWeighting


def weights(losses, **options):
    return SoftOptimalUncertaintyWeighting(len(losses), **options).weights(torch.tensor(losses)).tolist()


@pytest.mark.parametrize(
    ("losses", "temperature", "first"),
    [
        ([1.0, 2.0], 1.0, 1 / (1 + math.exp(-0.5))),  # inverse losses 1 and 1/2
        ([1.0, 2.0], 0.25, 1 / (1 + math.exp(-2.0))),
        ([0.5, 0.25], 2.0, 1 / (1 + math.exp(1.0))),  # 2 and 4, halved
        ([1.0, 0.5, 0.5], 1.0, 1 / (1 + 2 * math.e)),  # 1, 2 and 2
        ([3.0, 3.0], 1.0, 0.5),
    ],
)
def test_the_first_weight_by_hand(losses, temperature, first):
    found = weights(losses, temperature=temperature)
    assert found[0] == pytest.approx(first)
    assert sum(found) == pytest.approx(1)


def test_a_low_temperature_leaves_the_smallest_loss_only():
    assert weights([0.7, 0.5, 2.0], temperature=1e-3) == [0.0, 1.0, 0.0]


def test_a_high_temperature_weighs_all_alike():
    assert weights([0.7, 0.5, 2.0], temperature=1e6) == pytest.approx([1 / 3] * 3, abs=1e-6)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=6), st.floats(1, 100))
def test_the_losses_in_the_weights_count_as_constants(values, temperature):
    losses = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    strategy = SoftOptimalUncertaintyWeighting(len(values), temperature=temperature).double()
    strategy(losses).backward()
    torch.testing.assert_close(losses.grad, strategy.last_weights)


def test_a_loss_of_zero_takes_no_part():
    step = linear_steps(SoftOptimalUncertaintyWeighting(3), [torch.eye(3)], [torch.tensor([1.0, 0.0, 2.0])])[0]
    first = 1 / (1 + math.exp(-0.5))
    assert step.weights.tolist() == pytest.approx([first, 0.0, 1 - first])
    assert step.direction.tolist() == step.weights.tolist()


def test_losses_that_are_all_zero_give_a_step_of_zero():
    assert weights([0.0, 0.0]) == [0.0, 0.0]


def test_a_loss_near_zero_takes_all_and_stays_finite():
    assert weights([2e-8, 1.0], temperature=0.2) == [1.0, 0.0]


def test_a_negative_loss_is_refused():
    with pytest.raises(StrategyError, match=r"^uncertainty_so needs losses of at least 0, but one is -1$"):
        weights([1.0, -1.0])


@pytest.mark.parametrize("value", [0, -1, math.nan, True])
def test_a_temperature_is_a_positive_number(value):
    with pytest.raises(
        StrategyError, match=r"^strategy 'uncertainty_so': option 'temperature' is .*, but must be a number above 0$"
    ):
        create("uncertainty_so", 2, temperature=value)
