"""Networks: published systems, one a file, each in the presets ``small`` (CPU) and ``paper``."""

from trainables.inputs import InputSettings
from trainables.networks.base import Network
from trainables.networks.registry import create, input_settings, load, modalities, names, presets
from trainables.networks.shapes import without_memory

__all__ = [
    "InputSettings",
    "Network",
    "create",
    "input_settings",
    "load",
    "modalities",
    "names",
    "presets",
    "without_memory",
]
