"""Agreement with TorchJD 0.18 (Quinton and Rey), an independent implementation of most of these methods.

Both get the same gradients in double precision, so that what is left is the tolerance of TorchJD's own solvers.
"""

import numpy as np
import pytest
import torch

import strategies
from strategies.testing import linear_steps

aggregation = pytest.importorskip("torchjd.aggregation")

SEEDS = range(7)
NUM_TASKS = (2, 3, 5)

pytestmark = pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP")


def jacobian(num_tasks, seed):
    """Return well-conditioned gradients ``(T, 12)`` of different length that oppose each other in part."""
    generator = torch.Generator().manual_seed(100 * num_tasks + seed)
    rows = torch.randn(num_tasks, 12, generator=generator, dtype=torch.float64)
    rows = rows - 0.7 * rows.mean(dim=0)
    return rows * 10 ** (torch.rand(num_tasks, 1, generator=generator, dtype=torch.float64) - 0.5)


def ours(name, rows, **options):
    """Return the step and the weights of the strategy."""
    strategy = strategies.create(name, len(rows), **options)
    return strategy.aggregate(rows, torch.ones(len(rows), dtype=torch.float64))


def matrices(num_tasks=NUM_TASKS):
    cases = [(each, seed) for each in num_tasks for seed in SEEDS]
    return pytest.mark.parametrize("rows", [jacobian(*each) for each in cases], ids=[f"T{t}-{s}" for t, s in cases])


def test_the_gradients_of_these_tests_conflict():
    conflicts = [bool((rows @ rows.T).min() < 0) for rows in (jacobian(t, seed) for t in NUM_TASKS for seed in SEEDS)]
    assert sum(conflicts) >= 0.8 * len(conflicts)


@matrices()
def test_mgda_is_at_least_as_short_as_by_frank_wolfe(rows):
    # its iteration converges like 1/steps beyond two tasks, where it ends after one exact line search
    found, expected = ours("mgda", rows)[0], aggregation.MGDA(epsilon=1e-6, max_iters=1000)(rows)
    assert found.norm() <= expected.norm() * (1 + 1e-9)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 if len(rows) == 2 else 0.03 * float(rows.norm()))


@matrices((2,))
def test_pcgrad(rows):
    # for more tasks the order is random in both
    torch.testing.assert_close(ours("pcgrad", rows)[0], aggregation.PCGrad()(rows))


@matrices()
@pytest.mark.parametrize(("name", "aggregator"), [("upgrad", "UPGrad"), ("dualproj", "DualProj")])
def test_projections(name, aggregator, rows):
    from torchjd.linalg import QuadprogProjector

    # its default adds 1e-4 to the diagonal of the normalised Gramian, a bias of 1 % at strong conflicts
    exact = getattr(aggregation, aggregator)(projector=QuadprogProjector(norm_eps=0.0, reg_eps=1e-11))
    torch.testing.assert_close(ours(name, rows)[0], exact(rows), rtol=1e-5, atol=1e-6)


@matrices()
@pytest.mark.parametrize("radius", [0.0, 0.4, 0.9])
def test_cagrad_without_rescaling(radius, rows):
    found = ours("cagrad", rows, c=radius, rescale="none")[0]
    # the conic solver stops at a relative gap of 1e-8 in an objective that is flat near its minimum
    torch.testing.assert_close(found, aggregation.CAGrad(c=radius)(rows), rtol=0, atol=2e-3 * float(found.norm()))
    torch.testing.assert_close(ours("cagrad", rows, c=radius)[0] * (1 + radius**2), found)


@pytest.mark.parametrize("num_tasks", NUM_TASKS)
def test_nash_mtl_where_torchjd_solves_its_equation(num_tasks):
    compared = 0
    for seed in SEEDS:
        rows = jacobian(num_tasks, seed)
        expected = aggregation.NashMTL(n_tasks=num_tasks, max_norm=0.0, optim_niter=100).weighting(rows)
        # it iterates on a convex approximation and keeps what it has where its solver fails, about one time in ten
        if ((rows @ rows.T @ expected) * expected - 1).abs().max() < 1e-3:
            torch.testing.assert_close(ours("nash_mtl", rows)[1], expected, rtol=1e-3, atol=1e-6)
            compared += 1
    assert compared >= 5


@matrices()
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_fairgrad(alpha, rows):
    found, weights = ours("fairgrad", rows, alpha=alpha)
    residual = (rows @ found) * weights ** (1 / alpha) - 1
    assert residual.abs().max() < 1e-9
    # least squares stop at a relative change of 1e-8 of a sum of squares, 1e-4 of what is squared
    torch.testing.assert_close(found, aggregation.FairGrad(alpha=alpha)(rows), rtol=0, atol=1e-3 * float(found.norm()))


@matrices()
@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
def test_aligned_mtl_is_the_sum_where_torchjd_takes_the_mean(scale, rows):
    expected = aggregation.AlignedMTL(scale_mode=scale)(rows) * len(rows)
    torch.testing.assert_close(ours("aligned_mtl", rows, scale=scale)[0], expected, rtol=1e-6, atol=1e-8)


