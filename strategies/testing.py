"""What every strategy must keep to, as checks that the author of a plug-in runs too.

A check is a plain function that takes ``make``, which builds a fresh strategy for a number of tasks, and raises
``AssertionError`` where the contract is broken. With pytest, for a strategy registered as ``"mine"``::

    import pytest
    import strategies
    from strategies.testing import CHECKS, factory

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_strategy_keeps_the_contract(check):
        check(factory(strategies.load("mine")))

An option without a default gets its value from ``Strategy.example_options``. The checks train a small network on
made-up tasks (``ToyTrial``), classification and regression in turn, with the strategy as a group of its own in Adam.
"""

import copy
import io
import itertools
import json
import pickle
import typing
import unittest
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from strategies.base import Claim, StrategyKind
from strategies.errors import StrategyError
from strategies.options import Choices, Range, option_names
from strategies.toys import (
    NUM_CLASSES,
    Change,
    LinearStep,
    Make,
    ToyNetwork,
    ToyTrial,
    factory,
    gradient_of,
    linear_steps,
    toy_tasks,
)

__all__ = [
    "CHECKS",
    "NUM_CLASSES",
    "NUM_TASKS",
    "LinearStep",
    "Make",
    "NotApplicable",
    "ToyNetwork",
    "ToyTrial",
    "factory",
    "linear_steps",
    "toy_tasks",
]

NUM_TASKS = (1, 2, 3, 7)


class NotApplicable(unittest.SkipTest):
    """A check that does not apply to a strategy, with the reason; pytest reports such a test as skipped."""


def check_describes_itself(make: Make) -> None:
    """A strategy has a summary of one line, for listings."""
    summary = type(make(2)).summary
    _require(bool(summary.strip()) and "\n" not in summary, f"summary must be one line, is {summary!r}")


def check_declares_what_it_is(make: Make) -> None:
    """The class variables say what the method is, in values that listings and searches can use."""
    kind = type(make(2))
    allowed = typing.get_args(StrategyKind)
    _require(kind.kind in allowed, f"kind is {kind.kind!r}, but must be one of {', '.join(allowed)}")
    for name in ("passes", "weight_scale"):
        value = getattr(kind, name)
        _require(isinstance(value, str) and bool(value.strip()), f"{name} must be one line, is {value!r}")
    _require(kind.year is None or isinstance(kind.year, int), f"year is {kind.year!r}, but must be a number or None")
    for option, values in kind.tunable.items():
        _require(option in option_names(kind), f"tunable has {option!r}, which is no option")
        _require(isinstance(values, Range | Choices), f"tunable {option!r} must be a Range or Choices, is {values!r}")
    for other, when in kind.coincides.items():
        _require(when.startswith(("any T", "T=2")), f"coincides: {other!r} must start with 'any T' or 'T=2': {when!r}")
    unknown = set(kind.claims) - set(typing.get_args(Claim))
    _require(not unknown, f"claims has {sorted(unknown)}, but knows {', '.join(typing.get_args(Claim))} only")


def check_options_rebuild_it(make: Make) -> None:
    """``describe_options`` gives plain values, from which the same strategy can be built again."""
    strategy = make(3)
    options = json.loads(json.dumps(strategy.describe_options()))
    again = type(strategy)(3, **options)
    _require(again.describe_options() == strategy.describe_options(), f"options {options} do not rebuild the strategy")
    _same(again.state_dict(), strategy.state_dict(), "state rebuilt from the options")


def check_refuses_losses_of_another_shape(make: Make) -> None:
    """Losses that are not ``(T,)`` are refused with a ``StrategyError``, in ``forward`` and in ``backward``."""
    for shape in [(2,), (4,), (3, 1), ()]:
        losses = torch.ones(shape, requires_grad=True)
        trial = ToyTrial.build(make, 3)
        for call in (trial.strategy, partial(trial.strategy.backward, shared=trial.losses()[1])):
            try:
                call(losses)
            except StrategyError:
                continue
            raise AssertionError(f"losses of shape {shape} were accepted for 3 tasks")


def check_works_for_any_number_of_tasks(make: Make) -> None:
    """One task or seven: weights ``(T,)`` and gradients are finite."""
    for num_tasks in NUM_TASKS:
        trial = ToyTrial.build(make, num_tasks)
        for weights in trial.train(4):
            _require(weights.shape == (num_tasks,), f"weights of {num_tasks} tasks have shape {tuple(weights.shape)}")
            _require(not weights.requires_grad, "last_weights must be without graph")
            _require_finite(trial, f"{num_tasks} tasks")


