"""Time of a training step under each strategy, as a ratio to the same step with a plain summed loss.

    OMP_NUM_THREADS=1 python benchmarks/strategy_cost.py

A step is forward pass, backward pass and Adam on the ``small`` audio network and two tasks. All steps run on the same
batch and in turn: in every round each strategy takes one step, and so does the plain sum, in an order that changes from
round to round. The figure is the median over rounds of strategy / plain of that round; the plain sum is also timed
against itself, which shows the noise.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

import strategies
from strategies import Shared, Strategy
from trainables import networks
from trainables.batch import SAMPLES_PER_FRAME, Batch
from trainables.tasks import Task, task_loss

TASKS = (Task("emotion", ("angry", "happy", "neutral", "sad")), Task("gender", ("female", "male")))
TARGETS = {"gradnorm": 1.25}
LOSS_ONLY_TARGET = 1.03


class PlainSum:
    """What everybody writes without strategies: ``sum(losses).backward()``."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return nothing: a sum has no parameters."""
        return ()

    def backward(self, losses: list[Tensor]) -> None:
        """Backward of the sum."""
        sum(losses[1:], start=losses[0]).backward()  # type: ignore[no-untyped-call]


def make_batch(num_utterances: int, seconds: float) -> Batch:
    """Return utterances of noise with random labels."""
    generator = torch.Generator().manual_seed(0)
    num_frames = math.ceil(25 * seconds)
    labels = {task.name: torch.randint(task.num_outputs, (num_utterances,), generator=generator) for task in TASKS}
    audio = torch.randn(num_utterances, num_frames * SAMPLES_PER_FRAME, generator=generator) / 10
    return Batch(torch.full((num_utterances,), num_frames), labels, audio=audio)


def make_step(strategy: Strategy | PlainSum, batch: Batch) -> Callable[[], None]:
    """Return a function that takes one training step of a fresh network, the same for every strategy."""
    torch.manual_seed(0)
    network = networks.create("chae", preset="small", modalities=("audio",), tasks=TASKS)
    groups: list[dict[str, object]] = [{"params": list(network.parameters())}]
    if own := list(strategy.parameters()):
        groups.append({"params": own, "weight_decay": 0.0})
    optimizer = torch.optim.Adam(groups, lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        features = network.features(batch)
        outputs = network.predict(features)
        losses = [task_loss(task, outputs[task.name], batch.labels[task.name], None) for task in TASKS]
        if isinstance(strategy, PlainSum):
            strategy.backward(losses)
            optimizer.step()
            return
        shared = Shared(network.shared_parameters(), network.last_shared_layer(), features)
        strategy.backward(torch.stack(losses), shared)
        optimizer.step()
        strategy.after_step(lambda: torch.zeros(len(TASKS)))

    return step


def make_steps(batch: Batch) -> dict[str, Callable[[], None]]:
    """Return the step of every strategy there is, by name, and that of the plain sum twice."""
    steps = {"plain sum": make_step(PlainSum(), batch), "plain sum again": make_step(PlainSum(), batch)}
    for name in strategies.names():
        strategy = strategies.create(name, len(TASKS), **strategies.load(name).example_options(len(TASKS)))
        strategy.setup([task.facts for task in TASKS], seed=0)
        steps[name] = make_step(strategy, batch)
    return steps


def measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every step, by name, after three rounds of warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    for number in range(rounds + 3):
        random.Random(number).shuffle(order)
        for name in order:
            start = time.perf_counter()
            steps[name]()
            if number >= 3:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def report(seconds: dict[str, list[float]]) -> str:
    """Return the table."""
    lines = [f"{'strategy':<16} {'ms/step':>8} {'ratio':>7} {'fastest':>8} {'target':>7}"]
    plain = seconds["plain sum"]
    for name, own in seconds.items():
        ratio = statistics.median(mine / base for mine, base in zip(own, plain, strict=True))
        target = "" if name.startswith("plain") else f"{TARGETS.get(name, LOSS_ONLY_TARGET):.2f}"
        line = (
            f"{name:<16} {statistics.median(own) * 1e3:>8.2f} {ratio:>7.3f} {min(own) / min(plain):>8.3f} {target:>7}"
        )
        lines.append(line.rstrip())
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16, help="utterances")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of an utterance")
    arguments = parser.parse_args()
    print(report(measure(make_steps(make_batch(arguments.batch, arguments.seconds)), arguments.rounds)))


if __name__ == "__main__":
    main()
