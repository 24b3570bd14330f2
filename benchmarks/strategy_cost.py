"""Time and memory of a training step under each strategy, as a ratio to the same step with a plain summed loss.

    OMP_NUM_THREADS=1 python benchmarks/strategy_cost.py [--preset paper --tasks 5 ...]

All steps are on the same network and batch and in turn: in every round each candidate takes one step, and so does the
plain sum, in an order that changes from round to round. A figure is the median over rounds of candidate / plain of that
round, with a 95 % interval of that median; the plain sum is also timed against itself, which shows the noise. Beside
each strategy: the same passes without any method (its bound), and TorchJD's own engine for the same method. With one
thread on a CPU the time is that of the process, which leaves out what other processes take.

Peak memory is that of parameters, Adam, what the method remembers and the most that a step has alive at a time, taken
in a pass of its own: on a GPU from PyTorch's allocator, on a CPU from the allocations that PyTorch's profiler sees.
"""

import argparse
import importlib.util
import json
import math
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from strategy_steps import (
    AGAIN,
    BARE,
    PEER_TARGET,
    PLAIN,
    TASKS,
    Bench,
    Candidate,
    make_batch,
    peers,
    references,
    size_of,
    torchjd_parameters,
    variants,
)

import strategies
from trainables import networks

WARM_UP = 3
COLUMNS = ("candidate", "ms/step", "ratio", "95 %", "target", "bound", "/ bound", "memory", "TorchJD ms", "/ TorchJD")
COLUMNS += ("TorchJD memory", "miss")


@dataclass
class Figure:
    """What was found of one candidate; ratios are medians over rounds.

    Attributes:
        milliseconds: median time of a step.
        ratio: over the plain sum, with ``interval``, 95 % for that median.
        megabytes: peak memory; ``memory`` is its ratio to the plain sum's.
        to_bound, to_peer: over the same passes without a method, and over TorchJD.
        misses: the targets that the whole interval is above.
        unclear: the targets that only the median is above.
    """

    name: str
    milliseconds: float
    ratio: float
    interval: tuple[float, float]
    megabytes: float
    memory: float
    target: float | None = None
    bound: str | None = None
    bound_target: float | None = None
    to_bound: float | None = None
    peer: str | None = None
    to_peer: float | None = None
    misses: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


def measure(candidates: Sequence[Candidate], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of every step, by name, after three rounds of warming up."""
    seconds: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    order = list(candidates)
    for number in range(rounds + WARM_UP):
        random.Random(number).shuffle(order)
        for candidate in order:
            taken = timed(candidate.step, device)
            if number >= WARM_UP:
                seconds[candidate.name].append(taken)
    return seconds


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a step takes."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    now = clock(device)
    start = now()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return now() - start


def clock(device: torch.device) -> Callable[[], float]:
    """Return the clock to time with: for one thread on a CPU its own time, which no other process adds to."""
    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def peak_of_step(bench: Bench, step: Callable[[], object]) -> int:
    """Return the most bytes that a step has alive at a time, beyond what was there before it; gradients included."""
    bench.optimizer.zero_grad(set_to_none=True)
    if bench.device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    return peak([size for _, size in changes])


def peak(changes: Sequence[int]) -> int:
    """Return the largest running sum.

    >>> peak([3, 4, -3, 2])
    7
    """
    largest = total = 0
    for change in changes:
        total += change
        largest = max(largest, total)
    return largest


def peaks(bench: Bench, candidates: Sequence[Candidate]) -> dict[str, int]:
    """Return the peak memory of every candidate: parameters, Adam, what it remembers, and the step's own."""
    fixed = size_of(bench.network.state_dict()) + sum(map(size_of, bench.optimizer.state.values()))
    return {each.name: fixed + peak_of_step(bench, each.step) + each.own_bytes() for each in candidates}


def median_of_ratios(own: Sequence[float], base: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the median over rounds of own / base and its 95 % interval (order statistics).

    >>> median_of_ratios([2.0, 3.0, 4.0], [1.0, 1.0, 1.0])
    (3.0, (2.0, 4.0))
    """
    ratios = sorted(mine / its for mine, its in zip(own, base, strict=True))
    half = 0.98 * math.sqrt(len(ratios))
    low, high = math.floor(len(ratios) / 2 - half), math.ceil(len(ratios) / 2 + half)
    return statistics.median(ratios), (ratios[max(low, 0)], ratios[min(high, len(ratios) - 1)])


def figures(
    candidates: Sequence[Candidate], seconds: dict[str, list[float]], memory: dict[str, int]
) -> dict[str, Figure]:
    """Return what was found of each candidate, by name."""
    return {candidate.name: _figure(candidate, seconds, memory) for candidate in candidates}


def _figure(candidate: Candidate, seconds: dict[str, list[float]], memory: dict[str, int]) -> Figure:
    own, name = seconds[candidate.name], candidate.name
    ratio, interval = median_of_ratios(own, seconds[PLAIN])
    found = Figure(
        name,
        statistics.median(own) * 1e3,
        ratio,
        interval,
        memory[name] / 1e6,
        memory[name] / memory[PLAIN],
        candidate.target,
        candidate.bound,
        candidate.bound_target,
        peer=candidate.peer if candidate.peer in seconds else None,
    )
    held = [("ratio", candidate.target, ratio, interval)] if candidate.target else []
    if found.bound:
        found.to_bound, within = median_of_ratios(own, seconds[found.bound])
        held += [("bound", found.bound_target, found.to_bound, within)] if found.bound_target else []
    if found.peer:
        found.to_peer, within = median_of_ratios(own, seconds[found.peer])
        held.append(("TorchJD", PEER_TARGET, found.to_peer, within))
    found.misses = [label for label, target, _, (low, _) in held if low > target]
    found.unclear = [label for label, target, value, (low, _) in held if low <= target < value]
    return found


def table(found: dict[str, Figure], markdown: bool) -> str:
    """Return the table, with TorchJD's steps beside those of the strategies."""
    beside = {figure.peer for figure in found.values()}
    rows = [_row(figure, found) for name, figure in found.items() if name not in beside]
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in [COLUMNS, *rows]]
        return "\n".join([lines[0], "|" + "---|" + "---:|" * (len(COLUMNS) - 2) + "---|", *lines[1:]])
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [COLUMNS, *rows]
    )


