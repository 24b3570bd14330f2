"""The revised uncertainty loss: worked values, its optimum, and that it stays positive."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import StrategyError, create
from strategies.base import TaskFacts
from strategies.uncertainty import UncertaintyWeighting
from strategies.uncertainty_plus import SMALLEST_DEVIATION, RevisedUncertaintyWeighting


def trained(losses, steps):
    strategy = RevisedUncertaintyWeighting(len(losses))
    optimizer = torch.optim.Adam(strategy.parameters(), lr=strategy.learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        strategy(torch.tensor(losses)).backward()
        optimizer.step()
        strategy.after_step(lambda: pytest.fail("asked for a second forward pass"))
    return strategy


def with_deviations(*values):
    strategy = RevisedUncertaintyWeighting(len(values))
    strategy.deviations.data = torch.tensor(values)
    return strategy


def test_value_and_weights_by_hand():
    strategy = with_deviations(2.0, 0.5)
    # 8 / (2 * 4) + log 5 and 3 / (2 / 4) + log 1.25
    assert strategy(torch.tensor([8.0, 3.0])).item() == pytest.approx(1 + math.log(5) + 6 + math.log(1.25))
    assert strategy.last_weights.tolist() == [0.125, 2.0]


def test_the_gradient_of_a_deviation_by_hand():
    strategy = with_deviations(1.0, 2.0)
    strategy(torch.tensor([3.0, 8.0])).backward()
    # -L / s^3 + 2 s / (1 + s^2)
    assert strategy.deviations.grad.tolist() == pytest.approx([-3 + 1, -1 + 0.8])


def test_a_deviation_settles_where_its_gradient_vanishes():
    # L (1 + s^2) = 2 s^4 has s^2 = 1 for L = 1, s^2 = 2 for L = 8/3 and s^2 = 1/2 for L = 1/3
    strategy = trained([1.0, 8 / 3, 1 / 3], steps=1500)
    assert strategy.deviations.square().tolist() == pytest.approx([1.0, 2.0, 0.5], abs=2e-3)
    assert strategy.weights(torch.zeros(3)).tolist() == pytest.approx([0.5, 0.25, 1.0], rel=5e-3)


@given(st.lists(st.tuples(st.floats(0, 100, width=32), st.floats(-5, 5, width=32)), min_size=1, max_size=5))
def test_the_joint_loss_is_never_negative(pairs):
    losses, deviations = zip(*pairs, strict=True)
    strategy = with_deviations(*deviations)
    strategy.after_step(lambda: torch.zeros(len(pairs)))
    assert strategy(torch.tensor(losses)).item() >= 0


def test_where_the_published_uncertainty_is_negative_the_revised_one_is_not():
    losses, deviation = torch.tensor([0.01, 0.01]), 0.1
    published = UncertaintyWeighting(2)
    published.log_variances.data.fill_(math.log(deviation**2))
    assert published(losses).item() < -1
    assert with_deviations(deviation, deviation)(losses).item() == pytest.approx(2 * (0.5 + math.log(1.01)), rel=1e-5)


def test_a_loss_of_zero_cannot_send_its_weight_to_infinity():
    strategy = trained([0.0, 1.0], steps=300)
    assert strategy.deviations.tolist() == pytest.approx([SMALLEST_DEVIATION, 1.0], abs=0.02)
    assert strategy.deviations[0].item() >= SMALLEST_DEVIATION * (1 - 1e-6)
    assert strategy.weights(torch.zeros(2)).max().item() <= 0.5 / SMALLEST_DEVIATION**2 * 1.001


def test_the_kind_of_a_task_does_not_matter():
    strategy = RevisedUncertaintyWeighting(2)
    strategy.setup([TaskFacts("emotion", "classification"), TaskFacts("valence", "regression")], seed=0)
    assert strategy.weights(torch.zeros(2)).tolist() == [0.5, 0.5]


def test_a_learning_rate_is_a_positive_number():
    with pytest.raises(
        StrategyError, match=r"^strategy 'uncertainty_plus': option 'learning_rate' is 0, but must be a number above 0$"
    ):
        create("uncertainty_plus", 2, learning_rate=0)
