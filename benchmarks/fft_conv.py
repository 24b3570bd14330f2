"""FFTConv1d against nn.Conv1d at the size of the published network: forward + backward, time and peak memory.

Run ``python benchmarks/fft_conv.py``; about four minutes on two cores, nearly all of them in ``nn.Conv1d``. Every
measurement runs in a process of its own, so that its peak memory is its own. On a shared machine the best time of
several repetitions counts; the direct convolution is measured once.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch
from torch import nn

from trainables.networks.fft_conv import FFTConv1d

CHANNELS, TAPS, LENGTH = 40, 4000, 48000
TARGETS = {1: 35.0, 4: 100.0}
"""Batch size -> least ratio of times."""
MEMORY_TARGET = 1.5
REPETITIONS = 8


def main() -> None:
    """Measure one layer, or compare the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--measure", nargs=2, metavar=("LAYER", "BATCH"), help="measure one layer and print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        layer, batch = arguments.measure
        print(json.dumps(measure(layer, int(batch))))
    else:
        compare(arguments.threads)


def measure(layer: str, batch: int) -> dict[str, Any]:
    """Return the seconds of each repetition and the peak resident memory of this process in MB."""
    torch.manual_seed(0)
    module = FFTConv1d(CHANNELS, CHANNELS, TAPS) if layer == "fft" else nn.Conv1d(CHANNELS, CHANNELS, TAPS)
    signal = torch.randn(batch, CHANNELS, LENGTH + TAPS - 1, requires_grad=True)
    gradient = torch.randn(batch, CHANNELS, LENGTH)
    seconds = [step(module, signal, gradient) for _ in range(REPETITIONS if layer == "fft" else 1)]
    return {"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def step(module: nn.Module, signal: torch.Tensor, gradient: torch.Tensor) -> float:
    """Return the seconds of one forward and backward pass."""
    module.zero_grad()
    signal.grad = None
    start = time.perf_counter()
    module(signal).backward(gradient)
    return time.perf_counter() - start


def compare(threads: int) -> None:
    """Print the table of ratios; the exit code says whether the targets were met."""
    print(f"{CHANNELS} -> {CHANNELS} channels, {TAPS} taps, {LENGTH} results, {threads} threads, forward + backward")
    print("batch  Conv1d s          FFT s       ratio  target  FFT MB Conv1d MB  ratio")
    passed = [compare_batch(batch, target, threads) for batch, target in TARGETS.items()]
    print(f"targets met (memory ratio <= {MEMORY_TARGET})" if all(passed) else "TARGETS MISSED")
    sys.exit(0 if all(passed) else 1)


def compare_batch(batch: int, target: float, threads: int) -> bool:
    """Print one line and say whether its targets are met; the fast layer is measured before and after the slow one."""
    before, direct, after = (run(layer, batch, threads) for layer in ("fft", "direct", "fft"))
    seconds = sorted(before["seconds"][1:] + after["seconds"][1:])
    slow = direct["seconds"][0]
    peak = max(before["peak_mb"], after["peak_mb"])
    memory = peak / direct["peak_mb"]
    print(
        f"{batch:>5} {slow:>9.1f} {seconds[0]:>6.3f}..{seconds[-1]:<6.3f}"
        f" {slow / seconds[-1]:>5.0f}..{slow / seconds[0]:<4.0f} {target:>6.0f}x"
        f" {peak:>7.0f} {direct['peak_mb']:>9.0f} {memory:>6.2f}"
    )
    return slow / seconds[0] >= target and memory <= MEMORY_TARGET


def run(layer: str, batch: int, threads: int) -> dict[str, Any]:
    """Measure one layer in a process of its own."""
    command = [sys.executable, __file__, "--threads", str(threads), "--measure", layer, str(batch)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    main()
