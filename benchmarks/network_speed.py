"""A training step of the network of Chae et al. 2018 beside its published structure written plainly, in one run.

    python benchmarks/network_speed.py                                     # CPU: batch 4, clips of 6 s
    python benchmarks/network_speed.py --device cuda --precision bfloat16 --channels-last --compile

The plain network is what the published code does, operation by operation: the 4000-tap convolution directly, pictures
in PyTorch's default layout, packed sequences. Both have the same weights and are first checked to give the same output.
Each is measured in a process of its own, so that its peak memory is its own: resident on a CPU, allocated on a GPU. A
step is forward, backward, clipping and Adam. The fast network is measured before and after the plain one and its best
step counts; on a CPU the plain one takes one step, after one on clips of 0.4 s that warms it up.

``--precision``, ``--channels-last`` and ``--compile`` are for this project's network; the plain one stays as published,
in float32. So is ``--allocator``: ``study`` keeps memory as a study's processes do (``study.ray_start.ALLOCATOR``),
``default`` as glibc does by itself. With ``--threads 1`` the time is that of the process, which leaves out what other
processes take.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.ray_start import ALLOCATOR
from trainables import networks
from trainables.batch import Batch
from trainables.inputs import FRAME_RATE, SAMPLES_PER_FRAME
from trainables.networks.pictures import resnet50
from trainables.networks.summary import TASKS

TARGETS = {"cpu": 10.0, "cuda": 3.0}
"""Device -> least ratio of times."""
WARM_UP = 3


class Plain(nn.Module):
    """The published structure: names of parameters as in this project, every operation as PyTorch spells it."""

    def __init__(self, modalities: list[str]) -> None:
        super().__init__()
        width = 0
        if "audio" in modalities:
            self.audio = nn.ModuleDict({"conv1": nn.Conv1d(1, 40, 80), "conv2": nn.Conv1d(40, 40, 4000)})
            width += 1280
        if "video" in modalities:
            self.video = nn.ModuleDict({"extractor": resnet50()[0]})
            width += 2048
        self.modalities = modalities
        self.lstm = nn.LSTM(width, 256, num_layers=2, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.heads = nn.ModuleDict({task.name: nn.Linear(256, task.num_outputs) for task in TASKS})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return task -> logits ``(N, C)``."""
        found = []
        if "audio" in self.modalities:
            signal = self.audio["conv1"](functional.pad(batch.audio.unsqueeze(1), (40, 39)))
            signal = self.audio["conv2"](functional.pad(functional.max_pool1d(signal, 2), (2000, 1999)))
            pooled = functional.max_pool1d(signal.permute(0, 2, 1), 10)
            found.append(pooled.reshape(len(batch), -1, 1280))
        if "video" in self.modalities:
            maps = self.video["extractor"](batch.video.flatten(0, 1).float())
            found.append(functional.avg_pool2d(maps, 3).view(len(batch), -1, 2048))
        packed = nn.utils.rnn.pack_padded_sequence(torch.cat(found, dim=2), batch.num_frames, batch_first=True)
        sequence, lengths = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        last = self.dropout(sequence)[torch.arange(len(batch)), lengths - 1]
        return {name: head(last) for name, head in self.heads.items()}


def make_batch(size: int, seconds: float, modalities: list[str], device: torch.device) -> Batch:
    """Return utterances of noise, all of the same length."""
    frames = round(seconds * FRAME_RATE)
    generator = torch.Generator().manual_seed(0)
    labels = {task.name: torch.arange(size) % task.num_outputs for task in TASKS}
    audio = torch.randn(size, frames * SAMPLES_PER_FRAME, generator=generator) * 0.05
    video = torch.randint(0, 256, (size, frames, 3, 96, 96), generator=generator, dtype=torch.uint8)
    batch = Batch(
        torch.full((size,), frames),
        labels,
        audio=audio if "audio" in modalities else None,
        video=video if "video" in modalities else None,
    )
    return batch.to(device)


def make_networks(arguments: argparse.Namespace) -> dict[str, nn.Module]:
    """Return both networks with the same weights, audio as it comes."""
    torch.manual_seed(0)
    options = {"audio_norm": "none"}
    fast = networks.create("chae", preset="paper", modalities=arguments.modalities, tasks=TASKS, options=options)
    plain = Plain(arguments.modalities)
    plain.load_state_dict(fast.state_dict())
    device = torch.device(arguments.device)
    return {"fast": fast.to(device), "plain": plain.to(device)}


