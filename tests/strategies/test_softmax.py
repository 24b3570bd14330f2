"""The published dynamic weights: their gradient, where they go, and how fast."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import StrategyError
from strategies.softmax import SoftmaxWeighting


def weights_after(steps, losses, learning_rate):
    strategy = SoftmaxWeighting(len(losses))
    optimizer = torch.optim.Adam(strategy.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        strategy(torch.tensor(losses)).backward()
        optimizer.step()
    return strategy.weights(torch.tensor(losses)).tolist()


def test_weights_start_equal():
    assert SoftmaxWeighting(4).weights(torch.zeros(4)).tolist() == [0.25] * 4


@given(
    st.lists(st.tuples(st.floats(0, 100, width=32), st.floats(-3, 3, width=32)), min_size=1, max_size=6),
)
def test_the_gradient_of_a_logit_is_weight_times_excess(pairs):
    losses, logits = torch.tensor(pairs, dtype=torch.float64).T
    strategy = SoftmaxWeighting(len(pairs)).double()
    strategy.logits.data.copy_(logits)
    joint = strategy(losses)
    joint.backward()
    expected = logits.softmax(dim=0) * (losses - joint.detach())
    torch.testing.assert_close(strategy.logits.grad, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("steps", "expected"), [(500, (0.014, 0.986)), (2000, (0.001, 0.999))])
def test_adam_moves_all_weight_to_the_smaller_loss(steps, expected):
    assert weights_after(steps, [1.2, 0.3], 1e-2) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("losses", [[1.2, 0.3], [0.31, 0.3], [100.0, 0.1]])
@pytest.mark.parametrize("steps", [20, 60])
def test_the_weight_is_a_clock_whatever_the_losses_are(losses, steps):
    rate = 1e-2
    clock = 1 / (1 + math.exp(-2 * rate * steps))
    assert weights_after(steps, losses, rate)[1] == pytest.approx(clock, abs=0.01)


def test_the_learning_rate_is_that_of_the_network_unless_given():
    assert SoftmaxWeighting(2).learning_rate is None
    assert SoftmaxWeighting(2, learning_rate=0.1).describe_options() == {"learning_rate": 0.1}


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "fast", True])
def test_a_learning_rate_is_a_positive_number(value):
    with pytest.raises(StrategyError, match=r"option 'learning_rate' is .*, but must be a number above 0"):
        SoftmaxWeighting(2, learning_rate=value)