def check_learns_a_toy_problem(make: Make) -> None:
    """Training lowers the plain sum of the losses, over the tasks that were given weight at every step."""
    for num_tasks in (2, 3):
        trial = ToyTrial.build(make, num_tasks)
        before = trial.losses()[0].detach()
        weighted = torch.stack(trial.train(100)).min(dim=0).values > 0
        after = trial.losses()[0].detach()
        _require(bool(weighted.any()), "no task was given weight at every step")
        _require(
            bool(after[weighted].sum() < 0.9 * before[weighted].sum()),
            f"100 steps took the losses {before.tolist()} to {after.tolist()} only",
        )


def check_gradient_is_that_of_the_logged_weights(make: Make) -> None:
    """The gradient is that of ``sum_i w_i L_i``, w = ``last_weights``, by finite differences: what is logged is used.

    This also means that nothing of a second objective, such as how the weights are learned, leaks into the network,
    and that task heads are treated alike: each is trained at its task's weight, or not at all if that is negative. For
    a method that says of itself that it does not ``weigh the trunk`` only the heads are compared.
    """
    trial = ToyTrial.build(make, 3)
    for _ in range(3):
        trial.step()
        trial.optimizer.zero_grad()
        trial.backward()
        trial.strategy.before_step()
        weights = trial.strategy.last_weights.double()
        heads = {id(parameter) for parameter in trial.network.heads.parameters()}
        is_head = [id(parameter) in heads for parameter in trial.network.parameters()]
        _require_slope(trial, weights.clamp(min=0), is_head, "heads")
        if trial.strategy.weighs_trunk:
            _require_slope(trial, weights, [not each for each in is_head], "trunk")


def _require_slope(trial: ToyTrial, weights: Tensor, moved: list[bool], what: str) -> None:
    """Require that ``sum_i w_i L_i`` changes along two directions as the gradient of the parameters ``moved`` says.

    Along the gradient itself it must rise at the rate of its length; along a random direction, of their inner product.
    """
    gradients = [gradient.double() * chosen for gradient, chosen in zip(trial.gradients(), moved, strict=True)]
    generator = torch.Generator().manual_seed(0)
    noise = [
        torch.randn(each.shape, generator=generator).double() * on for each, on in zip(gradients, moved, strict=True)
    ]
    for direction in (gradients, noise):
        length = max(float(nn.utils.get_total_norm(direction)), 1e-12)
        unit = [each / length for each in direction]
        expected = float(torch.stack([(one * other).sum() for one, other in zip(gradients, unit, strict=True)]).sum())
        above, below = (weights @ _moved_losses(trial, unit, sign * 1e-4) for sign in (1, -1))
        found, scale = float(above - below) / 2e-4, float(weights.abs().sum())
        _require(
            abs(found - expected) <= 1e-3 * abs(expected) + 1e-5 * scale,
            f"{what}: the loss at the logged weights rises at the rate {found:.6g}, the gradient says {expected:.6g}",
        )


def _moved_losses(trial: ToyTrial, direction: list[Tensor], distance: float) -> Tensor:
    """Return the losses ``(T,)`` in double precision with the network's parameters moved."""
    network = copy.deepcopy(trial.network).double()
    with torch.no_grad():
        for parameter, step in zip(network.parameters(), direction, strict=True):
            parameter.add_(step, alpha=distance)
        moved = ToyTrial(network, trial.strategy, trial.optimizer, trial.inputs.double(), trial.targets.double())
        return moved.losses()[0]


def check_logged_weights_stay_as_they_were(make: Make) -> None:
    """``last_weights`` is a record of its own: neither the optimizer nor loading a checkpoint writes through it."""
    trial = ToyTrial.build(make, 3)
    trial.backward()
    trial.strategy.before_step()
    weights = trial.strategy.last_weights
    before = weights.clone()
    trial.optimizer.step()
    trial.strategy.after_step(lambda: trial.losses()[0].detach())
    _require(torch.equal(weights, before), "last_weights changed with the optimizer's step: clone it")


