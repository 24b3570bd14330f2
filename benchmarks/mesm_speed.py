"""MESM against FE2E: time of a training step, peak memory and multiply-adds, beside the published numbers of FLOPs.

Run ``python benchmarks/mesm_speed.py``; about a minute. Both networks train on the same utterances of the synthetic
corpus in turn, so that a busy machine slows both; the best step of each counts. As the trials of a study do by default,
they use one CPU and keep what they free (``study.ray_start.ALLOCATOR``). Peak memory is that of a process of its own
(of the GPU with ``--device cuda``).

Multiply-adds are counted in the forward pass of the two columns that look at faces and sound, without the text: the
paper speaks of the feature extraction. Of a sparse convolution those count that are computed: an active site with
itself and with each neighbour that is active, and the rows that products are filled up with. The paper does not say how
long the utterance is that its numbers are of, nor whether a multiply-add is one FLOP or two; its ratios are what can be
compared.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from study.ray_start import ALLOCATOR
from trainables import networks
from trainables.batch import Batch
from trainables.corpora.synthetic import Synthetic
from trainables.networks import Network
from trainables.networks.mesm import FACE
from trainables.tasks import Task, task_loss

CLASSES = ("anger", "excitement", "frustration", "happiness", "neutral", "sadness")
TASK = Task("emotions", CLASSES, "multilabel", tuple(("emotion", name) for name in CLASSES))
TARGET = 0.7
PUBLISHED = {"fe2e": 8.65, 0.7: 5.18, 0.5: 4.34}
"""GFLOP of FE2E and of MESM by p (Tables 3 and 4)."""


def main() -> None:
    """Measure the memory of one network, or compare the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--batch", type=int, default=2, help="utterances; 2 as published for MESM")
    parser.add_argument("--seconds", type=float, default=4.5, help="of an utterance; the mean of IEMOCAP")
    parser.add_argument("--p", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--measure", choices=("fe2e", "sparse", "dense"), help="print the peak memory of one, MB")
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):  # is read when a process begins
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        print(json.dumps(peak_memory(arguments)))
    else:
        compare(arguments)


def build(which: str, arguments: argparse.Namespace, p: float | None = None) -> Network:
    """Return FE2E, or MESM with sparse or dense convolutions."""
    torch.manual_seed(0)
    options: dict[str, Any] = {} if which == "fe2e" else {"p": p or arguments.p, "convolution": which}
    name = "fe2e" if which == "fe2e" else "mesm"
    network = networks.create(
        name, preset=arguments.preset, modalities=["text", "audio", "video"], tasks=[TASK], options=options
    )
    return network.to(arguments.device)


def utterances(count: int, seconds: float) -> Batch:
    """Return synthetic utterances, each of several of one speaker after another until it is long enough."""
    corpus, frames = Synthetic(utterances_per_speaker=40), round(25 * seconds)
    table = corpus.read()
    audio, video, text = [], [], []
    for speaker in range(count):
        rows = table[table["speaker"] == f"s{speaker:03d}"].to_dict("records")
        sounds: list[np.ndarray] = []
        faces: list[np.ndarray] = []
        for row in rows:
            sounds.append(corpus.load_audio(None, row))
            faces.append(corpus.load_video(None, row, FACE))
            if sum(map(len, faces)) >= frames:
                break
        audio.append(np.concatenate(sounds)[: frames * 640] / np.float32(32768))
        video.append(np.concatenate(faces)[:frames].transpose(0, 3, 1, 2))
        text.append("you never listen to me and I told them to stop")
    labels = torch.eye(len(CLASSES))[torch.arange(count) % len(CLASSES)]
    sound, pictures = torch.from_numpy(np.stack(audio)), torch.from_numpy(np.stack(video).copy())
    return Batch(torch.full((count,), frames), {"emotions": labels}, sound, pictures, text=tuple(text))


