"""MGDA, CAGrad, SDMGrad and MoDo: common descent directions, of one batch or of two independent halves, by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import strategies
from strategies import Shared, StrategyError
from strategies.modo import DoubleSampledDescent
from strategies.toys import LinearStep, gradient_of, linear_steps


def step(name, rows, losses=None, **options):
    rows = torch.as_tensor(rows, dtype=torch.float32)
    values = torch.ones(len(rows)) if losses is None else torch.tensor(losses)
    return linear_steps(strategies.create(name, len(rows), **options), [rows], [values])[0]


def random_rows(seed, num_tasks=3, num_parameters=6):
    return torch.randn(num_tasks, num_parameters, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("none", [4 / 5, 1 / 5]),  # (n2^2, n1^2) / (n1^2 + n2^2), lengths 1 and 2
        ("l2", [1 / 2, 1 / 2]),
        ("loss", [1 / 5, 4 / 5]),  # losses 1 and 4: lengths 1 and 1/2
        ("loss+", [1 / 17, 16 / 17]),  # lengths 1 and 1/4
    ],
)
@pytest.mark.parametrize("at", ["features", "parameters"])
def test_the_shortest_combination_of_two_by_hand(at, normalisation, expected):
    found = step("mgda", [[1.0, 0.0], [0.0, 2.0]], [1.0, 4.0], normalisation=normalisation, at=at)
    assert found.weights.tolist() == pytest.approx(expected, abs=1e-6)
    # the weights apply to the gradients as they are
    assert found.direction.tolist() == pytest.approx([expected[0], 2 * expected[1]], abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_shortest_combination_gains_its_own_square_from_every_task_it_uses(seed):
    rows = random_rows(seed)
    found = step("mgda", rows)
    gains, square = rows @ found.direction, found.direction.square().sum()
    assert (gains >= square - 1e-4).all()
    assert (gains[found.weights > 1e-6] - square).abs().max() < 1e-4


def test_a_loss_of_zero_takes_all_the_weight_of_a_division_by_losses():
    found = step("mgda", [[1.0, 0.0], [0.0, 2.0]], [0.0, 4.0], normalisation="loss")
    assert found.weights.isfinite().all()
    assert found.weights[1] == pytest.approx(1)


@pytest.mark.parametrize("rescale", ["none", "square", "linear"])
def test_with_radius_zero_the_conflict_averse_step_is_the_mean(rescale):
    rows = random_rows(0)
    found = step("cagrad", rows, c=0, rescale=rescale)
    torch.testing.assert_close(found.direction, rows.mean(dim=0))
    assert found.weights.tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(("rescale", "divisor"), [("none", 1.0), ("square", 1.25), ("linear", 1.5)])
def test_for_equal_lengths_the_conflict_averse_step_is_the_mean_times_one_plus_c(rescale, divisor):
    rows = torch.tensor([[3.0, 4.0], [5.0, 0.0]])
    found = step("cagrad", rows, c=0.5, rescale=rescale)
    torch.testing.assert_close(found.direction, 1.5 / divisor * rows.mean(dim=0))
    assert found.weights.tolist() == pytest.approx([0.75 / divisor] * 2, rel=1e-5)


def test_the_defaults_of_the_conflict_averse_step_are_those_of_the_authors():
    # c = 0.4 and division by 1 + c^2
    found = step("cagrad", [[1.0, 0.0], [0.0, 1.0]])
    assert found.weights.tolist() == pytest.approx([0.7 / 1.16] * 2)


@pytest.mark.parametrize("seed", range(8))
def test_no_step_in_the_ball_serves_the_worst_served_task_better(seed):
    rows = random_rows(seed, 2, 2)
    mean = rows.mean(dim=0)
    found = step("cagrad", rows, c=0.5, rescale="none").direction
    assert (found - mean).norm() <= 0.5 * mean.norm() * (1 + 1e-5)
    angles = torch.linspace(0, 2 * math.pi, 3600)
    others = mean + 0.5 * mean.norm() * torch.stack([angles.cos(), angles.sin()], dim=1)
    assert (rows @ found).min() >= (others @ rows.T).min(dim=1).values.max() - 1e-5


def test_a_mean_of_zero_leaves_no_conflict_averse_step():
    found = step("cagrad", [[1.0, 2.0], [-1.0, -2.0]])
    assert found.direction.tolist() == [0.0, 0.0]
    assert found.weights.tolist() == pytest.approx([0.5 / 1.16] * 2)


def sampled_step(strategy, examples):
    """Return the step for the gradients ``(T, N, d)`` of every task at every example."""
    examples = torch.tensor(examples, dtype=torch.float32)
    trunk = nn.Parameter(torch.zeros(examples.shape[2]))
    heads = [nn.Parameter(torch.zeros(())) for _ in examples]
    features = trunk.expand(examples.shape[1], -1) * 1.0
    losses = torch.stack(
        [(features * rows).sum(dim=1).mean() + head for rows, head in zip(examples, heads, strict=True)]
    )
    strategy.backward(losses, Shared([trunk], [trunk], features, heads))
    strategy.before_step()
    return LinearStep(gradient_of(trunk), strategy.last_weights, torch.stack([gradient_of(head) for head in heads]))


EXAMPLES = [[[1.0, 0.0], [3.0, 0.0]], [[0.0, 2.0], [0.0, 1.0]]]
"""Task 1 has the gradients (1, 0) and (3, 0), task 2 (0, 2) and (0, 1): the product of the halves is diag(3, 2), the
Gramian of the batch diag(4, 2.25)."""


def test_modo_by_hand_for_gradients_known_example_by_example():
    found = sampled_step(strategies.create("modo", 2, rate=0.1, decay=0.0), EXAMPLES)
    # (0.5, 0.5) - 0.1 (3 / 2, 2 / 2) = (0.35, 0.4), and 0.125 more each
    assert found.weights.tolist() == pytest.approx([0.475, 0.525])
    # the step is made of the gradients of the whole batch, (2, 0) and (0, 1.5)
    assert found.direction.tolist() == pytest.approx([0.475 * 2, 0.525 * 1.5])
    assert found.heads.tolist() == pytest.approx([0.475, 0.525])


def test_modo_goes_on_from_where_it_was_and_is_pulled_to_equal_weights():
    strategy = strategies.create("modo", 2, rate=0.1, decay=0.5)
    sampled_step(strategy, EXAMPLES)
    # first (0.5, 0.5) - 0.1 (1.5 + 0.25, 1 + 0.25) = (0.325, 0.375) + 0.15
    assert strategy.task_weights.tolist() == pytest.approx([0.475, 0.525])
    # then 0.475 - 0.1 (3 + 0.5) 0.475 = 0.30875 and 0.525 - 0.1 (2 + 0.5) 0.525 = 0.39375, and 0.14875 each
    assert sampled_step(strategy, EXAMPLES).weights.tolist() == pytest.approx([0.4575, 0.5425])


def test_sdmgrad_by_hand_for_gradients_known_example_by_example():
    found = sampled_step(strategies.create("sdmgrad", 2, pull=0.3, rate=0.1, iterations=1), EXAMPLES)
    square = ((3**0.5 + 2**0.5) / 2) ** 2
    moved = [0.5 - 0.1 * entry / square * (0.5 + 0.3 / 2) for entry in (3, 2)]
    shares = [each + (1 - sum(moved)) / 2 for each in moved]
    expected = [(share + 0.3 / 2) / 1.3 for share in shares]
    assert found.weights.tolist() == pytest.approx(expected)
    assert found.direction.tolist() == pytest.approx([expected[0] * 2, expected[1] * 1.5])


def test_sdmgrad_settles_at_the_shortest_direction_near_the_mean():
    # 1/2 w A w + pull w A 1 / 2 for A = diag(3, 2), w = (x, 1 - x): 3 x + 0.45 = 2 (1 - x) + 0.3, x = 0.37
    strategy = strategies.create("sdmgrad", 2, pull=0.3, rate=0.1, iterations=200)
    sampled_step(strategy, EXAMPLES)
    assert strategy.task_weights.tolist() == pytest.approx([0.37, 0.63], abs=1e-4)


def test_a_strong_pull_makes_sdmgrad_the_mean():
    found = sampled_step(strategies.create("sdmgrad", 2, pull=1e4, rate=1e-4), EXAMPLES)
    assert found.weights.tolist() == pytest.approx([0.5, 0.5], abs=1e-3)


class RecordsTheProduct(DoubleSampledDescent):
    def move(self, product):
        self.products = [*getattr(self, "products", []), product]
        return super().move(product)


def test_the_product_of_the_halves_is_free_of_the_noise_that_lengthens_the_gramian():
    generator = torch.Generator().manual_seed(0)
    strategy, lengths = RecordsTheProduct(2), []
    true = torch.tensor([[1.0, 0.0], [-0.5, 0.5]])
    for _ in range(600):
        examples = true[:, None] + torch.randn(2, 8, 2, generator=generator)
        lengths.append(examples.mean(dim=1).square().sum(dim=1))
        sampled_step(strategy, examples.tolist())
    # products of the halves: standard deviation of a mean about 0.03
    np.testing.assert_allclose(np.mean(strategy.products, axis=0), true @ true.T, atol=0.08)
    # the Gramian of the batch is longer by variance times parameters over examples, 1 * 2 / 8
    np.testing.assert_allclose(torch.stack(lengths).mean(dim=0), [1.25, 0.75], atol=0.06)


@pytest.mark.parametrize("name", ["sdmgrad", "modo"])
def test_a_batch_of_one_example_leaves_the_weights(name):
    found = sampled_step(strategies.create(name, 2, **({"decay": 0.0} if name == "modo" else {})), [[[1.0]], [[2.0]]])
    assert found.weights.tolist() == pytest.approx([0.5, 0.5])
    assert found.direction.tolist() == pytest.approx([1.5])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cagrad", {"c": -0.1}, "option 'c' is -0.1, but must be a number of at least 0"),
        ("cagrad", {"rescale": "sqare"}, "unknown rescale 'sqare' .*did you mean 'square'"),
        ("mgda", {"normalisation": "l1"}, "unknown normalisation 'l1' .known: l2, loss"),
        ("sdmgrad", {"iterations": 0}, "option 'iterations' is 0, but must be a whole number of at least 1"),
        ("modo", {"rate": 0}, "option 'rate' is 0, but must be a number above 0"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(StrategyError, match=message):
        strategies.create(name, 2, **options)
