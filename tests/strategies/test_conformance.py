"""Every strategy keeps the contract, and the kit finds those that do not."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import strategies
from strategies.base import Strategy
from strategies.gradnorm import GradNorm
from strategies.options import Range, option_names
from strategies.testing import (
    CHECKS,
    NotApplicable,
    check_adds_to_gradients,
    check_declares_what_it_is,
    check_describes_itself,
    check_does_not_depend_on_the_order_of_tasks,
    check_gradient_is_that_of_the_logged_weights,
    check_is_deterministic,
    check_is_scale_invariant,
    check_learns_a_toy_problem,
    check_logged_weights_stay_as_they_were,
    check_opposes_no_task,
    check_options_rebuild_it,
    check_pickles,
    check_refuses_losses_of_another_shape,
    check_resumes_exactly,
    check_survives_degenerate_losses,
    check_works_for_any_number_of_tasks,
    factory,
)

CLAIMS = {
    check_is_scale_invariant: "scale",
    check_does_not_depend_on_the_order_of_tasks: "permutation",
    check_opposes_no_task: "non-conflict",
}


def applies(check, strategy):
    return check not in CLAIMS or CLAIMS[check] in strategy.claims


@pytest.mark.parametrize("name", strategies.names())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_strategy_keeps_the_contract(name, check):
    strategy = strategies.load(name)
    if applies(check, strategy):
        check(factory(strategy))
    else:
        with pytest.raises(NotApplicable, match=f"'{CLAIMS[check]}' is not among the invariances it claims"):
            check(factory(strategy))


@pytest.mark.parametrize("name", [name for name in strategies.names() if "at" in option_names(strategies.load(name))])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_gradients_may_be_balanced_at_the_other_place(name, check):
    strategy = strategies.load(name)
    default = factory(strategy)(2).at
    if applies(check, strategy):
        check(factory(strategy, at="parameters" if default == "features" else "features"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"initial_loss": "chance", "learning_rate": None}], ids=str)
def test_gradnorm_keeps_the_contract_with_other_options(options, check):
    check(factory(GradNorm, **options))


@pytest.mark.parametrize(
    ("name", "check"),
    [(name, check) for name in strategies.names() for check in CLAIMS if applies(check, strategies.load(name))],
)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_what_a_method_claims_holds_for_any_gradients_and_losses(name, check, seed):
    check(factory(strategies.load(name)), seeds=[seed])


class Mean(Strategy):
    summary = "the mean"

    def weights(self, losses):
        return torch.full_like(losses, 1 / self.num_tasks)


class Nameless(Mean):
    summary = ""


class TunesWhatItHasNot(Mean):
    tunable = {"power": Range(0, 1)}


class FavoursTheFirst(Mean):
    claims = frozenset({"permutation"})

    def weights(self, losses):
        return torch.arange(self.num_tasks, 0.0, -1)


class DependsOnScale(Mean):
    claims = frozenset({"scale"})


class OpposesTasks(Mean):
    claims = frozenset({"non-conflict"})


class TrainsHeadsUphill(Mean):
    def backward(self, losses, shared, scale=1.0):
        self.last_weights = torch.tensor([-1.0] + [1.0] * (self.num_tasks - 1))
        (scale * torch.dot(self.last_weights, losses)).backward()


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
        (TunesWhatItHasNot, check_declares_what_it_is),
        (ForgetsItsOptions, check_options_rebuild_it),
        (TakesAnyShape, check_refuses_losses_of_another_shape),
        (HasWeightsForTwo, check_works_for_any_number_of_tasks),
        (Ascends, check_learns_a_toy_problem),
        (LogsOtherWeights, check_gradient_is_that_of_the_logged_weights),
        (LeaksIntoTheNetwork, check_gradient_is_that_of_the_logged_weights),
        (TrainsHeadsUphill, check_gradient_is_that_of_the_logged_weights),
        (LogsAView, check_logged_weights_stay_as_they_were),
        (IgnoresScale, check_adds_to_gradients),
        (CountsOutsideItsState, check_resumes_exactly),
        (HoldsALambda, check_pickles),
        (UsesTheGlobalGenerator, check_is_deterministic),
        (DividesByTheLoss, check_survives_degenerate_losses),
        (DependsOnScale, check_is_scale_invariant),
        (FavoursTheFirst, check_does_not_depend_on_the_order_of_tasks),
        (OpposesTasks, check_opposes_no_task),
    ],
    ids=lambda each: each.__name__,
)
def test_a_faulty_strategy_is_found(faulty, check):
    if applies(check, Mean):
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
