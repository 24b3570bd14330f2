"""Loss balance: worked values, its optimum, and the family that it belongs to."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import StrategyError, create
from strategies.base import TaskFacts
from strategies.gls import GeometricLoss
from strategies.imtl_l import LARGEST_LOG_SCALE, LossBalance
from strategies.log import LogWeighting
from strategies.uncertainty import UncertaintyWeighting

LOSSES = [0.4, 3.0, 1.0]


def trained(strategy, losses, steps=1500, learning_rate=0.025):
    optimizer = torch.optim.Adam(strategy.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        strategy(torch.tensor(losses)).backward()
        optimizer.step()
        strategy.after_step(lambda: pytest.fail("asked for a second forward pass"))
    return strategy


def with_scales(*values):
    strategy = LossBalance(len(values)).double()
    strategy.log_scales.data = torch.tensor(values, dtype=torch.float64)
    return strategy


def test_value_weights_and_gradient_by_hand():
    strategy = with_scales(math.log(2), math.log(0.5))
    joint = strategy(torch.tensor([3.0, 8.0], dtype=torch.float64))
    joint.backward()
    assert joint.item() == pytest.approx(2 * 3 - math.log(2) + 0.5 * 8 + math.log(2))
    assert strategy.last_weights.tolist() == pytest.approx([2.0, 0.5])
    assert strategy.log_scales.grad.tolist() == pytest.approx([2 * 3 - 1, 0.5 * 8 - 1])


def test_a_scale_settles_at_the_inverse_of_its_loss():
    strategy = trained(LossBalance(3), LOSSES)
    assert strategy.log_scales.tolist() == pytest.approx([-math.log(0.4), -math.log(3.0), 0.0], abs=1e-3)
    assert strategy.last_weights.tolist() == pytest.approx([2.5, 1 / 3, 1.0], rel=2e-3)
    assert strategy(torch.tensor(LOSSES)).item() == pytest.approx(3 + math.log(0.4) + math.log(3.0), abs=1e-4)


@given(st.lists(st.tuples(st.floats(0, 100, width=32), st.floats(-3, 3, width=32)), min_size=1, max_size=5))
def test_for_regression_it_is_twice_uncertainty_with_the_sign_turned(pairs):
    losses, scales = torch.tensor(pairs, dtype=torch.float64).T
    uncertainty = UncertaintyWeighting(len(pairs)).double()
    uncertainty.setup([TaskFacts(f"task {index}", "regression") for index in range(len(pairs))], seed=0)
    uncertainty.log_variances.data = -scales
    assert with_scales(*scales.tolist())(losses).item() == pytest.approx(2 * uncertainty(losses).item(), abs=1e-9)


def test_at_their_optimum_four_methods_are_one_direction():
    losses = torch.tensor(LOSSES)
    learned = [trained(kind(3), LOSSES) for kind in (LossBalance, UncertaintyWeighting)]
    expected = torch.tensor([2.5, 1 / 3, 1.0]) / (2.5 + 1 / 3 + 1)
    for strategy in [*learned, LogWeighting(3), GeometricLoss(3)]:
        weights = strategy.weights(losses).detach()
        torch.testing.assert_close(weights / weights.sum(), expected, rtol=2e-3, atol=0)


def test_a_loss_of_zero_cannot_send_its_weight_to_infinity():
    strategy = trained(LossBalance(2), [0.0, 1.0], steps=60, learning_rate=0.5)
    assert strategy.log_scales.tolist() == pytest.approx([LARGEST_LOG_SCALE, 0.0], abs=1e-6)


def test_a_learning_rate_is_a_positive_number_or_that_of_the_network():
    assert LossBalance(2, learning_rate=None).learning_rate is None
    with pytest.raises(
        StrategyError, match=r"^strategy 'imtl_l': option 'learning_rate' is -1, but must be a number above 0$"
    ):
        create("imtl_l", 2, learning_rate=-1)