def check_adds_to_gradients(make: Make) -> None:
    """``backward`` adds to ``.grad``: the halves of a step, at scale 1/2 each, make the whole step."""
    whole, halves = ToyTrial.build(make, 3), ToyTrial.build(make, 3)
    for trial in (whole, halves):
        trial.train(2)
        trial.optimizer.zero_grad()
    whole.backward()
    halves.backward(scale=0.5)
    halves.backward(scale=0.5)
    for trial in (whole, halves):
        trial.strategy.before_step()
    parts = [(whole.network, halves.network), (whole.strategy, halves.strategy)]
    pairs = [pair for one, other in parts for pair in zip(one.parameters(), other.parameters(), strict=True)]
    for expected, found in pairs:
        torch.testing.assert_close(gradient_of(found), gradient_of(expected), rtol=1e-4, atol=1e-6)


def check_resumes_exactly(make: Make) -> None:
    """Six steps equal four, a checkpoint through a file, and two more in new objects: bit for bit."""
    whole, first, second = (ToyTrial.build(make, 3) for _ in range(3))
    whole.train(6)
    first.train(4)
    file = io.BytesIO()
    torch.save(first.state(), file)
    second.load(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    second.train(2)
    _same(second.state(), whole.state(), "resumed training")


def check_pickles(make: Make) -> None:
    """A strategy survives pickling between two steps and goes on as if nothing had happened."""
    whole, pickled = ToyTrial.build(make, 3), ToyTrial.build(make, 3)
    for trial in (whole, pickled):
        trial.train(2)
    restored = pickle.loads(pickle.dumps(pickled.strategy))
    _same(restored.state_dict(), pickled.strategy.state_dict(), "pickled strategy")
    pickled.strategy = restored
    for trial in (whole, pickled):
        trial.optimizer.zero_grad()
        trial.backward()
        trial.strategy.before_step()
    _same(restored.last_weights, whole.strategy.last_weights, "weights after pickling")
    _same(pickled.gradients(), whole.gradients(), "gradients after pickling")


def check_is_deterministic(make: Make) -> None:
    """Two trainings are equal bit for bit, and the global generator is neither used nor moved."""
    states = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            trial = ToyTrial.build(make, 3)
            trial.train(4)
            _require(torch.equal(torch.get_rng_state(), before), "the global generator moved: use one of your own")
            states.append(trial.state())
    _same(states[1], states[0], "second training")


def check_survives_degenerate_losses(make: Make) -> None:
    """Losses that are zero, equal, tiny, huge, opposite or without gradient: finite numbers, or a refusal.

    A ``StrategyError`` is a refusal; any other exception, and any number that is not finite, is a fault.
    """
    changes: dict[str, Change] = {
        "all losses zero": lambda losses: losses * 0,
        "the first loss zero": lambda losses: losses * (torch.arange(len(losses)) > 0),
        "equal losses": lambda losses: losses.mean().expand(len(losses)),
        "tiny losses": lambda losses: losses * 1e-12,
        "huge losses": lambda losses: losses * 1e6,
        "zero gradients": lambda losses: losses * 0 + losses.detach(),
        "opposite gradients": lambda losses: torch.stack([10 + (-1) ** i * losses[0] for i in range(len(losses))]),
        "the same gradient twice": lambda losses: torch.stack([losses[0] * (1 + i) for i in range(len(losses))]),
    }
    for (case, change), num_tasks in itertools.product(changes.items(), (1, 2, 3)):
        trial = ToyTrial.build(make, num_tasks)
        for _ in range(4):
            try:
                trial.step(change)
            except StrategyError:
                break
            _require_finite(trial, case)


def check_is_scale_invariant(make: Make, seeds: Iterable[int] = range(5)) -> None:
    """Claimed as ``scale``: multiplying one loss by a positive number does not turn the step of the trunk."""
    _require_claim(make, "scale")
    for seed in seeds:
        gradients, losses, generator = _random_steps(seed)
        factors = 10 ** (4 * torch.rand(3, generator=generator) - 2)
        plain = linear_steps(make(3), gradients, losses)
        scaled = linear_steps(
            make(3), [factors[:, None] * rows for rows in gradients], [factors * each for each in losses]
        )
        for one, other in zip(plain, scaled, strict=True):
            _require_same_direction(other.direction, one.direction, f"losses times {factors.tolist()}")


def check_does_not_depend_on_the_order_of_tasks(make: Make, seeds: Iterable[int] = range(5)) -> None:
    """Claimed as ``permutation``: with the tasks in another order the weights are in that order, the step the same."""
    _require_claim(make, "permutation")
    for seed in seeds:
        gradients, losses, generator = _random_steps(seed)
        order = torch.randperm(3, generator=generator)
        other_gradients, other_losses = [rows[order] for rows in gradients], [each[order] for each in losses]
        # Two examples: a method may take its samples from the halves of a batch.
        plain = linear_steps(make(3), gradients, losses, num_examples=2)
        permuted = linear_steps(make(3), other_gradients, other_losses, num_examples=2)
        for one, other in zip(plain, permuted, strict=True):
            torch.testing.assert_close(other.direction, one.direction, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(other.weights, one.weights[order], rtol=1e-3, atol=1e-5)


def check_opposes_no_task(make: Make, seeds: Iterable[int] = range(5)) -> None:
    """Claimed as ``non-conflict``: no loss rises along the step, to first order; T = 2, 3 and 7."""
    _require_claim(make, "non-conflict")
    for seed, num_tasks in itertools.product(seeds, (2, 3, 7)):
        gradients, losses, _ = _random_steps(seed, num_tasks)
        for rows, step in zip(gradients, linear_steps(make(num_tasks), gradients, losses), strict=True):
            gains = rows @ step.direction / (rows.norm(dim=1) * step.direction.norm()).clamp(min=1e-12)
            _require(bool((gains > -1e-3).all()), f"{num_tasks} tasks: cosines of step and gradients {gains.tolist()}")


def _require_claim(make: Make, claim: Claim) -> None:
    if claim not in type(make(2)).claims:
        raise NotApplicable(f"'{claim}' is not among the invariances it claims")


def _random_steps(seed: int, num_tasks: int = 3) -> tuple[list[Tensor], list[Tensor], torch.Generator]:
    """Return gradients ``(T, 8)`` and losses ``(T,)`` of four steps, and the generator they come from."""
    generator = torch.Generator().manual_seed(seed)
    gradients = [torch.randn(num_tasks, 8, generator=generator) for _ in range(4)]
    return gradients, [0.5 + torch.rand(num_tasks, generator=generator) for _ in range(4)], generator


def _require_same_direction(found: Tensor, expected: Tensor, case: str) -> None:
    cosine = float(torch.cosine_similarity(found.double(), expected.double(), dim=0))
    _require(cosine > 1 - 1e-4, f"{case}: the step has turned, its cosine with the one before is {cosine:.6f}")


CHECKS: tuple[Callable[[Make], None], ...] = (
    check_describes_itself,
    check_declares_what_it_is,
    check_options_rebuild_it,
    check_refuses_losses_of_another_shape,
    check_works_for_any_number_of_tasks,
    check_learns_a_toy_problem,
    check_gradient_is_that_of_the_logged_weights,
    check_logged_weights_stay_as_they_were,
    check_adds_to_gradients,
    check_resumes_exactly,
    check_pickles,
    check_is_deterministic,
    check_survives_degenerate_losses,
    check_is_scale_invariant,
    check_does_not_depend_on_the_order_of_tasks,
    check_opposes_no_task,
)
"""Every check; a strategy that passes them all works in a study."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _require_finite(trial: ToyTrial, case: str) -> None:
    named: dict[str, list[Tensor]] = {
        "last_weights": [trial.strategy.last_weights],
        "the gradient of the network": trial.gradients(),
        "the strategy's parameters": list(trial.strategy.parameters()),
        "the gradient of the strategy's parameters": [gradient_of(each) for each in trial.strategy.parameters()],
    }
    for name, tensors in named.items():
        _require(all(bool(tensor.isfinite().all()) for tensor in tensors), f"{case}: {name} has no finite value")


def _same(found: Any, expected: Any, what: str) -> None:  # noqa: ANN401  (a tree of tensors and plain values)
    """Require two trees to be equal bit for bit; NaN equals NaN."""
    if isinstance(expected, Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True, msg=f"{what} differs")
    elif isinstance(expected, dict):
        _require(found.keys() == expected.keys(), f"{what}: keys {list(found)} and not {list(expected)}")
        for key, value in expected.items():
            _same(found[key], value, f"{what}: {key}")
    elif isinstance(expected, list | tuple):
        _require(len(found) == len(expected), f"{what}: {len(found)} entries and not {len(expected)}")
        for index, value in enumerate(expected):
            _same(found[index], value, f"{what}: {index}")
    else:
        _require(found == expected, f"{what}: {found!r} and not {expected!r}")
