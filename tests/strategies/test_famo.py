"""FAMO: weights and the move of the logits by hand, against an optimizer of torch, and what it looks at again."""

import itertools
import math

import pytest
import torch
from torch import nn

from strategies import StrategyError, create
from strategies.base import Shared
from strategies.famo import Famo
from strategies.testing import linear_steps


def look(strategy, before, after, shares=(1.0,)):
    """Take a step whose micro-batches have the losses ``before`` and that leaves the losses ``after``."""
    batches = before if isinstance(before[0], list) else [before]
    for losses, share in zip(batches, shares, strict=True):
        values = torch.tensor(losses, requires_grad=True, dtype=strategy.logits.dtype)
        strategy.backward(values, Shared(), share)
    strategy.after_step(lambda: torch.tensor(after, dtype=strategy.logits.dtype))


def weights(strategy, losses):
    return strategy.weights(torch.tensor(losses)).tolist()


def test_the_first_weights_are_the_inverse_losses_scaled_to_sum_one():
    step = linear_steps(Famo(2), [torch.eye(2)], [torch.tensor([2.0, 8.0])])[0]
    assert step.weights.tolist() == pytest.approx([0.8, 0.2])
    assert step.direction.tolist() == step.heads.tolist() == step.weights.tolist()


def test_the_logits_shift_the_weights():
    strategy = Famo(2)
    strategy.logits.copy_(torch.tensor([math.log(4), 0.0]))
    # z = 4/5 and 1/5; z / L = 0.4 and 0.025
    assert weights(strategy, [2.0, 8.0]) == pytest.approx([16 / 17, 1 / 17])


def test_the_gradient_is_that_of_the_scaled_logarithms():
    strategy, losses = Famo(2), torch.tensor([2.0, 8.0], requires_grad=True)
    shares = torch.tensor([0.5, 0.5])
    scale = (1 / (shares / losses).sum()).detach()
    expected = torch.autograd.grad(scale * (shares * losses.log()).sum(), losses)[0]
    strategy.backward(losses, Shared())
    torch.testing.assert_close(losses.grad, expected)


def test_the_task_that_improved_loses_a_learning_rate_and_the_other_gains_it():
    strategy = Famo(2)
    look(strategy, [2.0, 8.0], [1.0, 8.0])
    assert strategy.logits.tolist() == pytest.approx([-0.025, 0.025], rel=1e-4)
    # the gradient by hand: z1 (log 2 - z1 log 2) = log(2) / 4, of which Adam's mean takes a tenth
    assert strategy.adam.first.tolist() == pytest.approx([math.log(2) / 40, -math.log(2) / 40], rel=1e-5)
    # z = 1 / (1 + e^0.05) = 0.487503; z / L = 0.243751 and 0.064062
    assert weights(strategy, [2.0, 8.0]) == pytest.approx([0.79188, 0.20812], abs=1e-5)


