"""The sum of logarithms: worked values, indifference to units, and losses it cannot use."""

import math

import pytest
import torch

from strategies import StrategyError
from strategies.log import LogWeighting
from strategies.testing import linear_steps


def test_value_and_weights_by_hand():
    strategy = LogWeighting(3)
    assert strategy(torch.tensor([2.0, 8.0, 0.5])).item() == pytest.approx(math.log(8))
    assert strategy.last_weights.tolist() == [0.5, 0.125, 2.0]


def test_the_gradient_is_the_inverse_loss():
    losses = torch.tensor([2.0, 8.0, 0.5], requires_grad=True)
    LogWeighting(3)(losses).backward()
    assert losses.grad.tolist() == [0.5, 0.125, 2.0]


def test_the_units_of_a_loss_do_not_matter():
    rows, losses = torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.tensor([2.0, 8.0])
    plain = linear_steps(LogWeighting(2), [rows], [losses])[0]
    units = torch.tensor([1000.0, 0.001])
    scaled = linear_steps(LogWeighting(2), [units[:, None] * rows], [units * losses])[0]
    assert plain.direction.tolist() == pytest.approx([0.5 + 3 / 8, 1 - 1 / 8])
    torch.testing.assert_close(scaled.direction, plain.direction)


def test_a_loss_of_zero_takes_no_part():
    step = linear_steps(LogWeighting(2), [torch.eye(2)], [torch.tensor([0.0, 2.0])])[0]
    assert step.direction.tolist() == step.heads.tolist() == step.weights.tolist() == [0.0, 0.5]
    assert LogWeighting(2)(torch.tensor([0.0, 2.0])).item() == pytest.approx(math.log(2))


def test_losses_that_are_all_zero_give_a_step_of_zero():
    losses = torch.zeros(2, requires_grad=True)
    joint = LogWeighting(2)(losses)
    joint.backward()
    assert joint.item() == 0
    assert losses.grad.tolist() == [0.0, 0.0]


def test_a_negative_loss_is_refused():
    with pytest.raises(StrategyError, match=r"^log needs losses of at least 0, but one is -2$"):
        LogWeighting(2)(torch.tensor([-2.0, 1.0]))
