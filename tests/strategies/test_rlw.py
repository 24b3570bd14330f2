"""Random weights: their distribution, and that nothing but seed and step decides them."""

import math

import pytest
import torch

from strategies import StrategyError, create
from strategies.base import TaskFacts
from strategies.rlw import RandomWeighting
from strategies.testing import linear_steps


def seeded(seed=0, num_tasks=2, **options):
    strategy = RandomWeighting(num_tasks, **options)
    strategy.setup([TaskFacts(f"task {index}") for index in range(num_tasks)], seed)
    return strategy


def drawn(strategy, steps):
    weights = []
    for _ in range(steps):
        weights.append(strategy.weights(torch.ones(strategy.num_tasks)))
        strategy.after_step(lambda: pytest.fail("asked for a second forward pass"))
    return torch.stack(weights)


@pytest.mark.parametrize(
    ("distribution", "num_tasks", "variance"),
    [
        ("normal", 2, 0.0682),  # of 1 / (1 + e^-z) with z ~ N(0, 2)
        ("dirichlet", 2, 1 / 12),  # of a uniform number
        ("dirichlet", 3, 1 / 18),  # (1/3)(2/3) / 4
    ],
)
def test_weights_have_mean_one_over_the_number_of_tasks_and_the_known_variance(distribution, num_tasks, variance):
    weights = drawn(seeded(num_tasks=num_tasks, distribution=distribution), 10_000)
    assert weights.mean(dim=0).tolist() == pytest.approx([1 / num_tasks] * num_tasks, abs=0.01)
    assert weights.var(dim=0).tolist() == pytest.approx([variance] * num_tasks, abs=0.002)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(10_000))
    assert weights.min() > 0


def test_normal_weights_are_the_softmax_of_normal_numbers():
    scores = drawn(seeded(), 5_000).log()
    differences = scores[:, 0] - scores[:, 1]
    assert differences.mean().item() == pytest.approx(0, abs=0.06)
    assert differences.std().item() == pytest.approx(math.sqrt(2), abs=0.05)


@pytest.mark.parametrize("distribution", ["normal", "dirichlet"])
def test_the_global_generator_neither_decides_nor_moves(distribution):
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            found.append(drawn(seeded(distribution=distribution), 5))
            assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*found)


def test_weights_depend_on_the_seed_and_not_on_the_losses():
    assert not torch.equal(drawn(seeded(0), 3), drawn(seeded(1), 3))
    first, second = seeded(), seeded()
    assert torch.equal(first.weights(torch.tensor([0.1, 9.0])), second.weights(torch.tensor([5.0, 0.0])))


def test_all_micro_batches_of_a_step_have_the_same_weights_and_the_next_step_others():
    strategy = seeded()
    first, again = (strategy.weights(torch.tensor(losses)) for losses in ([1.0, 2.0], [3.0, 0.5]))
    assert torch.equal(first, again)
    strategy.after_step(lambda: torch.ones(2))
    assert not torch.equal(first, strategy.weights(torch.ones(2)))


def test_a_checkpoint_goes_on_with_the_next_draw():
    whole, first = seeded(4), seeded(4)
    expected = drawn(whole, 6)
    drawn(first, 3)
    resumed = RandomWeighting(2)
    resumed.load_state_dict(first.state_dict())
    assert torch.equal(drawn(resumed, 3), expected[3:])


def test_the_step_is_that_of_the_weights():
    rows = [torch.tensor([[2.0, 0.0], [0.0, 4.0]])] * 3
    for step in linear_steps(RandomWeighting(2), rows, [torch.ones(2)] * 3):
        first, second = step.weights.tolist()
        assert step.direction.tolist() == pytest.approx([2 * first, 4 * second])
        assert step.heads.tolist() == step.weights.tolist()


def test_an_unknown_distribution_is_refused_with_the_nearest():
    with pytest.raises(
        StrategyError, match=r"unknown distribution 'norml' \(known: dirichlet, normal\); did you mean 'normal'\?$"
    ):
        create("rlw", 2, distribution="norml")