@matrices()
def test_imtl_g_but_for_its_steps_uphill(rows):
    expected = aggregation.IMTLG()(rows)
    expected *= (rows @ expected).sign()[0]  # uphill for all tasks where its weights sum to less than 0 unscaled
    torch.testing.assert_close(ours("imtl_g", rows)[0], expected, rtol=1e-6, atol=1e-8)


@matrices()
def test_config(rows):
    torch.testing.assert_close(ours("config", rows)[0], aggregation.ConFIG()(rows), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_gradvac_over_several_steps(beta):
    strategy, other = strategies.create("gradvac", 2, beta=beta), aggregation.GradVac(beta=beta)
    for seed in range(20):
        rows = jacobian(2, seed)
        found = strategy.aggregate(rows, torch.ones(2))[0]
        torch.testing.assert_close(found, other(rows), rtol=1e-5, atol=1e-6)  # 1e-8 is added to its denominators


def products(num_tasks):
    """Return products of the gradients of two samples, ``(T, T)``, that are neither symmetric nor definite."""
    generator = torch.Generator().manual_seed(num_tasks)
    for seed in range(20):
        rows = jacobian(num_tasks, seed)
        noise = torch.randn(2, *rows.shape, generator=generator, dtype=torch.float64)
        yield (rows + 0.3 * noise[0]) @ (rows + 0.3 * noise[1]).T


@pytest.mark.parametrize("num_tasks", NUM_TASKS)
@pytest.mark.parametrize(("rate", "decay"), [(1e-3, 0.1), (0.1, 0.0), (0.1, 2.0)])
def test_modo_given_the_same_products(num_tasks, rate, decay):
    strategy = strategies.create("modo", num_tasks, rate=rate, decay=decay)
    other = aggregation.MoDoWeighting(gamma=rate, rho=decay)
    for product in products(num_tasks):
        np.testing.assert_allclose(strategy.move(product.numpy()), other(product), atol=1e-12)


@pytest.mark.parametrize("num_tasks", NUM_TASKS)
@pytest.mark.parametrize(("pull", "rate", "iterations"), [(0.3, 5.0, 20), (0.0, 0.1, 3), (2.0, 0.5, 1)])
def test_sdmgrad_given_the_same_products(num_tasks, pull, rate, iterations):
    strategy = strategies.create("sdmgrad", num_tasks, pull=pull, rate=rate, iterations=iterations)
    other = aggregation.SDMGradWeighting(lr=rate, n_iter=iterations, lambda_=pull)
    for product in products(num_tasks):
        if rate == 5:  # steps too long to converge multiply the difference that 1e-8, added to its scale, makes
            strategy.task_weights = np.full(num_tasks, 1 / num_tasks)
            other.reset()
        np.testing.assert_allclose(strategy.move(product.numpy()), other(product), atol=1e-4)


@pytest.mark.parametrize("num_tasks", NUM_TASKS)
def test_excess_mtl_grows_alike_after_the_first_step(num_tasks):
    strategy, other = strategies.create("excess_mtl", num_tasks, rate=0.5), aggregation.ExcessMTL(robust_step_size=0.5)
    shift = None
    for seed in range(10):
        rows = jacobian(num_tasks, seed)
        weights = strategy.aggregate(rows, torch.ones(num_tasks))[1]
        # TorchJD's first step grows by the excess itself and not in units of it: a factor that stays
        ratio = (other.weighting(rows) / weights).log()
        ratio = ratio - ratio.mean()
        shift = ratio if shift is None else shift
        torch.testing.assert_close(ratio, shift, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_tasks", NUM_TASKS)
def test_graddrop_where_nothing_is_left_to_chance(num_tasks):
    rows = jacobian(num_tasks, 0).float()
    agreeing = rows.abs() * rows[0].sign()
    leak = aggregation.GradDrop(leak=torch.ones(num_tasks))
    for matrix, other, options in ((agreeing, aggregation.GradDrop(), {}), (rows, leak, {"leak": 1.0})):
        strategy = strategies.create("graddrop", num_tasks, at="parameters", **options)
        torch.testing.assert_close(strategy.aggregate(matrix, torch.ones(num_tasks))[0], other(matrix))


@pytest.mark.parametrize(
    ("name", "options", "aggregator", "given", "factor"),
    [
        ("aligned_mtl", {}, "AlignedMTL", {}, 1 / 3),
        ("config", {}, "ConFIG", {}, 1),
        ("cagrad", {"c": 0.5, "rescale": "none"}, "CAGrad", {"c": 0.5}, 1),
    ],
)
def test_the_adapter_takes_the_same_steps_as_the_method_of_the_same_name(name, options, aggregator, given, factor):
    rows, losses = [jacobian(3, seed).float() for seed in range(3)], [torch.ones(3)] * 3
    adapter = strategies.create("torchjd", 3, aggregator=aggregator, options=given)
    expected = linear_steps(strategies.create(name, 3, **options), rows, losses)
    for one, other in zip(linear_steps(adapter, rows, losses), expected, strict=True):
        found, wanted = one.direction, factor * other.direction
        torch.testing.assert_close(found, wanted, rtol=0, atol=3e-3 * float(wanted.norm()))
