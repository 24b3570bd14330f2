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

import io
import itertools
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from strategies.base import Shared, Strategy, TaskFacts
from strategies.errors import StrategyError

Make = Callable[[int], Strategy]
Change = Callable[[Tensor], Tensor]

NUM_TASKS = (1, 2, 3, 7)
NUM_CLASSES = 3
NUM_INPUTS = 6
NUM_FEATURES = 8
NUM_EXAMPLES = 32


def factory(strategy: type[Strategy], **options: Any) -> Make:  # noqa: ANN401  (options are the strategy's own)
    """Return ``make`` for a class: its example options, and ``options`` above them."""
    return lambda num_tasks: strategy(num_tasks, **{**strategy.example_options(num_tasks), **options})


def toy_tasks(num_tasks: int) -> list[TaskFacts]:
    """Return the facts of the toy tasks: classification and regression in turn."""
    kinds = [
        TaskFacts("classes", "classification", float(torch.tensor(NUM_CLASSES).log())),
        TaskFacts("values", "regression", 1.0),
    ]
    return [kinds[index % 2] for index in range(num_tasks)]


class ToyNetwork(nn.Module):
    """A trunk of two layers that all tasks share, and one linear head per task.

    Args:
        num_tasks: number of tasks T.
        seed: of the weights; the global generator is left alone.
    """

    def __init__(self, num_tasks: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = nn.Linear(NUM_INPUTS, NUM_FEATURES)
            self.last = nn.Linear(NUM_FEATURES, NUM_FEATURES)
            self.heads = nn.ModuleList(nn.Linear(NUM_FEATURES, NUM_CLASSES) for _ in range(num_tasks))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features that every head reads, ``(N, 6) -> (N, 8)``."""
        return torch.tanh(self.last(torch.tanh(self.first(inputs))))

    def shared(self, features: Tensor) -> Shared:
        """Return the shared part of the network."""
        return Shared(
            [*self.first.parameters(), *self.last.parameters()],
            list(self.last.parameters()),
            features,
        )


@dataclass
class ToyTrial:
    """A network, its data, a strategy and the Adam optimizer of both.

    Attributes:
        inputs: ``(N, 6)``.
        targets: ``(T, N, 3)``: what a fixed random linear map makes of the inputs; a class is its largest entry.
    """

    network: ToyNetwork
    strategy: Strategy
    optimizer: torch.optim.Optimizer
    inputs: Tensor
    targets: Tensor

    @classmethod
    def build(cls, make: Make, num_tasks: int) -> "ToyTrial":
        """Return a fresh trial; every call gives the same one."""
        generator = torch.Generator().manual_seed(1)
        inputs = torch.randn(NUM_EXAMPLES, NUM_INPUTS, generator=generator)
        maps = torch.randn(num_tasks, NUM_INPUTS, NUM_CLASSES, generator=generator) / NUM_INPUTS**0.5
        network, strategy = ToyNetwork(num_tasks), make(num_tasks)
        strategy.setup(toy_tasks(num_tasks), seed=0)
        groups: list[dict[str, Any]] = [{"params": list(network.parameters())}]
        if own := list(strategy.parameters()):
            groups.append({"params": own, "lr": strategy.learning_rate or 1e-2})
        return cls(network, strategy, torch.optim.Adam(groups, lr=1e-2), inputs, inputs @ maps)

    def losses(self) -> tuple[Tensor, Shared]:
        """Return the losses ``(T,)`` of the whole data and the shared part of the network, both with graph."""
        features = self.network(self.inputs)
        losses = [
            functional.cross_entropy(head(features), target.argmax(dim=1))
            if index % 2 == 0
            else functional.mse_loss(head(features), target)
            for index, (head, target) in enumerate(zip(self.network.heads, self.targets, strict=True))
        ]
        return torch.stack(losses), self.network.shared(features)

    def backward(self, change: Change = torch.clone, scale: float = 1.0) -> Tensor:
        """Run the strategy's backward on the losses after ``change``; return them without graph."""
        losses, shared = self.losses()
        changed = change(losses)
        self.strategy.backward(changed, shared, scale)
        return changed.detach()

    def step(self, change: Change = torch.clone) -> Tensor:
        """Take one step of training and return the losses ``(T,)`` before it."""
        self.optimizer.zero_grad()
        losses = self.backward(change)
        self.optimizer.step()
        self.strategy.after_step(lambda: change(self.losses()[0]).detach())
        return losses

    def train(self, steps: int) -> list[Tensor]:
        """Take ``steps`` steps, two to an epoch; return the weights of each."""
        weights = []
        for number in range(steps):
            losses = self.step()
            weights.append(self.strategy.last_weights)
            if number % 2:
                self.strategy.after_epoch(losses)
        return weights

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint holds."""
        return {
            "network": self.network.state_dict(),
            "strategy": self.strategy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.strategy.load_state_dict(state["strategy"])
        self.optimizer.load_state_dict(state["optimizer"])

    def gradients(self) -> list[Tensor]:
        """Return the gradient of every parameter of the network, zeros where there is none."""
        return [_gradient(parameter) for parameter in self.network.parameters()]


def check_describes_itself(make: Make) -> None:
    """A strategy has a summary of one line, for listings."""
    summary = type(make(2)).summary
    _require(bool(summary.strip()) and "\n" not in summary, f"summary must be one line, is {summary!r}")


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
    """The gradient of trunk and heads is ``sum_i w_i grad L_i`` with w = ``last_weights``: what is logged is used.

    This also means that nothing of a second objective, such as how the weights are learned, leaks into the network,
    and that task heads are treated as every other part of it.
    """
    trial = ToyTrial.build(make, 3)
    for _ in range(3):
        trial.step()
        trial.optimizer.zero_grad()
        losses, shared = trial.losses()
        parameters = list(trial.network.parameters())
        each = [torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True) for loss in losses]
        trial.strategy.backward(losses, shared)
        weights = trial.strategy.last_weights
        for index, found in enumerate(trial.gradients()):
            expected = torch.stack([weights[task] * each[task][index] for task in range(3)]).sum(dim=0)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def check_logged_weights_stay_as_they_were(make: Make) -> None:
    """``last_weights`` is a record of its own: neither the optimizer nor loading a checkpoint writes through it."""
    trial = ToyTrial.build(make, 3)
    trial.backward()
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
    parts = [(whole.network, halves.network), (whole.strategy, halves.strategy)]
    pairs = [pair for one, other in parts for pair in zip(one.parameters(), other.parameters(), strict=True)]
    for expected, found in pairs:
        torch.testing.assert_close(_gradient(found), _gradient(expected), rtol=1e-4, atol=1e-6)


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
    copy = pickle.loads(pickle.dumps(pickled.strategy))
    _same(copy.state_dict(), pickled.strategy.state_dict(), "pickled strategy")
    pickled.strategy = copy
    for trial in (whole, pickled):
        trial.optimizer.zero_grad()
        trial.backward()
    _same(copy.last_weights, whole.strategy.last_weights, "weights after pickling")
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
    """Losses that are zero, equal, tiny, huge or without gradient leave weights and gradients finite."""
    changes: dict[str, Change] = {
        "all losses zero": lambda losses: losses * 0,
        "the first loss zero": lambda losses: losses * (torch.arange(len(losses)) > 0),
        "equal losses": lambda losses: losses.mean().expand(len(losses)),
        "tiny losses": lambda losses: losses * 1e-12,
        "huge losses": lambda losses: losses * 1e6,
        "zero gradients": lambda losses: losses * 0 + losses.detach(),
    }
    for (case, change), num_tasks in itertools.product(changes.items(), (1, 3)):
        trial = ToyTrial.build(make, num_tasks)
        for _ in range(4):
            trial.step(change)
            _require_finite(trial, case)


CHECKS: tuple[Callable[[Make], None], ...] = (
    check_describes_itself,
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
)
"""Every check; a strategy that passes them all works in a study."""


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _require_finite(trial: ToyTrial, case: str) -> None:
    named: dict[str, list[Tensor]] = {
        "last_weights": [trial.strategy.last_weights],
        "the gradient of the network": trial.gradients(),
        "the strategy's parameters": list(trial.strategy.parameters()),
        "the gradient of the strategy's parameters": [_gradient(each) for each in trial.strategy.parameters()],
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
