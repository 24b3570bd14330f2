"""PCGrad, GradVac, GradDrop, UPGrad and DualProj: what is removed where gradients oppose each other, by hand."""

import itertools
import math

import pytest
import torch
from scipy.optimize import nnls
from torch import nn

import strategies
from strategies import Shared, StrategyError
from strategies.gradvac import GradientVaccine
from strategies.toys import gradient_of, linear_steps

CONFLICT = [[1.0, 0.0], [-1.0, 2.0]]  # inner product -1, squares 1 and 5
AGREEMENT = [[1.0, 0.0], [1.0, 2.0]]
TRIANGLE = [[1.0, 0.0, 0.2], [-0.7, 0.9, 0.0], [-0.4, -1.1, 0.3]]


def steps(name, *gradients, **options):
    gradients = [torch.tensor(rows) for rows in gradients]
    num_tasks = len(gradients[0])
    strategy = strategies.create(name, num_tasks, **options)
    return linear_steps(strategy, gradients, [torch.ones(num_tasks)] * len(gradients))


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_of_two_opposed_gradients_each_loses_what_opposes_the_other(name):
    # w_i = 1 - g1.g2 / n_i^2 = 1 + 1 / 1 and 1 + 1 / 5
    found = steps(name, CONFLICT)[0]
    assert found.weights.tolist() == pytest.approx([2.0, 1.2], rel=1e-5)
    assert found.direction.tolist() == pytest.approx([0.8, 2.4], rel=1e-5)


@pytest.mark.parametrize("at", ["parameters", "features"])
def test_half_of_pcgrad_is_upgrad_for_two_tasks(at):
    found = steps("upgrad", CONFLICT, at=at)[0]
    assert found.weights.tolist() == pytest.approx([1.0, 0.6])
    assert found.direction.tolist() == pytest.approx([0.4, 1.2])


@pytest.mark.parametrize(("name", "weight"), [("pcgrad", 1), ("gradvac", 1), ("upgrad", 0.5), ("dualproj", 0.5)])
def test_gradients_that_agree_stay_as_they_are(name, weight):
    assert steps(name, AGREEMENT)[0].weights.tolist() == pytest.approx([weight, weight])


def projected(rows, orders):
    """Return the step of algorithm 1 of PCGrad on the vectors, with the orders of the other tasks given."""
    total = torch.zeros(3)
    for task, order in enumerate(orders):
        gradient = rows[task].clone()
        for other in order:
            inner = gradient @ rows[other]
            if inner < 0:
                gradient -= inner / rows[other].square().sum() * rows[other]
        total += gradient
    return total


def test_for_three_tasks_every_order_of_projections_comes_up_and_no_other_step():
    rows = torch.tensor(TRIANGLE)
    orders = [list(itertools.permutations([each for each in range(3) if each != task])) for task in range(3)]
    possible = torch.stack([projected(rows, each) for each in itertools.product(*orders)])
    found = torch.stack([each.direction for each in steps("pcgrad", *[TRIANGLE] * 60)])
    distances = (found[:, None] - possible).norm(dim=2)
    assert distances.min(dim=1).values.max() < 1e-5
    assert distances.min(dim=0).values.max() < 1e-5


def test_a_second_step_of_gradvac_by_hand():
    # step 1: cosine 0.6, above the mean 0: nothing turned, mean 0.3. Step 2: cosine 0, to be turned to 0.3
    first, second = steps("gradvac", [[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.0, 2.0]])
    assert first.weights.tolist() == pytest.approx([1.0, 1.0])
    sine = math.sqrt(1 - 0.3**2)
    of_second_in_first, of_first_in_second = 1 * 0.3 / (2 * sine), 2 * 0.3 / (1 * sine)
    assert second.weights.tolist() == pytest.approx([1 + of_first_in_second, 1 + of_second_in_first], rel=1e-6)
    turned = torch.tensor([1.0, 2 * of_second_in_first])
    assert (turned[1] / turned.norm()).item() == pytest.approx(0.3)


@pytest.mark.parametrize(("beta", "mean"), [(0.5, 0.15), (1.0, 0.0), (0.1, 0.054)])
def test_the_mean_cosine_follows_at_the_rate_beta(beta, mean):
    strategy = GradientVaccine(2, beta=beta)
    rows = [torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])]
    linear_steps(strategy, rows, [torch.ones(2)] * 2)
    # 0 -> 0.6 beta -> (1 - beta) 0.6 beta
    expected = [[0.0, mean], [mean, 0.0]]
    torch.testing.assert_close(strategy.targets, torch.tensor(expected, dtype=torch.float64), atol=1e-7, rtol=1e-5)


def test_the_mean_cosine_of_a_task_without_gradient_stays():
    strategy = GradientVaccine(2)
    rows = [torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])]
    last = linear_steps(strategy, rows, [torch.ones(2)] * 2)[1]
    assert strategy.targets[0, 1].item() == pytest.approx(0.3)
    assert last.weights.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_the_first_step_of_gradvac_is_that_of_pcgrad(seed):
    rows = torch.randn(2, 5, generator=torch.Generator().manual_seed(seed)).tolist()
    torch.testing.assert_close(steps("gradvac", rows)[0].direction, steps("pcgrad", rows)[0].direction)


