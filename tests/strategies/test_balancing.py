"""What gradient-balancing methods share: passes, places, accumulation, heads, precision, degenerate cases."""

import gc
import io
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import strategies
from strategies import Shared, StrategyError
from strategies.balancing import GradientBalancing, gramian, trunk_gradients, with_gradient
from strategies.sampling import DoubleSampling
from strategies.toys import ToyTrial, factory, gradient_of, linear_steps

BALANCING = [name for name in strategies.names() if issubclass(strategies.load(name), GradientBalancing)]
BOTH_PLACES = [name for name in BALANCING if "at" in strategies.load(name).__init__.__kwdefaults__]
SAMPLING = [name for name in BALANCING if issubclass(strategies.load(name), DoubleSampling)]


def build(name, num_tasks=3, **options):
    return ToyTrial.build(factory(strategies.load(name), **options), num_tasks)


def count_calls(module):
    """Return a list that grows by one for every backward pass through ``module``."""
    passes = []
    module.register_full_backward_hook(lambda *_: passes.append(1))
    return passes


def stacked_backward(trial, change=lambda losses: losses):
    """Collect the gradients of losses that come straight from ``torch.stack``, as a training loop makes them."""
    losses, shared = trial.losses()
    trial.strategy.backward(change(losses), shared)


def step(strategy, rows, losses=None):
    """Return the first step of the strategy for the gradients ``rows``."""
    rows = torch.tensor(rows, dtype=torch.float32)
    return linear_steps(strategy, [rows], [torch.ones(len(rows)) if losses is None else torch.tensor(losses)])[0]


@pytest.mark.parametrize(
    ("name", "options", "trunk_passes"),
    [
        ("mgda", {"at": "features"}, 1),
        ("graddrop", {"at": "features"}, 1),
        ("mgda", {"at": "parameters"}, 3),
        ("db_mtl", {}, 3),
        ("modo", {}, 6),
    ],
)
def test_every_head_is_passed_once_and_the_trunk_as_often_as_declared(name, options, trunk_passes):
    trial = build(name, **options)
    heads = [count_calls(head) for head in trial.network.heads]
    trunk = count_calls(trial.network.last)
    stacked_backward(trial)
    trial.strategy.before_step()
    assert [len(each) for each in heads] == [1, 1, 1]
    assert len(trunk) == trunk_passes


