"""Smooth Tchebycheff: gradients of both forms by hand, the limits of mu, warming up and the nadir."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import StrategyError, create
from strategies.stch import SmoothTchebycheff
from strategies.testing import linear_steps


def plain(losses, mu):
    return SmoothTchebycheff(len(losses), form="plain", mu=mu).weights(torch.tensor(losses)).tolist()


def warm(nadir, mu=1.0, **options):
    """Return a strategy after its only epoch of warming up."""
    strategy = SmoothTchebycheff(len(nadir), mu=mu, warmup_epochs=1, **options)
    strategy.after_epoch(torch.tensor(nadir))
    return strategy


# plain ---------------------------------------------------------------------------------------------------------------


def test_plain_weights_by_hand():
    # lambda L / mu = 1/2 (1, 3) / (1/2) = (1, 3)
    share = 1 / (1 + math.exp(2))
    assert plain([1.0, 3.0], 0.5) == pytest.approx([share / 2, (1 - share) / 2])


def test_plain_with_a_small_mu_is_the_maximum():
    assert plain([1.0, 3.0, 2.0], 1e-3) == pytest.approx([0.0, 1 / 3, 0.0], abs=1e-7)


def test_plain_with_a_large_mu_weighs_all_by_one_over_the_square():
    assert plain([1.0, 3.0, 2.0], 1e6) == pytest.approx([1 / 9] * 3, rel=1e-5)


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=6), st.floats(0.1, 10))
def test_plain_is_the_gradient_of_the_formula(values, mu):
    losses = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    (mu * (losses / len(values) / mu).logsumexp(dim=0)).backward()
    strategy = SmoothTchebycheff(len(values), form="plain", mu=mu).double()
    torch.testing.assert_close(strategy.weights(losses), losses.grad)


def test_plain_takes_zero_for_a_value_like_others():
    # L / (T mu) = (0, 1)
    share = 1 / (1 + math.e)
    assert plain([0.0, 2.0], 1.0) == pytest.approx([share / 2, (1 - share) / 2])


def test_plain_does_not_overflow():
    assert plain([1e4, 2e4], 1e-2) == [0.0, 0.5]


def test_plain_needs_no_warming_up():
    strategy = SmoothTchebycheff(2, form="plain", mu=0.5)
    losses = torch.tensor([1.0, 3.0])
    before = strategy.weights(losses)
    for _ in range(6):
        strategy.after_epoch(losses)
    assert torch.equal(strategy.weights(losses), before)


# log -----------------------------------------------------------------------------------------------------------------


def test_warming_up_is_on_the_sum_of_logarithms():
    steps = linear_steps(SmoothTchebycheff(2), [torch.eye(2)] * 2, [torch.tensor([2.0, 8.0]), torch.tensor([0.5, 4.0])])
    assert [step.direction.tolist() for step in steps] == [[0.5, 0.125], [2.0, 0.25]]


@pytest.mark.parametrize(
    ("losses", "mu", "expected"),
    [
        # over the nadir (2, 4): 1/2 and 1/4, of which 2/3 and 1/3; times T / L
        ([1.0, 1.0], 1.0, [4 / 3, 2 / 3]),
        # the same squared: 4/5 and 1/5
        ([1.0, 1.0], 0.5, [8 / 5, 2 / 5]),
        # 1/2 and 1: 1/3 and 2/3
        ([1.0, 4.0], 1.0, [2 / 3, 1 / 3]),
        # at the nadir itself there is no worst task: the weights of warming up, 1 / L
        ([2.0, 4.0], 0.1, [1 / 2, 1 / 4]),
        # mu to 0: the worst relative to its nadir alone, at T / L
        ([1.0, 4.0], 1e-3, [0.0, 1 / 2]),
        # mu to infinity: 1 / L again
        ([1.0, 4.0], 1e6, [1.0, 1 / 4]),
    ],
)
def test_log_weights_by_hand(losses, mu, expected):
    assert warm([2.0, 4.0], mu).weights(torch.tensor(losses)).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1, max_size=6), st.floats(0.1, 10))
def test_log_is_the_gradient_of_the_formula(pairs, mu):
    losses, nadir = torch.tensor(pairs, dtype=torch.float64).T
    losses = losses.clone().requires_grad_()
    (len(pairs) * mu * ((losses / nadir).log() / mu).logsumexp(dim=0)).backward()
    strategy = SmoothTchebycheff(len(pairs), mu=mu, warmup_epochs=1).double()
    strategy.after_epoch(nadir)
    torch.testing.assert_close(strategy.weights(losses), losses.grad)


def test_the_nadir_is_the_mean_loss_of_the_last_epoch_of_warming_up():
    strategy, losses = SmoothTchebycheff(2, warmup_epochs=2), torch.tensor([1.0, 1.0])
    for mean_losses, expected in [([9.0, 1.0], [1.0, 1.0]), ([2.0, 4.0], [4 / 3, 2 / 3]), ([1.0, 7.0], [4 / 3, 2 / 3])]:
        strategy.after_epoch(torch.tensor(mean_losses))
        assert strategy.weights(losses).tolist() == pytest.approx(expected)


def test_warming_up_takes_five_epochs_unless_told_otherwise():
    strategy, losses = SmoothTchebycheff(2), torch.tensor([1.0, 1.0])
    for _ in range(4):
        strategy.after_epoch(torch.tensor([2.0, 4.0]))
    assert strategy.weights(losses).tolist() == [1.0, 1.0]
    strategy.after_epoch(torch.tensor([2.0, 4.0]))
    assert strategy.weights(losses).tolist() == pytest.approx([4 / 3, 2 / 3])


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_loss_of_zero_takes_no_part(epochs):
    strategy = SmoothTchebycheff(3, warmup_epochs=1)
    for _ in range(epochs):
        strategy.after_epoch(torch.tensor([2.0, 4.0, 1.0]))
    found = strategy.weights(torch.tensor([1.0, 1.0, 0.0])).tolist()
    # 1 / L before; afterwards 2/3 and 1/3 of T = 3
    assert found == pytest.approx([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]][epochs])


def test_with_a_large_mu_a_loss_of_zero_takes_no_share_from_the_others():
    # T = 3 shared by the two that are there
    found = warm([2.0, 4.0, 1.0], mu=1e6).weights(torch.tensor([1.0, 2.0, 0.0])).tolist()
    assert found == pytest.approx([3 / 2, 3 / 4, 0.0], rel=1e-4)


def test_losses_that_are_all_zero_give_a_step_of_zero():
    assert warm([2.0, 4.0]).weights(torch.zeros(2)).tolist() == [0.0, 0.0]


def test_a_negative_loss_is_refused_where_a_logarithm_is_taken():
    with pytest.raises(StrategyError, match=r"^stch needs losses of at least 0, but one is -1$"):
        SmoothTchebycheff(2)(torch.tensor([-1.0, 1.0]))
    assert sum(plain([-1.0, 1.0], 1.0)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mu": 0}, "option 'mu' is 0, but must be a number above 0"),
        ({"form": "logs"}, r"unknown form 'logs' \(known: log, plain\); did you mean 'log'\?"),
        ({"warmup_epochs": 0}, "option 'warmup_epochs' is 0, but must be a whole number of at least 1"),
        ({"warmup_epochs": 1.5}, "option 'warmup_epochs' is 1.5, but must be a whole number of at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StrategyError, match=f"^strategy 'stch': {message}$"):
        create("stch", 2, **options)