def stepper(network: Network, batch: Batch, arguments: argparse.Namespace) -> Callable[[], float]:
    """Return what takes one training step and returns its seconds; with one thread on a CPU, those of the process."""
    now = time.process_time if arguments.device == "cpu" and arguments.threads == 1 else time.perf_counter
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-5)
    network.train()

    def step() -> float:
        start = now()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.precision == "bfloat16"):
            outputs = network(batch)["emotions"]
        loss = task_loss(TASK, outputs.float(), batch.labels["emotions"])
        loss.backward()
        optimizer.step()
        loss.item()
        return now() - start

    return step


def peak_memory(arguments: argparse.Namespace) -> float:
    """Return the peak memory of a few training steps, MB."""
    batch = utterances(arguments.batch, arguments.seconds).to(torch.device(arguments.device))
    step = stepper(build(arguments.measure, arguments), batch, arguments)
    for _ in range(2):
        step()
    if arguments.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(arguments: argparse.Namespace) -> None:
    """Print the tables; the exit code says whether the target was met."""
    kinds = ("fe2e", "sparse", "dense")
    peaks = {which: memory_of(which) for which in kinds}  # before this process grows, whose peak they inherit
    batch = utterances(arguments.batch, arguments.seconds).to(torch.device(arguments.device))
    steps = {which: stepper(build(which, arguments), batch, arguments) for which in kinds}
    seconds: dict[str, list[float]] = {which: [] for which in kinds}
    for _ in range(arguments.rounds + 1):
        for which in kinds:
            seconds[which].append(steps[which]())
    best = {which: min(values[1:]) for which, values in seconds.items()}
    print(
        f"{arguments.preset}, batch {arguments.batch} of {arguments.seconds:g} s, p {arguments.p:g}, {arguments.device}"
        f" {arguments.precision}, {arguments.threads} threads: a training step"
    )
    print("network             step s   ratio   peak MB  ratio")
    for which, name in zip(kinds, ("fe2e", "mesm", "mesm, masked dense"), strict=True):
        ratio, memory = best[which] / best["fe2e"], peaks[which] / peaks["fe2e"]
        print(f"{name:<18} {best[which]:>7.3f} {ratio:>7.2f} {peaks[which]:>9.0f} {memory:>6.2f}")
    flops(batch, arguments)
    ratio = best["sparse"] / best["fe2e"]
    print(f"{'target met' if ratio <= TARGET else 'TARGET MISSED'}: {ratio:.2f} of FE2E's time, target {TARGET}")
    sys.exit(0 if ratio <= TARGET else 1)


def memory_of(which: str) -> float:
    """Return the peak memory of a network, measured in a process of its own with the arguments of this one."""
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", which]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def flops(batch: Batch, arguments: argparse.Namespace) -> None:
    """Print the multiply-adds of the columns beside the published numbers."""
    print(f"multiply-adds for the features of faces and sound of {arguments.seconds:g} s, at the start of training")
    dense = count(build("fe2e", arguments), batch)
    print("network        10^9   ratio   published 10^9   ratio")
    rows: Sequence[tuple[str, float, float | None]] = [
        ("fe2e", dense, PUBLISHED["fe2e"]),
        *((f"mesm p={p:g}", count(build("sparse", arguments, p), batch), PUBLISHED.get(p)) for p in (0.7, 0.5)),
    ]
    for name, found, published in rows:
        told = "" if published is None else f"{published:>16.2f} {published / PUBLISHED['fe2e']:>7.2f}"
        print(f"{name:<12} {found / 1e9:>6.2f} {found / dense:>7.2f} {told}")
    seconds = arguments.seconds * PUBLISHED["fe2e"] * 1e9 / dense
    print(f"8.65 are {seconds:.1f} s of an utterance if a multiply-add is one FLOP, {seconds / 2:.1f} s if it is two")


def count(network: Network, batch: Batch) -> float:
    """Return the multiply-adds of an utterance in the columns."""
    counter = FlopCounterMode(display=False)
    with counter:  # with gradients: without them the Transformer takes a fused way that is not counted
        network.train()(batch)
    counts = counter.get_flop_counts()
    total = sum(sum(counts[f"{type(network).__name__}.columns.{name}"].values()) for name in ("audio", "video"))
    return total / 2 / len(batch)


if __name__ == "__main__":
    main()
