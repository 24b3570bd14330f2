"""What a network reads: a few utterances, padded to the longest."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

SAMPLE_RATE = 16_000
"""Audio samples per second of every prepared corpus (Chae et al. 2018)."""
FRAME_RATE = 25
"""Video frames per second; one frame lasts 40 ms, that is 640 audio samples."""
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE


@dataclass(frozen=True)
class InputSettings:
    """What the preset of a network wants to be fed, and what the preparation of a corpus does to every utterance.

    Attributes:
        max_seconds: utterances are cut after this many seconds.
        frame_size: height and width of a face frame, in pixels.
    """

    max_seconds: float = 6.0
    frame_size: int = 96

    @property
    def max_frames(self) -> int:
        """Longest utterance in frames of 40 ms."""
        return max(1, round(self.max_seconds * FRAME_RATE))


@dataclass(frozen=True)
class Batch:
    """N utterances.

    Attributes:
        num_frames: length of each utterance in frames of 40 ms, ``(N,)`` int64, at least 1, at most M.
        labels: task name -> ``(N,)``; int64 class indices with -1 where the label is missing, or float32 values with
            NaN where it is missing.
        soft: task name -> share of each class among its annotators ``(N, C)``, NaN where nobody said; with it
            a task is not trained on its ``labels``.
        audio: samples in -1..1, ``(N, M * 640)`` float32, zeros after the end; None if the modality is not used.
        video: pixels in 0..255, ``(N, M, 3, H, W)`` uint8, zeros after the end; None if the modality is not used.
    """

    num_frames: Tensor
    labels: dict[str, Tensor]
    audio: Tensor | None = None
    video: Tensor | None = None
    soft: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.num_frames)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on another device; lengths stay on the CPU, where packing needs them."""
        return Batch(
            num_frames=self.num_frames,
            labels={name: values.to(device, non_blocking=True) for name, values in self.labels.items()},
            audio=None if self.audio is None else self.audio.to(device, non_blocking=True),
            video=None if self.video is None else self.video.to(device, non_blocking=True),
            soft={name: shares.to(device, non_blocking=True) for name, shares in self.soft.items()},
        )

    def split(self, parts: int) -> list["Batch"]:
        """Return at most ``parts`` batches of nearly equal size that together hold the same utterances in order."""
        if parts <= 1:
            return [self]
        pieces = [piece for piece in torch.arange(len(self)).tensor_split(parts) if len(piece)]
        return [self._slice(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]

    def _slice(self, start: int, stop: int) -> "Batch":
        return Batch(
            num_frames=self.num_frames[start:stop],
            labels={name: values[start:stop] for name, values in self.labels.items()},
            audio=None if self.audio is None else self.audio[start:stop],
            video=None if self.video is None else self.video[start:stop],
            soft={name: shares[start:stop] for name, shares in self.soft.items()},
        )
