"""Every strategy keeps the contract, and the kit finds those that do not."""

import math

import pytest
import torch
from torch import nn

import strategies
from strategies.base import Strategy
from strategies.gradnorm import GradNorm
from strategies.testing import (
    CHECKS,
    check_adds_to_gradients,
    check_describes_itself,
    check_gradient_is_that_of_the_logged_weights,
    check_is_deterministic,
    check_learns_a_toy_problem,
    check_logged_weights_stay_as_they_were,
    check_options_rebuild_it,
    check_pickles,
    check_refuses_losses_of_another_shape,
    check_resumes_exactly,
    check_survives_degenerate_losses,
    check_works_for_any_number_of_tasks,
    factory,
)


@pytest.mark.parametrize("name", strategies.names())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_strategy_keeps_the_contract(name, check):
    check(factory(strategies.load(name)))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"initial_loss": "chance", "learning_rate": None}], ids=str)
def test_gradnorm_keeps_the_contract_with_other_options(options, check):
    check(factory(GradNorm, **options))


class Mean(Strategy):
    summary = "the mean"

    def weights(self, losses):
        return torch.full_like(losses, 1 / self.num_tasks)


class Nameless(Mean):
    summary = ""


class ForgetsItsOptions(Mean):
    def __init__(self, num_tasks, *, power=1.0):
        super().__init__(num_tasks)
        self.power = power

    def describe_options(self):
        return {"power": object}


class TakesAnyShape(Mean):
    def forward(self, losses):
        self.last_weights = torch.full_like(losses, 1 / 3)
        return losses.sum()


class HasWeightsForTwo(Mean):
    def weights(self, losses):
        return torch.ones(2)


class Ascends(Mean):
    def weights(self, losses):
        return torch.full_like(losses, -1.0)


class LogsOtherWeights(Mean):
    def combine(self, weights, losses):
        return 2 * torch.dot(weights, losses)


class LeaksIntoTheNetwork(Mean):
    def weights(self, losses):
        return losses.softmax(dim=0)


class LogsAView(Mean):
    def __init__(self, num_tasks):
        super().__init__(num_tasks)
        self.own = nn.Parameter(torch.ones(num_tasks))

    def forward(self, losses):
        self.last_weights = self.own.detach()
        return torch.dot(self.own, losses)


class IgnoresScale(Mean):
    def backward(self, losses, shared, scale=1.0):
        super().backward(losses, shared)


class CountsOutsideItsState(Mean):
    steps = 0

    def after_step(self, recompute):
        self.steps += 1

    def weights(self, losses):
        return torch.full_like(losses, 1 / (1 + self.steps))


class HoldsALambda(Mean):
    def __init__(self, num_tasks):
        super().__init__(num_tasks)
        self.function = lambda: None


class UsesTheGlobalGenerator(Mean):
    def weights(self, losses):
        return torch.rand(self.num_tasks)


class DividesByTheLoss(Mean):
    def weights(self, losses):
        return 1 / losses.detach()


@pytest.mark.parametrize(
    ("faulty", "check"),
    [
        (Nameless, check_describes_itself),
        (ForgetsItsOptions, check_options_rebuild_it),
        (TakesAnyShape, check_refuses_losses_of_another_shape),
        (HasWeightsForTwo, check_works_for_any_number_of_tasks),
        (Ascends, check_learns_a_toy_problem),
        (LogsOtherWeights, check_gradient_is_that_of_the_logged_weights),
        (LeaksIntoTheNetwork, check_gradient_is_that_of_the_logged_weights),
        (LogsAView, check_logged_weights_stay_as_they_were),
        (IgnoresScale, check_adds_to_gradients),
        (CountsOutsideItsState, check_resumes_exactly),
        (HoldsALambda, check_pickles),
        (UsesTheGlobalGenerator, check_is_deterministic),
        (DividesByTheLoss, check_survives_degenerate_losses),
    ],
    ids=lambda each: each.__name__,
)
def test_a_faulty_strategy_is_found(faulty, check):
    check(factory(Mean))
    with pytest.raises((AssertionError, TypeError, RuntimeError, AttributeError)):
        check(factory(faulty))


def test_every_check_has_a_faulty_strategy_that_it_finds():
    marker = test_a_faulty_strategy_is_found.pytestmark[0]
    assert {check for _, check in marker.args[1]} == set(CHECKS)


def test_a_strategy_needs_a_task():
    with pytest.raises(strategies.StrategyError, match="num_tasks is 0, but a strategy weights at least 1 loss"):
        Mean(0)


def test_the_toy_chance_loss_is_the_entropy_of_its_classes():
    from strategies.testing import NUM_CLASSES, toy_tasks

    assert toy_tasks(1)[0].chance_loss == pytest.approx(math.log(NUM_CLASSES))
