"""How much of a GPU's memory a trial needs, measured by training on the longest utterances."""

from dataclasses import dataclass, replace

import torch

from trainables.loop import train_epoch
from trainables.session import Session
from trainables.specification import TrialSpecification

CONTEXT_BYTES = 768 * 2**20
"""Memory of a GPU that a process holds beside PyTorch's own: CUDA's context and kernels; about 0.5 GB on an H100."""
_STEPS = 2
"""The optimizer allocates its state in the first step: the second one has everything."""
MOST = 16
"""Trials that share a GPU at most: beyond that they wait for each other."""


@dataclass(frozen=True)
class Footprint:
    """Memory of one trial.

    Attributes:
        needed: bytes of a GPU that it needs.
        available: bytes that the GPU has.
    """

    needed: int
    available: int


def share(footprints: list[Footprint]) -> float:
    """Return the share of a GPU that lets as many trials run beside each other as fit, whichever they are.

    >>> share([Footprint(needed=9 * 2**30, available=40 * 2**30), Footprint(7 * 2**30, 40 * 2**30)])
    0.25
    """
    fitting = min((footprint.available // max(footprint.needed, 1) for footprint in footprints), default=1)
    return 1.0 / max(1, min(MOST, fitting))


def measure(specification: TrialSpecification) -> Footprint:
    """Train a few steps on a batch of the longest utterances and return what that took; leaves nothing on disk.

    Raises:
        TrainingError: a loss is not finite.
        torch.OutOfMemoryError: it does not fit a GPU of its own.
    """
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)
    session = Session(replace(specification, folder=None), device)
    longest = session.longest_batch()
    train_epoch(session.learner, [longest] * _STEPS)
    needed = torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES
    return Footprint(needed, torch.cuda.get_device_properties(device).total_memory)