def test_losses_that_fall_at_the_same_rate_leave_the_logits_alone():
    strategy = Famo(3, weight_decay=0.0).double()  # Adam makes whole steps of what rounding leaves in single precision
    strategy.logits.copy_(torch.tensor([0.3, -0.2, 0.0]))
    look(strategy, [2.0, 8.0, 0.5], [1.0, 4.0, 0.25])
    assert strategy.logits.tolist() == pytest.approx([0.3, -0.2, 0.0], abs=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_the_logits_move_as_by_adam_of_torch_on_the_softmax(weight_decay):
    generator = torch.Generator().manual_seed(0)
    trajectory = (0.5 + torch.rand(31, 3, generator=generator, dtype=torch.float64)).tolist()
    strategy = Famo(3, weight_decay=weight_decay).double()
    peer = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = torch.optim.Adam([peer], lr=0.025, weight_decay=weight_decay)
    for before, after in itertools.pairwise(trajectory):
        first, second = (torch.tensor(values, dtype=torch.float64) for values in (before, after))
        strategy.backward(first.clone().requires_grad_(), Shared())
        strategy.after_step(second.clone)
        optimizer.zero_grad()
        (peer.softmax(dim=0) * (first.log() - second.log())).sum().backward()
        optimizer.step()
    torch.testing.assert_close(strategy.logits, peer.detach(), rtol=1e-8, atol=1e-10)
    assert peer.abs().max() > 0.02


def test_weight_decay_draws_the_logits_to_zero():
    strategy = Famo(2, weight_decay=0.1, learning_rate=0.01).double()
    strategy.logits.copy_(torch.tensor([1.0, -1.0]))
    look(strategy, [1.0, 1.0], [0.5, 0.5])
    assert strategy.logits.tolist() == pytest.approx([0.99, -0.99])


def test_the_second_look_compares_with_the_losses_of_the_whole_step():
    whole, parts = Famo(2), Famo(2)
    look(whole, [2.0, 8.0], [1.0, 8.0])
    look(parts, [[1.0, 5.0], [2.5, 9.5]], [1.0, 8.0], shares=(1 / 3, 2 / 3))  # means 2 and 8
    torch.testing.assert_close(parts.logits, whole.logits)
    torch.testing.assert_close(parts.adam.first, whole.adam.first)


def test_a_step_does_not_remember_the_losses_of_the_one_before():
    once, twice = Famo(2), Famo(2)
    look(twice, [5.0, 3.0], [5.0, 3.0])
    assert twice.logits.tolist() == [0.0, 0.0]
    look(once, [2.0, 8.0], [1.0, 8.0])
    look(twice, [2.0, 8.0], [1.0, 8.0])
    torch.testing.assert_close(twice.adam.first, once.adam.first)


def test_a_step_is_looked_at_again_once():
    strategy, looks = Famo(2), []
    strategy.backward(torch.tensor([2.0, 8.0], requires_grad=True), Shared())
    strategy.after_step(lambda: looks.append(1) or torch.tensor([1.0, 8.0]))
    assert looks == [1]


def test_the_logits_are_no_parameters_of_the_optimizer():
    assert not list(Famo(2).parameters())
    assert {"logits", "adam.first", "adam.second", "adam.steps"} <= set(Famo(2).state_dict())


def test_losses_count_from_their_lower_bound():
    strategy = Famo(2, lower_bound=-1)
    assert weights(strategy, [1.0, 7.0]) == pytest.approx([0.8, 0.2])
    look(strategy, [1.0, 7.0], [0.0, 7.0])  # 2 to 1 above the bound
    assert strategy.adam.first.tolist() == pytest.approx([math.log(2) / 40, -math.log(2) / 40], rel=1e-5)


def test_a_task_without_loss_takes_no_part_in_the_weights():
    assert weights(Famo(3), [2.0, 0.0, 8.0]) == pytest.approx([0.8, 0.0, 0.2])
    assert weights(Famo(2), [0.0, 0.0]) == [0.0, 0.0]


def test_a_task_without_loss_takes_no_part_in_the_move_of_the_logits():
    strategy = Famo(3)
    look(strategy, [2.0, 0.0, 8.0], [1.0, 0.0, 8.0])
    # of the others: z1 (log 2 - log(2) / 2) with z1 = 1/3
    sixth = math.log(2) / 6
    assert strategy.adam.first.tolist() == pytest.approx([sixth / 10, 0.0, -sixth / 10], abs=1e-7)
    alone = Famo(2)
    look(alone, [2.0, 0.0], [1.0, 0.0])
    assert alone.logits.tolist() == [0.0, 0.0]


def test_a_step_without_any_loss_moves_nothing():
    strategy = Famo(2)
    look(strategy, [0.0, 0.0], [0.0, 0.0])
    assert strategy.logits.tolist() == [0.0, 0.0]


def test_a_loss_below_the_bound_is_refused():
    with pytest.raises(StrategyError, match=r"^famo: a loss is -0\.5, below the option 'lower_bound' \(0\)$"):
        Famo(2)(torch.tensor([1.0, -0.5]))
    with pytest.raises(StrategyError, match=r"^famo: a loss is 0\.25, below the option 'lower_bound' \(0\.5\)$"):
        Famo(2, lower_bound=0.5)(torch.tensor([1.0, 0.25]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0}, "option 'learning_rate' is 0, but must be a number above 0"),
        ({"learning_rate": None}, "option 'learning_rate' is None, but must be a number above 0"),
        ({"weight_decay": -1}, "option 'weight_decay' is -1, but must be a number of at least 0"),
        ({"lower_bound": math.nan}, "option 'lower_bound' is nan, but must be a number of at least -1e[+]06"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StrategyError, match=f"^strategy 'famo': {message}$"):
        create("famo", 2, **options)
