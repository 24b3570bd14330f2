"""DB-MTL, MoCo and ExcessMTL: methods that remember gradients, two steps by hand."""

import math

import pytest
import torch

import strategies
from strategies import StrategyError
from strategies.toys import linear_steps

FIRST, SECOND = [[2.0, 0.0], [0.0, 1.0]], [[4.0, 0.0], [0.0, 1.0]]


def steps(name, gradients, losses, **options):
    strategy = strategies.create(name, len(losses[0]), **options)
    found = linear_steps(strategy, [torch.tensor(rows) for rows in gradients], [torch.tensor(each) for each in losses])
    return found, strategy


def shares(*logits):
    """Return the softmax in plain Python."""
    powers = [math.exp(each) for each in logits]
    return [each / sum(powers) for each in powers]


def test_two_steps_of_dual_balancing_by_hand():
    found, strategy = steps("db_mtl", [FIRST, SECOND], [[2.0, 0.5], [1.0, 1.0]])
    # gradients of the log losses (1, 0) and (0, 2); means 0.1 of them, lengths 0.1 and 0.2: a = (2, 1)
    assert found[0].direction.tolist() == pytest.approx([0.2, 0.2])
    assert found[0].weights.tolist() == pytest.approx([2 / 2, 1 / 0.5])
    # 0.9 (0.1, 0.2) + 0.1 (4, 1) = (0.49, 0.28): a = (1, 1.75)
    assert strategy.memory.flatten().tolist() == pytest.approx([0.49, 0.0, 0.0, 0.28])
    assert found[1].direction.tolist() == pytest.approx([0.49, 0.49])
    assert found[1].weights.tolist() == pytest.approx([1.0, 1.75])
    assert found[1].heads.tolist() == pytest.approx([1.0, 1.75])


def test_the_share_that_stays_of_the_running_mean_decays():
    # beta_2 = 0.9 / 2: 0.45 (0.1, 0.2) + 0.55 (4, 1)
    _, strategy = steps("db_mtl", [FIRST, SECOND], [[2.0, 0.5], [1.0, 1.0]], decay=1.0)
    assert strategy.memory.diagonal().tolist() == pytest.approx([0.045 + 2.2, 0.09 + 0.55])


@pytest.mark.parametrize("seed", range(3))
def test_without_memory_every_task_gets_the_length_of_the_longest(seed):
    generator = torch.Generator().manual_seed(seed)
    rows, losses = torch.randn(3, 5, generator=generator), 0.1 + torch.rand(3, generator=generator)
    found, _ = steps("db_mtl", [rows.tolist()] * 2, [losses.tolist()] * 2, beta=0.0)
    scaled = rows / losses[:, None]
    units = scaled / scaled.norm(dim=1, keepdim=True)
    for each in found:
        torch.testing.assert_close(each.direction, units.sum(dim=0) * scaled.norm(dim=1).max(), rtol=1e-4, atol=1e-5)


def test_a_negative_loss_has_no_logarithm():
    with pytest.raises(StrategyError, match=r"db_mtl needs losses of at least 0, but one is -0\.5"):
        steps("db_mtl", [FIRST], [[2.0, -0.5]])


def test_a_task_without_loss_keeps_its_mean_and_gets_no_weight_on_its_head():
    found, strategy = steps("db_mtl", [FIRST, [[4.0, 0.0], [0.0, 0.0]]], [[2.0, 0.5], [1.0, 0.0]])
    assert strategy.memory.diagonal().tolist() == pytest.approx([0.49, 0.18])
    assert found[1].direction.tolist() == pytest.approx([0.49, 0.49])
    assert found[1].weights.tolist() == pytest.approx([1.0, 0.0])


def test_two_steps_of_gradient_correction_by_hand():
    gradients = [[[2.0, 0.0], [0.0, 4.0]]] * 2
    found, strategy = steps("moco", gradients, [[1.0, 2.0]] * 2)
    # at the length of their losses (1, 0) and (0, 2); means half of it, products diag(0.25, 1)
    first = shares(0.5 - 0.1 * 0.25 * 0.5, 0.5 - 0.1 * 1.0 * 0.5)
    assert found[0].direction.tolist() == pytest.approx([0.5 * first[0], 1.0 * first[1]])
    assert found[0].weights.tolist() == pytest.approx([first[0] * 1 / 2, first[1] * 2 / 4])
    # rates over the root of 2: half of the way is 0.5 / sqrt(2) = 0.353553 of it
    means = [0.5 + 0.353553 * 0.5, 1.0 + 0.353553 * 1.0]
    rate = 0.1 / math.sqrt(2)
    second = shares(*[share - rate * mean**2 * share for share, mean in zip(first, means, strict=True)])
    assert strategy.memory.diagonal().tolist() == pytest.approx(means)
    assert found[1].direction.tolist() == pytest.approx([second[0] * means[0], second[1] * means[1]])
    assert strategy.shares.tolist() == pytest.approx(second)


def test_the_options_of_gradient_correction_enter_where_the_formula_has_them():
    gradients, losses = [[[2.0, 0.0], [0.0, 4.0]]] * 2, [[1.0, 2.0]] * 2
    options = {"beta": 1.0, "beta_decay": 0.0, "gamma": 1.0, "gamma_decay": 1.0, "rho": 0.5}
    found, _ = steps("moco", gradients, losses, **options)
    # means (1, 0) and (0, 2) at once; products plus rho diag(1.5, 4.5); rates 1 and 1/2
    first = shares(0.5 - 1.5 * 0.5, 0.5 - 4.5 * 0.5)
    second = shares(first[0] * (1 - 1.5 / 2), first[1] * (1 - 4.5 / 2))
    assert found[0].direction.tolist() == pytest.approx([first[0], 2 * first[1]])
    assert found[1].direction.tolist() == pytest.approx([second[0], 2 * second[1]])


def test_two_steps_of_excess_risks_by_hand():
    gradients = [[[3.0, 0.0], [0.0, 4.0]], [[3.0, 0.0], [0.0, 3.0]]]
    found, strategy = steps("excess_mtl", gradients, [[1.0, 1.0]] * 2, rate=1.0)
    # squares 9 and 16, excess 9 / 3 and 16 / 4: the units, so that both weights grow alike
    assert found[0].weights.tolist() == pytest.approx([0.5, 0.5])
    assert strategy.units.tolist() == pytest.approx([3.0, 4.0])
    # sums 18 and 25, excess 9 / sqrt(18) and 9 / 5, in units 0.707107 and 0.45
    expected = shares(9 / 18**0.5 / 3, 9 / 5 / 4)
    assert found[1].weights.tolist() == pytest.approx(expected)
    assert found[1].direction.tolist() == pytest.approx([3 * expected[0], 3 * expected[1]])


def test_a_task_that_starts_without_gradient_gets_its_unit_later():
    gradients = [[[3.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 4.0]]]
    found, strategy = steps("excess_mtl", gradients, [[1.0, 1.0]] * 2)
    assert strategy.units.tolist() == pytest.approx([3.0, 4.0])
    assert all(each.weights.isfinite().all() for each in found)


def test_the_default_rate_is_that_of_the_authors():
    assert strategies.create("excess_mtl", 2).rate == 0.01


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("db_mtl", {"beta": 1.1}, "option 'beta' is 1.1, but must be a number from 0 to 1"),
        ("moco", {"rho": -1}, "option 'rho' is -1, but must be a number of at least 0"),
        ("excess_mtl", {"rate": 0}, "option 'rate' is 0, but must be a number above 0"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(StrategyError, match=message):
        strategies.create(name, 2, **options)