def test_losses_that_no_stack_made_cost_more_but_give_the_same_step():
    stacked, other = build("mgda"), build("mgda")
    heads = count_calls(other.network.heads[0])
    stacked_backward(stacked)
    stacked_backward(other, torch.clone)
    assert len(heads) == 3  # zeros of the other two tasks go through it
    for found, expected in zip(other.gradients(), stacked.gradients(), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_loss_that_does_not_depend_on_the_network_has_weight_zero():
    trial = build("mgda")
    losses, shared = trial.losses()
    trial.strategy.backward(torch.stack([losses[0], torch.zeros(()), losses[2]]), shared)
    weights = trial.strategy.last_weights
    assert weights[1] == 0
    assert weights.sum().item() == pytest.approx(1)


def in_parts(trial, order, sizes):
    """Send the micro-batches of one step through the strategy and return all gradients."""
    trial.optimizer.zero_grad()
    inputs, targets = trial.inputs, trial.targets
    for part in order.split(sizes):
        trial.inputs, trial.targets = inputs[part], targets[:, part]
        trial.backward(scale=len(part) / len(order))
    trial.inputs, trial.targets = inputs, targets
    trial.strategy.before_step()
    return trial.gradients()


@pytest.mark.parametrize("name", sorted(set(BALANCING) - set(SAMPLING)))
def test_at_the_parameters_micro_batches_make_exactly_the_step_of_the_whole_batch(name):
    options = {"at": "parameters"} if name in BOTH_PLACES else {}
    whole, parts = build(name, **options), build(name, **options)
    for trial in (whole, parts):
        trial.train(2)
    order = torch.arange(32)
    expected, found = in_parts(whole, order, 32), in_parts(parts, order, [10, 6, 16])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(parts.strategy.last_weights, whole.strategy.last_weights, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLING)
def test_the_samples_of_a_step_are_the_first_halves_of_its_micro_batches_and_the_second_ones(name):
    whole, parts = build(name), build(name)
    # two micro-batches 0..15 and 16..31: the halves of this order are the first halves of both, then the second ones
    order = torch.cat([torch.arange(0, 8), torch.arange(16, 24), torch.arange(8, 16), torch.arange(24, 32)])
    expected, found = in_parts(whole, order, 32), in_parts(parts, torch.arange(32), 16)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", BOTH_PLACES)
def test_at_the_features_a_step_is_the_sum_of_the_steps_of_its_micro_batches(name):
    together, sizes = build(name, at="features"), [20, 12]
    found = in_parts(together, torch.arange(32), sizes)
    expected = [torch.zeros_like(each) for each in found]
    for part in torch.arange(32).split(sizes):
        alone = build(name, at="features")
        gradients = in_parts(alone, part, len(part))
        expected = [total + len(part) / 32 * each for total, each in zip(expected, gradients, strict=True)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", BALANCING)
def test_what_is_already_in_the_gradient_stays(name):
    clean, used = build(name), build(name)
    for parameter in used.network.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    for trial in (clean, used):
        trial.backward()
        trial.strategy.before_step()
    for one, other in zip(used.gradients(), clean.gradients(), strict=True):
        torch.testing.assert_close(one - 2, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at", ["parameters", "features"])
def test_no_head_goes_uphill_where_the_weight_of_its_task_is_negative(at):
    # g2 lies between g1 and g3, and near g1: to gain as much from g1 as from g2, g1 counts double and g2 is held back
    rows = [[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 1.0, 0.3]]
    found = step(strategies.create("imtl_g", 3, at=at), rows)
    assert found.weights.min() < -0.05
    torch.testing.assert_close(found.heads, found.weights.clamp(min=0))
    torch.testing.assert_close(found.direction, found.weights @ torch.tensor(rows))
    assert (torch.tensor(rows) @ found.direction > 0).all()


@pytest.mark.parametrize("name", BALANCING)
def test_heads_get_the_gradient_of_their_own_loss_at_the_logged_weight(name):
    found = step(strategies.create(name, 3, **strategies.load(name).example_options(3)), np.eye(3, 5) + 0.2)
    torch.testing.assert_close(found.heads, found.weights.clamp(min=0))


@pytest.mark.parametrize("at", ["parameters", "features"])
def test_frozen_parameters_get_no_gradient_and_do_not_change_that_of_the_others(at):
    frozen, expected = build("mgda", at=at), build("mgda", at=at)
    held = [*frozen.network.first.parameters(), *frozen.network.heads[1].parameters()]
    for parameter in held:
        parameter.requires_grad_(False)
    for trial in (frozen, expected):
        trial.backward()
        trial.strategy.before_step()
    assert all(parameter.grad is None for parameter in held)
    if at == "features":  # the gradients met before the trunk: what is frozen there cannot change them
        for one, other in zip(frozen.network.parameters(), expected.network.parameters(), strict=True):
            if one.requires_grad:
                torch.testing.assert_close(one.grad, other.grad)
    assert gradient_of(frozen.network.last.weight).norm() > 0


@pytest.mark.parametrize("name", BALANCING)
@pytest.mark.parametrize("case", ["no features", "features without graph", "only the input asks for a gradient"])
def test_a_network_that_trains_nothing_shared_is_refused(name, case):
    strategy = strategies.create(name, 2, **strategies.load(name).example_options(2))
    inputs = torch.randn(4, 3, requires_grad=case == "only the input asks for a gradient")
    head, frozen = nn.Parameter(torch.ones(3)), nn.Parameter(torch.eye(3), requires_grad=False)
    features = inputs @ frozen
    losses = torch.stack([(features @ head).sum(), (features @ head).square().sum()])
    shared = Shared([frozen], [frozen], None if case == "no features" else features, [head])
    with pytest.raises(StrategyError, match="gradients of the shared part of the network, but none is trained"):
        strategy.backward(losses, shared)


def autocast_step(name, dtype):
    """Return the gradients and features of a step under autocast to ``dtype``."""
    trial = build(name)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        losses, shared = trial.losses()
    trial.strategy.backward(losses, shared)
    trial.strategy.before_step()
    return trial.gradients(), shared.features


@pytest.mark.parametrize("name", BALANCING)
def test_features_in_bfloat16_give_finite_gradients_near_those_in_single_precision(name):
    found, features = autocast_step(name, torch.bfloat16)
    expected, _ = autocast_step(name, None)
    assert features.dtype == torch.bfloat16
    assert all(each.dtype == torch.float32 and each.isfinite().all() for each in found)
    one, other = (torch.cat([each.flatten() for each in gradients]) for gradients in (found, expected))
    # gradient signs of single components, which GradDrop goes by, may flip where they are small
    nearness = 0.8 if name == "graddrop" else 0.99
    assert torch.cosine_similarity(one, other, dim=0) > nearness


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk = nn.LSTM(5, 4, batch_first=True)
            self.heads = nn.ModuleList(nn.Linear(4, 3) for _ in range(3))

    def losses(self, inputs, targets):
        _, (hidden, _) = self.trunk(inputs)
        features = hidden[-1]
        losses = [
            functional.cross_entropy(head(features), target) for head, target in zip(self.heads, targets, strict=True)
        ]
        trunk = list(self.trunk.parameters())
        return torch.stack(losses), Shared(trunk, trunk, features, list(self.heads.parameters()))


@pytest.mark.parametrize("name", BALANCING)
def test_a_recurrent_trunk_gets_the_weighted_sum_of_the_gradients_of_its_tasks(name):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 7, 5, generator=generator)
    targets = torch.randint(3, (3, 6), generator=generator)
    network = Recurrent()
    strategy = strategies.create(name, 3, **strategies.load(name).example_options(3))
    strategy.backward(*network.losses(inputs, targets))
    strategy.before_step()
    found = [gradient_of(parameter) for parameter in network.trunk.parameters()]
    assert all(each.isfinite().all() for each in found)
    assert sum(each.norm() for each in found) > 0
    if strategy.weighs_trunk and name != "torchjd":
        losses, shared = network.losses(inputs, targets)
        expected = torch.autograd.grad(torch.dot(strategy.last_weights, losses), shared.parameters)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


LEAVE_OUT = [name for name in BALANCING if name not in ("graddrop", "torchjd", "modo", "sdmgrad", "excess_mtl")]


@pytest.mark.parametrize("name", LEAVE_OUT)
def test_a_task_without_gradient_has_weight_zero_and_the_others_step_as_if_alone(name):
    rows = [[1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-0.5, 1.0, 0.5, 0.0]]
    found = step(strategies.create(name, 3), rows)
    alone = step(strategies.create(name, 2), [rows[0], rows[2]])
    assert found.weights[1] == 0
    cosine = torch.cosine_similarity(found.direction, alone.direction, dim=0)
    assert cosine == pytest.approx(1, abs=2e-2 if name == "moco" else 1e-5)  # moco: shares of thirds, not halves


def test_no_gradient_at_all_gives_no_step():
    for name in LEAVE_OUT:
        found = step(strategies.create(name, 2), [[0.0, 0.0], [0.0, 0.0]])
        assert found.direction.tolist() == [0.0, 0.0], name
        assert found.weights.tolist() == [0.0, 0.0], name


def test_a_gradient_of_rounding_noise_counts_as_none():
    assert with_gradient(np.diag([1.0, 1e-22, 1e-18])).tolist() == [True, False, True]
    assert with_gradient(np.zeros((2, 2))).tolist() == [False, False]


@pytest.mark.parametrize("name", BALANCING)
def test_a_loss_that_is_no_number_shows_in_the_step_and_raises_nothing_obscure(name):
    trial = build(name)
    try:
        stacked_backward(trial, lambda losses: losses * torch.tensor([1.0, float("nan"), 1.0]))
        trial.strategy.before_step()
    except StrategyError:
        assert name == "torchjd"  # the error of the aggregator, in one line
        return
    assert not all(gradient.isfinite().all() for gradient in trial.gradients())
    if name not in ("graddrop", "excess_mtl"):  # their weights do not depend on the first gradients
        assert trial.strategy.last_weights.isnan().any()


def test_the_gradients_of_a_step_are_freed_after_it():
    class Watched(GradientBalancing):
        summary = "the sum"

        def aggregate(self, gradients, losses):
            self.seen = weakref.ref(gradients)
            return gradients.sum(dim=0), torch.ones_like(losses)

    trial = ToyTrial.build(factory(Watched), 3)
    losses, shared = trial.losses()
    features = weakref.ref(shared.features)
    trial.strategy.backward(losses, shared)
    del losses, shared
    gc.collect()
    assert features() is None  # the graph is gone as soon as it has been used
    trial.strategy.before_step()
    gc.collect()
    assert trial.strategy.seen() is None
    trial.strategy.before_step()  # nothing is left to add
    assert trial.strategy.last_weights.tolist() == [1.0, 1.0, 1.0]


def test_between_two_bargains_a_step_costs_one_backward_and_keeps_the_weights():
    trial = build("nash_mtl", update_every=3)
    trunk, seen = count_calls(trial.network.last), []
    for _ in range(7):
        before = len(trunk)
        trial.step()
        seen.append((len(trunk) - before, trial.strategy.last_weights.tolist()))
    assert [passes for passes, _ in seen] == [3, 1, 1, 3, 1, 1, 3]
    weights = [weights for _, weights in seen]
    assert weights[0] == weights[1] == weights[2] != weights[3] == weights[4] == weights[5] != weights[6]


def test_the_weights_of_the_last_bargain_survive_a_checkpoint():
    whole, first, second = (build("nash_mtl", update_every=4) for _ in range(3))
    expected = whole.train(6)
    first.train(2)
    file = io.BytesIO()
    torch.save(first.state(), file)
    second.load(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    found = second.train(4)
    assert [each.tolist() for each in found] == [each.tolist() for each in expected[2:]]


def test_rows_of_the_trunk_are_the_gradients_of_the_tasks():
    trial = build("mgda")
    losses, shared = trial.losses()
    rows = torch.stack([torch.autograd.grad(loss, shared.features, retain_graph=True)[0] for loss in losses])
    expected = [
        torch.cat([each.flatten() for each in torch.autograd.grad(loss, shared.parameters, retain_graph=True)])
        for loss in losses
    ]
    torch.testing.assert_close(trunk_gradients(shared.features, rows, shared.parameters), torch.stack(expected))


@pytest.mark.parametrize("factor", [0.7, 3.3])
def test_collinear_gradients_of_a_large_network_have_one_eigenvalue(factor):
    first = torch.randn(300_000, generator=torch.Generator().manual_seed(0))
    found = np.linalg.eigvalsh(gramian(torch.stack([first, factor * first])))
    assert abs(found[0]) < 1e-12 * found[1]


def test_an_unknown_place_is_refused():
    with pytest.raises(StrategyError, match=r"strategy 'mgda': unknown at 'feature' .*did you mean 'features'"):
        strategies.create("mgda", 2, at="feature")
