"""Uncertainty weights: their optimum by kind of task, and how slowly they get there at a network's learning rate."""

import math

import pytest
import torch

from strategies.base import TaskFacts
from strategies.testing import ToyTrial, factory
from strategies.uncertainty import LARGEST_LOG_VARIANCE, UncertaintyWeighting

KINDS = [TaskFacts("emotion", "classification"), TaskFacts("valence", "regression")]


def trained(losses, steps, learning_rate, kinds=KINDS):
    strategy = UncertaintyWeighting(len(losses))
    strategy.setup(kinds, seed=0)
    optimizer = torch.optim.Adam(strategy.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        strategy(torch.tensor(losses)).backward()
        optimizer.step()
        strategy.after_step(lambda: torch.tensor(losses))
    return strategy


def test_the_joint_loss_is_that_of_the_paper():
    strategy = UncertaintyWeighting(2)
    strategy.setup(KINDS, seed=0)
    strategy.log_variances.data = torch.tensor([math.log(4), math.log(2)])
    # 1/4 * 8 + log(4)/2 for the softmax, 1/2 * 1/2 * 12 + log(2)/2 for the Gaussian
    assert strategy(torch.tensor([8.0, 12.0])).item() == pytest.approx(2 + 3 + math.log(8) / 2)
    assert strategy.last_weights.tolist() == pytest.approx([0.25, 0.25])


def test_a_variance_settles_at_twice_the_loss_for_classes_and_at_the_loss_for_values():
    strategy = trained([0.4, 3.0], steps=2000, learning_rate=0.025)
    assert strategy.log_variances.tolist() == pytest.approx([math.log(0.8), math.log(3.0)], abs=1e-3)


def test_at_the_optimum_either_weight_is_half_the_inverse_loss():
    losses = torch.tensor([0.4, 3.0])
    strategy = trained([0.4, 3.0], steps=2000, learning_rate=0.025)
    assert strategy.weights(losses).tolist() == pytest.approx([1 / 0.8, 1 / 6], rel=2e-3)
    assert strategy(losses).item() == pytest.approx(0.5 * (1 + math.log(0.8)) + 0.5 * (1 + math.log(3.0)), abs=1e-4)


def test_variances_hardly_move_at_the_learning_rate_of_a_network():
    losses, kinds = [0.01, 8.0], [KINDS[1], KINDS[1]]
    assert trained(losses, 5000, 1e-4, kinds).log_variances.tolist() == pytest.approx([-0.50, 0.46], abs=0.01)
    default = UncertaintyWeighting(2).learning_rate
    reached = trained(losses, 1000, default, kinds).log_variances.tolist()
    assert reached == pytest.approx([math.log(0.01), math.log(8.0)], abs=0.05)


def test_a_loss_of_zero_cannot_send_its_weight_to_infinity():
    strategy = trained([0.0, 1.0], steps=3000, learning_rate=0.025)
    assert strategy.log_variances[0].item() == -LARGEST_LOG_VARIANCE
    assert strategy.weights(torch.zeros(2)).isfinite().all()


def test_without_setup_every_task_counts_as_classification():
    assert UncertaintyWeighting(2).weights(torch.zeros(2)).tolist() == [1.0, 1.0]


def test_factors_come_back_from_a_checkpoint():
    trial = ToyTrial.build(factory(UncertaintyWeighting), 2)
    fresh = UncertaintyWeighting(2)
    fresh.load_state_dict(trial.strategy.state_dict())
    assert fresh.weights(torch.zeros(2)).tolist() == [1.0, 0.5]
