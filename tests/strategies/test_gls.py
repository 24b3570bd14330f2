"""The geometric mean: worked values, its gradient, and losses it cannot use."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import StrategyError
from strategies.gls import GeometricLoss
from strategies.log import LogWeighting
from strategies.testing import linear_steps

POSITIVE = st.lists(st.floats(0.01, 100), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("losses", "value", "weights"),
    [
        ([2.0, 8.0], 4.0, [1.0, 0.25]),  # sqrt(16); 4 / (2 * 2) and 4 / (2 * 8)
        ([1.0, 2.0, 4.0], 2.0, [2 / 3, 1 / 3, 1 / 6]),  # the cube root of 8; 2 / (3 L)
        ([5.0], 5.0, [1.0]),
    ],
)
def test_value_and_weights_by_hand(losses, value, weights):
    strategy = GeometricLoss(len(losses))
    assert strategy(torch.tensor(losses)).item() == pytest.approx(value)
    assert strategy.last_weights.tolist() == pytest.approx(weights)


@given(POSITIVE)
def test_the_gradient_is_that_of_the_root_of_the_product(values):
    strategy = GeometricLoss(len(values)).double()
    losses, same = (torch.tensor(values, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found, expected = strategy(losses), same.prod() ** (1 / len(values))
    found.backward()
    expected.backward()
    assert found.item() == pytest.approx(expected.item())
    torch.testing.assert_close(losses.grad, same.grad)


@given(POSITIVE)
def test_the_direction_is_that_of_the_sum_of_logarithms(values):
    losses = torch.tensor(values, dtype=torch.float64)
    geometric, logarithmic = (kind(len(values)).weights(losses) for kind in (GeometricLoss, LogWeighting))
    torch.testing.assert_close(geometric / geometric.sum(), logarithmic / logarithmic.sum())


def test_a_loss_of_zero_takes_no_part_and_the_mean_is_that_of_the_others():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    step = linear_steps(GeometricLoss(3), [rows], [torch.tensor([2.0, 8.0, 0.0])])[0]
    assert step.weights.tolist() == pytest.approx([1.0, 0.25, 0.0])
    assert step.direction.tolist() == pytest.approx([1.0, 0.25])
    assert GeometricLoss(3)(torch.tensor([2.0, 8.0, 0.0])).item() == pytest.approx(4.0)


def test_losses_that_are_all_zero_give_a_step_of_zero():
    losses = torch.zeros(2, requires_grad=True)
    joint = GeometricLoss(2)(losses)
    joint.backward()
    assert joint.item() == 0
    assert losses.grad.tolist() == [0.0, 0.0]


def test_a_product_beyond_the_range_of_numbers_has_a_mean_within():
    assert GeometricLoss(3)(torch.tensor([1e30, 1e30, 1e-6])).item() == pytest.approx(1e18, rel=1e-4)


def test_a_negative_loss_is_refused():
    with pytest.raises(StrategyError, match=r"^gls needs losses of at least 0, but one is -0\.5$"):
        GeometricLoss(2)(torch.tensor([1.0, -0.5]))
