"""The contract of a network."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from trainables.batch import Batch, InputSettings
from trainables.tasks import Task


class Network(nn.Module):
    """A model of the signal: a trunk shared by all tasks and one linear head per task.

    A subclass defines ``features``, ``last_shared_layer`` and ``input_settings``, and calls ``add_heads`` in its
    constructor ``__init__(tasks, preset, modalities, *, options...)``; the registry has checked all but the values of
    the options.

    Attributes:
        presets: names of its sizes; the first is for a machine without a GPU.
        modalities: what it can read of ``("audio", "video")``, in the order of its features.
        heads: task -> its linear head.
    """

    presets: ClassVar[tuple[str, ...]] = ()
    modalities: ClassVar[tuple[str, ...]] = ()

    heads: nn.ModuleDict

    @classmethod
    def input_settings(cls, preset: str, **options: object) -> InputSettings:
        """Return how a corpus must be prepared for a preset with these options."""
        raise NotImplementedError(f"{cls.__name__} must define input_settings(preset)")

    def add_heads(self, num_features: int, tasks: Sequence[Task]) -> None:
        """Create one linear head ``num_features -> task.num_outputs`` per task."""
        self.heads = nn.ModuleDict({task.name: nn.Linear(num_features, task.num_outputs) for task in tasks})

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
