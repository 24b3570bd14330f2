"""The contract of a network."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from trainables.batch import Batch
from trainables.inputs import SAMPLES_PER_FRAME, InputSettings
from trainables.tasks import Task


class Network(nn.Module):
    """A model of the signal: a trunk shared by all tasks and one linear head per task.

    A subclass defines ``features``, ``last_shared_layer`` and ``input_settings``, and calls ``add_heads`` in its
    constructor ``__init__(tasks, preset, modalities, *, options...)``; the registry has checked all but the values of
    the options.

    Attributes:
        presets: names of its sizes; the first is for a machine without a GPU.
        modalities: what it can read of ``("audio", "video", "text")``, in the order of its features.
        needs: the modalities that it cannot do without.
        begins_from: options that only say which weights training begins from: once trained, it is built without them.
        summary: one line for listings.
        reference: the paper, with url.
        heads: task -> its linear head.
    """

    presets: ClassVar[tuple[str, ...]] = ()
    modalities: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    begins_from: ClassVar[tuple[str, ...]] = ()
    summary: ClassVar[str] = ""
    reference: ClassVar[str] = ""

    heads: nn.ModuleDict

    @classmethod
    def input_settings(cls, preset: str, **options: object) -> InputSettings:
        """Return how a corpus must be prepared for a preset with these options."""
        raise NotImplementedError(f"{cls.__name__} must define input_settings(preset)")

    @classmethod
    def example_batch(cls, preset: str, modalities: Sequence[str], **options: object) -> Batch:
        """Return one silent, black utterance as long as the preset takes: what a summary is measured on.

        Its text has 2.5 words a second, an ordinary rate of speech. A network whose cost is decided by something else
        says so by defining this anew.
        """
        settings = cls.input_settings(preset, **options)
        frames, size = settings.max_frames, settings.frame_size
        return Batch(
            num_frames=torch.tensor([frames]),
            labels={},
            audio=torch.zeros(1, frames * SAMPLES_PER_FRAME) if "audio" in modalities else None,
            video=torch.zeros(1, frames, 3, size, size, dtype=torch.uint8) if "video" in modalities else None,
            text=(" ".join(["word"] * round(2.5 * settings.max_seconds)),) if "text" in modalities else None,
        )

    def add_heads(self, num_features: int, tasks: Sequence[Task]) -> None:
        """Create one linear head ``num_features -> task.num_outputs`` per task."""
        self.heads = nn.ModuleDict({task.name: nn.Linear(num_features, task.num_outputs) for task in tasks})

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Be told that epoch ``epoch`` of ``epochs``, counted from 0, begins; PyTorch's generator was just seeded.

        What is set here must be a function of the arguments and that generator alone: a trial that is resumed is told
        of the epochs that are left and of no other.
        """

    def features(self, batch: Batch) -> Tensor:
        """Return what every head reads, ``(N, F)``."""
        raise NotImplementedError(f"{type(self).__name__} must define features(batch)")

    def predict(self, features: Tensor) -> dict[str, Tensor]:
        """Return task -> logits ``(N, C)`` (or ``(N, 1)`` for regression) from the features ``(N, F)``."""
        return {name: head(features) for name, head in self.heads.items()}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return task -> logits ``(N, C)`` (or ``(N, 1)`` for regression)."""
        return self.predict(self.features(batch))

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the trunk: all but those of the heads."""
        own = {id(parameter) for parameter in self.heads.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def last_shared_layer(self) -> list[nn.Parameter]:
        """Return the parameters of the last layer that all tasks share."""
        raise NotImplementedError(f"{type(self).__name__} must define last_shared_layer()")
