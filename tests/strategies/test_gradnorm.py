"""GradNorm against the autograd formulation of the paper, and its known traps."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from strategies import Shared, StrategyError, TaskFacts, create
from strategies.gradnorm import SMALLEST_INITIAL_LOSS, GradNorm, backward_with_gradients, weight_gradient
from strategies.testing import ToyTrial, factory


def toy(num_tasks, weights, **options):
    trial = ToyTrial.build(factory(GradNorm, **options), num_tasks)
    trial.strategy.loss_weights.data = torch.tensor(weights)
    return trial


def norms_by_autograd(losses, layer):
    each = [torch.autograd.grad(loss, layer, retain_graph=True, materialize_grads=True) for loss in losses]
    return torch.stack([torch.cat([part.flatten() for part in parts]).norm() for parts in each])


def weight_gradient_by_double_backward(trial, alpha):
    """Return ``dL_grad/dw`` as the paper defines it: through the norms of the gradients of the weighted losses."""
    losses, shared = trial.losses()
    weights = trial.strategy.loss_weights.detach().requires_grad_()
    norms = []
    for weight, loss in zip(weights, losses, strict=True):
        parts = torch.autograd.grad(weight * loss, shared.last_layer, create_graph=True)
        norms.append(torch.cat([part.flatten() for part in parts]).norm())
    rates = losses / trial.strategy.initial_losses
    target = (torch.stack(norms).mean() * (rates / rates.mean()) ** alpha).detach()
    objective = (torch.stack(norms) - target).abs().sum()
    return torch.autograd.grad(objective, weights)[0]


@pytest.mark.parametrize("alpha", [0.0, 0.12, 1.5])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.2, 0.7, 2.1], [2.5, 0.4, 0.1]])
def test_the_closed_form_equals_the_double_backward_of_the_paper(weights, alpha):
    trial = toy(3, weights, alpha=alpha)
    trial.strategy.initial_losses.copy_(torch.tensor([1.0, 2.0, 0.5]))
    expected = weight_gradient_by_double_backward(trial, alpha)
    trial.backward()
    trial.strategy.before_step()
    torch.testing.assert_close(trial.strategy.loss_weights.grad, expected, rtol=1e-4, atol=1e-6)
    assert not expected.eq(0).any()


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.2, 0.7, 2.1]])
def test_the_network_gets_the_gradient_of_static_weights_bit_for_bit(weights):
    dynamic, plain = toy(3, weights), ToyTrial.build(factory(GradNorm), 3)
    dynamic.backward()
    torch.dot(torch.tensor(weights), plain.losses()[0]).backward()
    assert all(map(torch.equal, dynamic.gradients(), plain.gradients()))


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 7])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_norms_are_those_of_one_backward_per_task(num_tasks, scale):
    trial = toy(num_tasks, [1.0] * num_tasks)
    losses, shared = trial.losses()
    weights = torch.linspace(0.1, 1.0, num_tasks)
    expected = norms_by_autograd(losses, shared.last_layer)
    found = backward_with_gradients(torch.dot(weights, losses), losses, weights, shared.last_layer, scale)
    torch.testing.assert_close(found.norm(dim=1), expected, rtol=1e-4, atol=1e-6)


def test_what_is_already_in_the_gradient_does_not_disturb_the_norms():
    clean, used = toy(3, [1.0, 0.5, 1.5]), toy(3, [1.0, 0.5, 1.5])
    for parameter in used.network.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)
    for trial in (clean, used):
        trial.backward()
        trial.strategy.before_step()
    assert torch.equal(clean.strategy.loss_weights.grad, used.strategy.loss_weights.grad)


def test_micro_batches_give_the_weights_the_gradient_of_the_whole_batch():
    """With one sign per norm a step's gradient is not the mean of those of its parts."""
    whole, parts = toy(3, [1.0, 0.5, 1.5]), toy(3, [1.0, 0.5, 1.5])
    whole.backward()
    inputs, targets = parts.inputs, parts.targets
    for rows in (slice(0, 8), slice(8, 32)):
        parts.inputs, parts.targets = inputs[rows], targets[:, rows]
        parts.backward(scale=len(parts.inputs) / len(inputs))
    for trial in (whole, parts):
        trial.strategy.before_step()
    torch.testing.assert_close(parts.strategy.loss_weights.grad, whole.strategy.loss_weights.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(parts.strategy.initial_losses, whole.strategy.initial_losses)


def test_a_last_layer_that_no_loss_uses_has_norm_zero():
    trial = toy(2, [1.0, 1.0])
    losses, _ = trial.losses()
    unused = nn.Parameter(torch.ones(3))
    gradients = backward_with_gradients(losses.sum(), losses, torch.ones(2), [unused], 1.0)
    assert gradients.tolist() == [[0.0] * 3, [0.0] * 3]


def test_only_one_partial_backward_is_run_for_two_tasks():
    trial = toy(2, [1.0, 1.0])
    losses, shared = trial.losses()
    passes = []
    shared.features.register_hook(lambda gradient: passes.append(1))
    trial.strategy.backward(losses, shared)
    assert len(passes) == 2


@pytest.mark.parametrize(
    ("norms", "rates", "alpha", "expected"),
    [
        # weighted norms 1 and 3, mean 2, equal rates: both targets 2
        ([1.0, 3.0], [1.0, 1.0], 1.5, [-1.0, 3.0]),
        # equal norms 2: targets 2 * 1.44 ** 1.5 = 3.456 and 2 * 0.56 ** 1.5 = 0.838
        ([2.0, 2.0], [1.44, 0.56], 1.5, [-2.0, 2.0]),
        # alpha 0 does not look at the rates
        ([2.0, 2.0], [1.44, 0.56], 0.0, [0.0, 0.0]),
        ([0.0, 0.0], [1.0, 1.0], 1.5, [0.0, 0.0]),
    ],
)
def test_the_gradient_of_the_weights_by_hand(norms, rates, alpha, expected):
    found = weight_gradient(torch.ones(2), torch.tensor(norms), torch.tensor(rates), alpha)
    assert found.tolist() == expected


def linear_trial(slopes, losses, **options):
    """Return a step on tasks with gradient norms ``slopes`` at the shared layer and losses ``losses()``."""
    strategy = GradNorm(len(slopes), **options)
    optimizer = torch.optim.SGD(strategy.parameters(), lr=0.01)
    shared = nn.Parameter(torch.zeros(1))

    def step():
        optimizer.zero_grad()
        values = torch.stack([slope * shared.sum() + loss for slope, loss in zip(slopes, losses(), strict=True)])
        strategy.backward(values, Shared([shared], [shared], None))
        strategy.before_step()
        optimizer.step()
        strategy.after_step(lambda: values.detach())

    return strategy, step


@pytest.mark.parametrize("slopes", [[1.0, 4.0], [1.0, 2.0, 4.0]])
def test_at_alpha_zero_weights_settle_at_the_inverse_norms(slopes):
    strategy, step = linear_trial(slopes, lambda: [1.0] * len(slopes), alpha=0.0)
    for _ in range(1000):
        step()
    inverse = 1 / torch.tensor(slopes)
    expected = inverse / inverse.sum() * len(slopes)
    assert strategy.loss_weights.tolist() == pytest.approx(expected.tolist(), abs=0.06)


def test_the_slower_task_gains_weight():
    losses = [[1.0, 1.0], [0.9, 0.3]]
    strategy, step = linear_trial([1.0, 1.0], lambda: losses.pop(0) if len(losses) > 1 else losses[0])
    for _ in range(5):
        step()
    slow, fast = strategy.loss_weights.tolist()
    assert slow > 1.02 > 0.98 > fast


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=6))
def test_after_a_step_weights_are_positive_and_sum_to_the_number_of_tasks(values):
    strategy = GradNorm(len(values))
    strategy.loss_weights.data = torch.tensor(values)
    strategy.after_step(lambda: torch.zeros(len(values)))
    assert strategy.loss_weights.min() > 0
    assert strategy.loss_weights.sum().item() == pytest.approx(len(values), rel=1e-5)