def test_the_mean_gradient_is_projected_where_it_opposes_a_task():
    # mean (-1, 0.5) opposes (1, 0) only: its projection (0, 0.5) is the mean plus once (1, 0)
    found = steps("dualproj", [[1.0, 0.0], [-3.0, 1.0]])[0]
    assert found.direction.tolist() == pytest.approx([0.0, 0.5], abs=1e-6)
    assert found.weights.tolist() == pytest.approx([1.5, 0.5])
    unopposed = steps("dualproj", CONFLICT)[0]  # mean (0, 1): products 0 and 2
    assert unopposed.weights.tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("seed", range(10))
def test_projections_are_the_nearest_vectors_of_the_dual_cone(seed):
    rows = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed))
    # the columns of the inverse span the dual cone of three independent gradients in three dimensions
    corners = torch.linalg.inv(rows).numpy()

    def nearest(vector):
        return torch.tensor(corners @ nnls(corners, vector.numpy())[0], dtype=torch.float32)

    mean_of_projections = torch.stack([nearest(row) for row in rows]).mean(dim=0)
    projection_of_mean = nearest(rows.mean(dim=0))
    found = {name: steps(name, rows.tolist())[0].direction for name in ("upgrad", "dualproj")}
    torch.testing.assert_close(found["upgrad"], mean_of_projections, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["dualproj"], projection_of_mean, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("leak", [0.0, 1.0])
def test_components_of_one_sign_all_pass(leak):
    found = steps("graddrop", [[1.0, -2.0, 0.0], [3.0, -1.0, 0.0]], at="parameters", leak=leak)[0]
    assert found.direction.tolist() == [4.0, -3.0, 0.0]
    assert found.weights.tolist() == [1.0, 1.0]


def test_a_leak_of_one_is_the_sum():
    assert steps("graddrop", CONFLICT, at="parameters", leak=1.0)[0].direction.tolist() == [0.0, 2.0]


@pytest.mark.parametrize(("leak", "positive", "negative"), [(0.0, 3.0, -1.0), (0.25, 2.75, -0.25)])
def test_at_the_parameters_each_sign_is_drawn_as_often_as_it_weighs(leak, positive, negative):
    # P = (1 + (3 - 1) / (3 + 1)) / 2 = 0.75; what does not pass leaks: 3 - 0.25 * 1 and -1 + 0.25 * 3
    rows = [[3.0] * 20_000, [-1.0] * 20_000]
    found = steps("graddrop", rows, at="parameters", leak=leak)[0].direction
    assert set(found.tolist()) == {positive, negative}
    assert (found == positive).float().mean().item() == pytest.approx(0.75, abs=0.012)


def feature_step(signs, rows, **options):
    """Return the gradient ``(N, F)`` at features of the given signs ``(N, F)`` for the gradients ``(T, N, F)``."""
    trunk = nn.Parameter(signs.clone())
    features = trunk * 1.0
    losses = torch.stack([(features * row).sum() for row in rows])
    strategy = strategies.create("graddrop", len(rows), at="features", **options)
    strategy.backward(losses, Shared([trunk], [trunk], features, []))
    return gradient_of(trunk)


def test_at_the_features_gradients_times_the_sign_of_the_feature_vote_for_the_whole_batch():
    # two examples where the feature is 1 and -1; task 1 has 2 at the first, task 2 has 1 at the second. Both gradients
    # are positive, but the votes are 2 and -1: P = (1 + 1 / 3) / 2 = 2 / 3 that the first task passes, and it alone
    many = torch.ones(20_000)
    signs = torch.stack([many, -many])
    rows = torch.stack([torch.stack([2 * many, 0 * many]), torch.stack([0 * many, many])])
    found = feature_step(signs, rows)
    first, second = (found == torch.tensor([[2.0], [0.0]])).all(dim=0), (found == torch.tensor([[0.0], [1.0]])).all(0)
    assert (first | second).all()
    assert first.float().mean().item() == pytest.approx(2 / 3, abs=0.012)


def test_at_the_features_an_example_follows_the_vote_of_its_task_and_not_its_own_sign():
    # task 1 votes 3 - 1 = 2 in sum: both of its examples pass, also the one with the gradient -1
    found = feature_step(torch.ones(2, 1), torch.tensor([[[3.0], [-1.0]], [[1.0], [1.0]]]))
    assert found.tolist() == [[4.0], [0.0]]


def test_signs_are_drawn_anew_every_step_and_again_after_the_same_seed():
    rows = [[1.0] * 50, [-1.0] * 50]
    one, two = (steps("graddrop", rows, rows, at="parameters") for _ in range(2))
    assert one[0].direction.tolist() == two[0].direction.tolist() != one[1].direction.tolist()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradvac", {"beta": 1.5}, "strategy 'gradvac': option 'beta' is 1.5, but must be a number from 0 to 1"),
        ("graddrop", {"leak": -0.1}, "strategy 'graddrop': option 'leak' is -0.1, but must be a number of at least 0"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(StrategyError, match=message):
        strategies.create(name, 2, **options)