def _row(figure: Figure, found: dict[str, Figure]) -> list[str]:
    target = f"{figure.target:.2f}" if figure.target else ""
    if figure.bound_target:
        target = f"{figure.bound_target:.2f} x bound"
    peer = found[figure.peer] if figure.peer else None
    return [
        figure.name,
        f"{figure.milliseconds:.1f}",
        f"{figure.ratio:.3f}",
        f"{figure.interval[0]:.3f}-{figure.interval[1]:.3f}",
        target,
        f"{found[figure.bound].ratio:.3f}" if figure.bound else "",
        f"{figure.to_bound:.3f}" if figure.to_bound else "",
        f"{figure.memory:.2f}",
        f"{peer.milliseconds:.1f}" if peer else "",
        f"{figure.to_peer:.3f}" if figure.to_peer else "",
        f"{peer.memory:.2f}" if peer else "",
        _verdict(figure),
    ]


def _verdict(figure: Figure) -> str:
    parts = [f"**{', '.join(figure.misses)}**"] if figure.misses else []
    return ", ".join([*parts, *(f"({label})" for label in figure.unclear)])


def torchjd_chunk(bench: Bench) -> int | None:
    """Return the faster of TorchJD's ways through the trunk: one task after the other (1), or all at once (None).

    All at once is ``torch.vmap``, which neither recurrent layers on a GPU nor functions that write in place allow.
    """
    from torchjd.aggregation import Sum

    def seconds(chunk: int | None) -> float:
        def step() -> None:
            bench.take(lambda: torchjd_parameters(bench, Sum(), chunk), bench.optimizer)

        return min(timed(step, bench.device) for _ in range(WARM_UP))

    one_by_one = seconds(1)
    try:
        return 1 if one_by_one < seconds(None) else None
    except RuntimeError:
        return 1


def collect(bench: Bench, names: Sequence[str]) -> tuple[list[Candidate], list[str]]:
    """Return all candidates, and a line for everything that is not among them."""
    found, notes = variants(bench, names)
    wanted = {PLAIN, AGAIN, BARE, *(candidate.bound for candidate in found)}
    candidates = [each for each in references(bench) if each.name in wanted]
    if importlib.util.find_spec("torchjd") is None:
        return candidates + found, [*notes, "TorchJD is not installed: its columns are empty"]
    chunk = torchjd_chunk(bench)
    notes.append(f"TorchJD sends the tasks through the trunk {'one by one' if chunk else 'all at once'}")
    theirs, more = peers(bench, found, chunk)
    return candidates + found + theirs, notes + more


def make_bench(arguments: argparse.Namespace) -> Bench:
    """Return network and batch as asked for."""
    tasks, modalities = TASKS[: arguments.tasks], arguments.modalities.split(",")
    size = networks.input_settings("chae", arguments.preset).frame_size
    batch = make_batch(tasks, arguments.batch, arguments.seconds, modalities, size)
    return Bench(
        tasks, batch.to(torch.device(arguments.device)), arguments.preset, modalities, precision=arguments.precision
    )


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("small", "paper"), default="small")
    parser.add_argument("--tasks", type=int, choices=range(1, len(TASKS) + 1), default=2)
    parser.add_argument("--modalities", choices=("audio", "video", "audio,video"), default="audio")
    parser.add_argument("--batch", type=int, default=16, help="utterances; two or more where a task is a regression")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of an utterance")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--strategies", help="names, with commas between them; all by default")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--markdown", action="store_true", help="print a table for a page")
    return parser.parse_args(argv)


def main() -> None:
    """Measure and print."""
    arguments = parse()
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler otherwise reports every start and stop
    names = arguments.strategies.split(",") if arguments.strategies else strategies.names()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on vmap, cvxpy on solvers: said once, by TorchJD's ways only
        bench = make_bench(arguments)
        candidates, notes = collect(bench, names)
        seconds = measure(candidates, arguments.rounds, bench.device)
        memory = peaks(bench, candidates)
    found = figures(candidates, seconds, memory)
    setup = f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {arguments.rounds} rounds"
    print("\n".join([table(found, arguments.markdown), "", setup, *notes]))
    if arguments.json:
        content: dict[str, object] = {"options": {name: str(value) for name, value in vars(arguments).items()}}
        content |= {"setup": setup, "notes": notes, "figures": [asdict(figure) for figure in found.values()]}
        arguments.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