def test_the_first_losses_are_kept_with_a_floor():
    strategy, step = linear_trial([1.0, 1.0], iter([[1e-9, 2.0], [5.0, 7.0]]).__next__)
    step()
    step()
    assert strategy.initial_losses.tolist() == pytest.approx([SMALLEST_INITIAL_LOSS, 2.0])


def test_a_task_without_labels_in_the_first_batch_gets_its_first_loss_later():
    strategy, step = linear_trial([1.0, 1.0], iter([[0.0, 2.0], [5.0, 7.0]]).__next__)
    step()
    assert strategy.initial_losses.isnan().tolist() == [True, False]
    step()
    assert strategy.initial_losses.tolist() == [5.0, 2.0]


def test_the_initial_loss_may_be_that_of_chance():
    strategy = GradNorm(2, initial_loss="chance")
    strategy.setup([TaskFacts("emotion", chance_loss=math.log(4)), TaskFacts("gender", chance_loss=math.log(2))], 0)
    assert strategy.initial_losses.tolist() == pytest.approx([math.log(4), math.log(2)])


def test_a_network_without_last_shared_layer_is_refused():
    losses = torch.ones(2, requires_grad=True)
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    for shared in (Shared(), Shared([frozen], [frozen])):
        with pytest.raises(StrategyError, match="gradnorm measures gradients at the last shared layer, but there is"):
            GradNorm(2).backward(losses, shared)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "strategy 'gradnorm': option 'alpha' is -1, but must be a number of at least 0"),
        ({"alpha": "high"}, "option 'alpha' is 'high', but must be a number of at least 0"),
        ({"initial_loss": "firts"}, "unknown initial_loss 'firts' .*did you mean 'first'"),
        ({"learning_rate": 0}, "option 'learning_rate' is 0, but must be a number above 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StrategyError, match=message):
        create("gradnorm", 2, **options)
