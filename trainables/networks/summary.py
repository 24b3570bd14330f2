"""What a network is made of: its layers, what they give, their parameters and how much there is to multiply."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.batch import Batch
from trainables.inputs import FRAME_RATE
from trainables.networks.base import Network
from trainables.networks.fft_conv import FFTConv1d
from trainables.networks.registry import create, load
from trainables.networks.shapes import without_memory
from trainables.tasks import Task

TASKS = (Task("emotion", ("neutral", "anger", "happiness", "sadness")), Task("gender", ("female", "male")))
"""The heads of a network that is summarised; those of Chae et al. 2018."""
DEPTH = 3
"""How far down modules are listed one by one."""
REST = "(rest)"
"""What belongs to no layer that is listed."""


@dataclass(frozen=True)
class Layer:
    """A row of a summary.

    Attributes:
        name: where it is in the network.
        kind: name of its class.
        output: shape of what it gives for one utterance; empty if that is no tensor.
        parameters: numbers that are learned.
        multiply_adds: of a forward pass, of the operations as they are defined.
        computed: multiply-adds of what is computed instead; less where a convolution goes through the spectrum.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    computed: int


@dataclass(frozen=True)
class NetworkSummary:
    """A network of a given size, for one utterance as long as it takes.

    Attributes:
        network, preset: which one.
        modalities: what it reads.
        seconds: length of the utterance.
        layers: in the order in which they are first used.
        parameters, multiply_adds, computed: of all of it, see ``Layer``. A multiply-add is two FLOPs.
    """

    network: str
    preset: str
    modalities: tuple[str, ...]
    seconds: float
    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int
    computed: int


def num_parameters(module: nn.Module) -> int:
    """Return how many numbers a module learns.

    >>> num_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters())


def count_parameters(name: str, preset: str) -> int:
    """Return the parameters of a network that reads all it can, with the heads of ``TASKS``.

    Raises:
        NetworkError: there is no such network or preset.
    """
    with without_memory():
        return num_parameters(create(name, preset=preset, modalities=load(name).modalities, tasks=TASKS))


def summarise(
    name: str,
    preset: str,
    modalities: Sequence[str] | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
    *,
    depth: int = DEPTH,
) -> NetworkSummary:
    """Return what a network is made of, found in one forward pass that computes nothing where that can be.

    A network whose shapes depend on the values themselves is run on the CPU instead.

    Args:
        name: which network.
        preset: which of its sizes.
        modalities: what it reads; None is all it can.
        options: of the network.
        depth: how far down modules are listed one by one.

    Raises:
        NetworkError: unknown network, preset, modality or option.
    """
    chosen = load(name).modalities if modalities is None else tuple(modalities)

    def measured(device: str) -> tuple[Network, Batch, list[Layer]]:
        with torch.device(device):
            network = create(name, preset=preset, modalities=chosen, tasks=TASKS, options=options).eval()
        batch = network.example_batch(preset, chosen, **options)
        return network, batch, _layers(network, batch.to(torch.device(device)), depth)

    try:
        network, batch, layers = measured("meta")
    except (NotImplementedError, RuntimeError):  # shapes that only values tell
        network, batch, layers = measured("cpu")
    return NetworkSummary(
        network=name,
        preset=preset,
        modalities=chosen,
        seconds=int(batch.num_frames[0]) / FRAME_RATE,
        layers=tuple(layers),
        parameters=num_parameters(network),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        computed=sum(layer.computed for layer in layers),
    )


class _Record:
    """What was called during a forward pass: module -> shape of its output; convolutions by FFT -> what they cost."""

    def __init__(self, network: nn.Module) -> None:
        self.names = {module: name for name, module in network.named_modules()}
        self.outputs: dict[str, tuple[int, ...]] = {}
        self.replaced: dict[str, tuple[int, int]] = {}

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        name = self.names[module]
        first = output[0] if isinstance(output, tuple) and output else output
        self.outputs.setdefault(name, tuple(first.shape) if isinstance(first, Tensor) else ())
        if isinstance(module, FFTConv1d):
            before = self.replaced.get(name, (0, 0))
            now = module.multiply_adds(inputs[0])
            self.replaced[name] = before[0] + now[0], before[1] + now[1]


def _layers(network: Network, batch: Batch, depth: int) -> list[Layer]:
    record = _Record(network)
    counter = FlopCounterMode(display=False)
    with ExitStack() as stack:
        for module in network.modules():
            stack.callback(module.register_forward_hook(record).remove)
        stack.enter_context(counter)
        # With gradients: without them, some layers of PyTorch take a fused way that is not counted.
        network(batch)
    root = type(network).__name__
    counts = {
        name.removeprefix(root).removeprefix("."): sum(each.values()) // 2
        for name, each in counter.get_flop_counts().items()
        if name.startswith(root)
    }
    rows = [_layer(network, name, record, counts) for name in _listed(list(record.outputs), depth)]
    whole = _layer(network, "", record, counts)
    rest = [
        getattr(whole, field) - sum(getattr(row, field) for row in rows)
        for field in ("parameters", "multiply_adds", "computed")
    ]
    return [*rows, Layer(REST, "", (), *rest)] if any(rest) else rows


def _listed(called: Sequence[str], depth: int) -> list[str]:
    """Return the modules to list of those that were called: what calls no other one, and what is ``depth`` down."""

    def is_last(name: str) -> bool:
        return name.count(".") == depth - 1 or not any(_is_in(other, name) for other in called if other != name)

    return [name for name in called if name and name.count(".") < depth and is_last(name)]


def _is_in(name: str, place: str) -> bool:
    """Return whether a module is another one or a part of it; the network itself has no name."""
    return not place or name == place or name.startswith(f"{place}.")


def _layer(network: Network, name: str, record: _Record, counts: Mapping[str, int]) -> Layer:
    module = network.get_submodule(name)
    replaced = {other: cost for other, cost in record.replaced.items() if _is_in(other, name)}
    counted = counts.get(name, 0) - sum(counts.get(other, 0) for other in replaced)
    return Layer(
        name=name,
        kind=type(module).__name__,
        output=record.outputs.get(name, ()),
        parameters=num_parameters(module),
        multiply_adds=counted + sum(defined for defined, _ in replaced.values()),
        computed=counted + sum(done for _, done in replaced.values()),
    )
