"""Small problems to try a strategy on: a network with made-up tasks, and tasks with given gradients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from strategies.base import Shared, Strategy, TaskFacts

Make = Callable[[int], Strategy]
Change = Callable[[Tensor], Tensor]

NUM_CLASSES = 3
NUM_INPUTS = 6
NUM_FEATURES = 8
NUM_EXAMPLES = 32


def _unchanged(losses: Tensor) -> Tensor:
    return losses


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
            list(self.heads.parameters()),
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

    def backward(self, change: Change = _unchanged, scale: float = 1.0) -> Tensor:
        """Run the strategy's backward on the losses after ``change``; return them without graph."""
        losses, shared = self.losses()
        changed = change(losses)
        self.strategy.backward(changed, shared, scale)
        return changed.detach()

    def step(self, change: Change = _unchanged) -> Tensor:
        """Take one step of training and return the losses ``(T,)`` before it."""
        self.optimizer.zero_grad()
        losses = self.backward(change)
        self.strategy.before_step()
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
        return [gradient_of(parameter) for parameter in self.network.parameters()]


@dataclass(frozen=True)
class LinearStep:
    """What a strategy makes of given gradients.

    Attributes:
        direction: the gradient ``(d,)`` that the shared parameters get.
        weights: ``last_weights``, ``(T,)``.
        heads: the gradient ``(T,)`` of one parameter per task by which its loss rises at rate 1.
    """

    direction: Tensor
    weights: Tensor
    heads: Tensor


def linear_steps(
    strategy: Strategy, gradients: Sequence[Tensor], losses: Sequence[Tensor], *, num_examples: int = 1
) -> list[LinearStep]:
    """Take a step for each set of gradients on losses that are linear in the shared parameters.

    The parameters stay where they are, so the losses are exactly those given; the strategy's own move by Adam. What
    the method sees after a step are the losses of the next one (after the last, its own again). Features and shared
    parameters are the same vector, so that a method does the same at both for one example.

    Args:
        strategy: a fresh one; it is set up here, with classification tasks.
        gradients: for each step the gradients ``(T, d)`` of the tasks.
        losses: for each step the losses ``(T,)``.
        num_examples: number N of examples that the gradients are a mean over.

    >>> from strategies.static import EqualWeighting
    >>> step = linear_steps(EqualWeighting(2), [torch.tensor([[2.0, 0.0], [0.0, 4.0]])], [torch.ones(2)])[0]
    >>> step.direction.tolist(), step.weights.tolist(), step.heads.tolist()
    ([1.0, 2.0], [0.5, 0.5], [0.5, 0.5])
    """
    strategy.setup([TaskFacts(f"task {index}") for index in range(strategy.num_tasks)], seed=0)
    own = list(strategy.parameters())
    optimizer = torch.optim.Adam(own, lr=strategy.learning_rate or 1e-2) if own else None
    found = []
    for number, (rows, values) in enumerate(zip(gradients, losses, strict=True)):
        trunk = nn.Parameter(torch.zeros(rows.shape[1]))
        heads = [nn.Parameter(torch.zeros(())) for _ in values]
        features = trunk.expand(num_examples, -1) * 1.0
        parts = [
            features.mean(dim=0) @ row + head + value for row, head, value in zip(rows, heads, values, strict=True)
        ]
        if optimizer is not None:
            optimizer.zero_grad()
        strategy.backward(torch.stack(parts), Shared([trunk], [trunk], features, heads))
        strategy.before_step()
        if optimizer is not None:
            optimizer.step()
        following = losses[min(number + 1, len(losses) - 1)]
        strategy.after_step(following.clone)
        direction, of_heads = gradient_of(trunk), torch.stack([gradient_of(head) for head in heads])
        found.append(LinearStep(direction, strategy.last_weights.clone(), of_heads))
    return found


def gradient_of(parameter: Tensor) -> Tensor:
    """Return the gradient of a parameter, zeros where there is none."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
