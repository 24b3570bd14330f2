"""The published dynamic weights: their gradient, where they go, and how fast."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import StrategyError, create
from strategies.softmax import SoftmaxWeighting


def weights_after(steps, losses, learning_rate, **options):
    strategy = SoftmaxWeighting(len(losses), **options)
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
    options = SoftmaxWeighting(2, learning_rate=0.1).describe_options()
    assert options == {"temperature": 1.0, "entropy": 0.0, "learning_rate": 0.1}


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "fast", True])
def test_a_learning_rate_is_a_positive_number(value):
    with pytest.raises(StrategyError, match=r"option 'learning_rate' is .*, but must be a number above 0"):
        SoftmaxWeighting(2, learning_rate=value)


# temperature and entropy ---------------------------------------------------------------------------------------------


def at(weights, **options):
    """Return a strategy whose logits give ``weights``."""
    strategy = SoftmaxWeighting(len(weights), **options).double()
    strategy.logits.data = torch.tensor(weights, dtype=torch.float64).log() * strategy.temperature
    return strategy


def test_the_temperature_divides_the_logits():
    strategy = SoftmaxWeighting(2, temperature=0.5)
    strategy.logits.data = torch.tensor([1.0, 0.0])
    assert strategy.weights(torch.zeros(2))[0].item() == pytest.approx(1 / (1 + math.exp(-2)))


@pytest.mark.parametrize(
    ("options", "value", "gradient"),
    [
        # w = (3/4, 1/4), L = (1, 2): the joint loss is 5/4, and 3/4 (1 - 5/4)
        ({}, 1.25, -0.1875),
        ({"temperature": 2}, 1.25, -0.09375),
        # H = 3/4 log(4/3) + 1/4 log 4; of L + log w = (0.712318, 0.613706) the mean is 0.687665
        ({"entropy": 1}, 1.25 - 0.562335, 0.01849),
        ({"entropy": 1, "temperature": 2}, 1.25 - 0.562335, 0.009245),
    ],
)
def test_value_and_gradient_by_hand(options, value, gradient):
    strategy = at([0.75, 0.25], **options)
    joint = strategy(torch.tensor([1.0, 2.0], dtype=torch.float64))
    joint.backward()
    assert joint.item() == pytest.approx(value, abs=1e-6)
    assert strategy.logits.grad.tolist() == pytest.approx([gradient, -gradient], abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(
    ("losses", "entropy", "expected"),
    [
        ([1.0, 0.5], 0.5, [1 / (1 + math.e), math.e / (1 + math.e)]),  # softmax(-2, -1)
        ([1.2, 0.3], 2.0, [1 / (1 + math.exp(0.45)), 1 / (1 + math.exp(-0.45))]),
        ([1.0, 1.0, 1.0 - math.log(2)], 1.0, [0.25, 0.25, 0.5]),
    ],
)
def test_with_entropy_the_weights_settle_at_the_softmax_of_the_losses(losses, entropy, expected, temperature):
    found = weights_after(800, losses, 0.02, entropy=entropy, temperature=temperature)
    assert found == pytest.approx(expected, abs=2e-3)


def test_where_the_weights_settle_with_entropy_the_gradient_vanishes():
    losses = torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)
    strategy = at((-losses / 0.7).softmax(dim=0).tolist(), entropy=0.7, temperature=3)
    strategy(losses).backward()
    assert strategy.logits.grad.tolist() == pytest.approx([0.0] * 3, abs=1e-12)


def test_a_weight_too_small_for_single_precision_has_a_finite_gradient():
    strategy = SoftmaxWeighting(2, entropy=0.5)
    strategy.logits.data = torch.tensor([0.0, -200.0])
    joint = strategy(torch.tensor([1.0, 2.0]))
    joint.backward()
    assert strategy.last_weights.tolist() == [1.0, 0.0]
    assert joint.item() == 1.0
    assert strategy.logits.grad.tolist() == [0.0, 0.0]


def test_the_network_sees_the_weights_and_not_the_entropy():
    losses = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    at([0.75, 0.25], entropy=1)(losses).backward()
    assert losses.grad.tolist() == pytest.approx([0.75, 0.25])


def test_only_the_published_temperature_may_be_the_clock():
    assert SoftmaxWeighting.may_be_clock
    assert SoftmaxWeighting(2).may_be_clock
    assert SoftmaxWeighting(2, entropy=0.5).may_be_clock
    assert not SoftmaxWeighting(2, temperature=2).may_be_clock


def test_another_temperature_is_a_clock_of_another_speed():
    rate, steps = 1e-2, 60
    found = weights_after(steps, [1.2, 0.3], rate, temperature=2)[1]
    assert found == pytest.approx(1 / (1 + math.exp(-rate * steps)), abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "option 'temperature' is 0, but must be a number above 0"),
        ({"entropy": -0.1}, "option 'entropy' is -0.1, but must be a number of at least 0"),
        ({"entropy": math.inf}, "option 'entropy' is inf, but must be a number of at least 0"),
    ],
)
def test_temperature_and_entropy_out_of_range_are_refused(options, message):
    with pytest.raises(StrategyError, match=f"^strategy 'softmax': {message}$"):
        create("softmax", 2, **options)
