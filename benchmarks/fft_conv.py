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

import torch  # noqa: TID253  (this program is nothing but torch)
from torch import nn  # noqa: TID253

from trainables.networks.fft_conv import FFTConv1d

CHANNELS, TAPS, LENGTH = 40, 4000, 48000
TARGETS = {1: 35.0, 4: 100.0}
"""Batch size -> least ratio of times."""
MEMORY_TARGET = 1.5
REPETITIONS = 8


def main() -> None:
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


def measure(layer: str, batch: int) -> dict[str, object]:
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
    print(f"{CHANNELS} -> {CHANNELS} channels, {TAPS} taps, {LENGTH} results, {threads} threads, forward + backward")
    print(f"{'batch':>5} {'Conv1d s':>9} {'FFT s (best..worst)':>20} {'ratio (worst..best)':>20} {'target':>7} {'memory MB':>12}")
    passed = True
    for batch, target in TARGETS.items():
        fft = [run("fft", batch, threads)]
        direct = run("direct", batch, threads)
        fft.append(run("fft", batch, threads))
        seconds = sorted(value for one in fft for value in one["seconds"][1:])
        ratio, worst = direct["seconds"][0] / seconds[0], direct["seconds"][0] / seconds[-1]
        peak = max(one["peak_mb"] for one in fft)
        memory = peak / direct["peak_mb"]
        passed &= ratio >= target and memory <= MEMORY_TARGET
        print(
            f"{batch:>5} {direct['seconds'][0]:>9.1f} {seconds[0]:>11.3f}..{seconds[-1]:<7.3f} {worst:>11.0f}..{ratio:<7.0f}"
            f" {target:>6.0f}x {peak:>5.0f}/{direct['peak_mb']:<5.0f} = {memory:.2f}x (target <= {MEMORY_TARGET}x)"
        )
    print("targets met" if passed else "TARGETS MISSED")
    sys.exit(0 if passed else 1)


def run(layer: str, batch: int, threads: int) -> dict:
    command = [sys.executable, __file__, "--threads", str(threads), "--measure", layer, str(batch)]
    found: dict = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    main()