class Trainer:
    """Takes training steps with one of the networks."""

    def __init__(self, which: str, arguments: argparse.Namespace) -> None:
        self.device = torch.device(arguments.device)
        self.network: Any = make_networks(arguments)[which]
        fast = which == "fast"
        if fast and arguments.channels_last and "video" in arguments.modalities:
            self.network.video.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4)
        if fast and arguments.compile and "video" in arguments.modalities:
            self.network.video.extractor = torch.compile(self.network.video.extractor)
        self.bfloat16 = fast and arguments.precision == "bfloat16"
        self.now = time.process_time if arguments.device == "cpu" and arguments.threads == 1 else time.perf_counter

    def step(self, batch: Batch) -> float:
        """Return the seconds of one training step."""
        self._wait()
        start = self.now()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext():
            outputs = self.network(batch)
        losses = [functional.cross_entropy(logits.float(), batch.labels[name]) for name, logits in outputs.items()]
        torch.stack(losses).mean().backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self._wait()
        return self.now() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_mb(self) -> float:
        """Return the most memory that was in use at a time, in MiB."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(which: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of each step and the peak memory of this process in MiB."""
    trainer = Trainer(which, arguments)
    batch = make_batch(arguments.batch, arguments.seconds, arguments.modalities, trainer.device)
    once = which == "plain" and arguments.device == "cpu"
    trainer.step(make_batch(1, 0.4, arguments.modalities, trainer.device))
    for _ in range(0 if once else min(WARM_UP, arguments.repetitions - 1)):
        trainer.step(batch)
    seconds = [trainer.step(batch) for _ in range(1 if once else arguments.repetitions)]
    return {"seconds": seconds, "peak_mb": trainer.peak_mb()}


def check(arguments: argparse.Namespace) -> float:
    """Return the largest difference between the outputs of both networks on two clips of 0.4 s."""
    both = {name: network.eval() for name, network in make_networks(arguments).items()}
    batch = make_batch(2, 0.4, arguments.modalities, torch.device(arguments.device))
    with torch.no_grad():
        outputs = {name: network(batch) for name, network in both.items()}
    return max(float((outputs["fast"][task] - outputs["plain"][task]).abs().max()) for task in outputs["fast"])


def run(which: str, allocator: str) -> dict[str, Any]:
    """Measure a network in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", which]
    environment = {**os.environ, **(ALLOCATOR if which == "fast" and allocator == "study" else {})}
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def compare(arguments: argparse.Namespace) -> bool:
    """Print both networks and their ratio; return whether the target is met."""
    difference = check(arguments)
    before, plain, after = (run(which, arguments.allocator) for which in ("fast", "plain", "fast"))
    seconds = sorted([*before["seconds"], *after["seconds"]])
    slow, peak = min(plain["seconds"]), max(before["peak_mb"], after["peak_mb"])
    ratio, memory, target = slow / seconds[0], peak / plain["peak_mb"], TARGETS[arguments.device]
    print(
        f"chae, preset paper, {' + '.join(arguments.modalities)}, batch {arguments.batch}, clips of "
        f"{arguments.seconds:g} s, {arguments.device}, {arguments.threads} threads; "
        f"outputs differ by at most {difference:.1e}"
    )
    print(f"plain {slow:8.3f} s a step  {plain['peak_mb']:7.0f} MiB")
    print(f"fast  {seconds[0]:8.3f} s a step  {peak:7.0f} MiB   (slowest {seconds[-1]:.3f} s)")
    print(f"{ratio:.1f}x as fast (target {target:g}x), {memory:.2f} of the memory")
    return ratio >= target


def main() -> None:
    """Measure one network, or compare the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of the clips")
    parser.add_argument("--modalities", nargs="+", choices=("audio", "video"), default=["audio", "video"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--device", choices=tuple(TARGETS), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--allocator", choices=("study", "default"), default="study")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="compile the picture network")
    parser.add_argument("--measure", choices=("fast", "plain"), help="measure one network and print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments)))
    else:
        sys.exit(0 if compare(arguments) else 1)


if __name__ == "__main__":
    main()
