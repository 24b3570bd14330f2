"""Batches of a prepared corpus, in an order that seed and epoch decide."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.batch import FRAME_RATE, SAMPLES_PER_FRAME, Batch
from trainables.corpora.store import Store
from trainables.corpora.votes import shares
from trainables.errors import CorpusError
from trainables.tasks import MISSING, Task

KEEP_DECODED_BYTES = 512 * 2**20
"""A part of a corpus that is smaller, decoded and padded, stays in memory; a larger one is read for every batch."""


class Batches:
    """The utterances of one part of a corpus.

    Args:
        store: the prepared corpus.
        indices: rows of its table.
        tasks: whose labels are wanted.
        modalities: what of ``("audio", "video")`` is wanted.
        batch_size: utterances in a batch; the last of an epoch may be smaller.
        max_seconds: utterances are cut after this many seconds.
        units: task -> (mean, standard deviation) that its numbers are measured in, see ``units_of``; as they are
            where none are given.
        soft_labels: whether classification tasks get the shares of each class among the votes too; the label stands in
            where nobody voted.

    Raises:
        CorpusError: the store lacks a modality or a label.
    """

    def __init__(
        self,
        store: Store,
        indices: NDArray[np.int64],
        tasks: Sequence[Task],
        modalities: Sequence[str],
        batch_size: int,
        max_seconds: float,
        units: Mapping[str, tuple[float, float]] = MappingProxyType({}),
        *,
        soft_labels: bool = False,
    ) -> None:
        for modality in modalities:
            if modality not in store.modalities:
                raise CorpusError(f"{store.path} has no {modality} (it has: {', '.join(store.modalities)})")
        self._store = store
        self._indices = indices
        self._modalities = tuple(modalities)
        self._batch_size = batch_size
        longest = max(1, round(max_seconds * FRAME_RATE))
        self._lengths = np.minimum(store.table["num_frames"].to_numpy()[indices], longest)
        self._labels = {task.name: _in_units(_labels(store, task)[indices], units.get(task.name)) for task in tasks}
        wanted = [task for task in tasks if soft_labels and task.kind == "classification"]
        self._soft = {task.name: _shares(store, task)[indices] for task in wanted}
        self._decoded = self._decode() if self._decoded_bytes() <= KEEP_DECODED_BYTES else None

    def __len__(self) -> int:
        return len(self._indices)

    def labels(self, task: str) -> NDArray[np.int64]:
        """Return the labels of a task, ``(N,)``: class indices, -1 where missing (NaN for regression)."""
        return self._labels[task]

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield every utterance once, in an order that seed and epoch decide; all arms of a seed see the same."""
        yield from self._in_order(np.random.default_rng([seed, epoch]).permutation(len(self)))

    def ordered(self) -> Iterator[Batch]:
        """Yield every utterance once, in the order of the table."""
        yield from self._in_order(np.arange(len(self)))

    def _in_order(self, positions: NDArray[np.int64]) -> Iterator[Batch]:
        for start in range(0, len(positions), self._batch_size):
            yield self._batch(positions[start : start + self._batch_size])

    def _batch(self, positions: NDArray[np.int64]) -> Batch:
        lengths = self._lengths[positions]
        longest = int(lengths.max())
        return Batch(
            num_frames=torch.from_numpy(lengths.astype(np.int64)),
            labels={name: torch.from_numpy(values[positions]) for name, values in self._labels.items()},
            audio=self._audio(positions, longest) if "audio" in self._modalities else None,
            video=self._video(positions, longest) if "video" in self._modalities else None,
            soft={name: torch.from_numpy(shares[positions]) for name, shares in self._soft.items()},
        )

    def _audio(self, positions: NDArray[np.int64], longest: int) -> Tensor:
        if self._decoded is not None:
            whole = self._decoded["audio"][torch.from_numpy(positions), : longest * SAMPLES_PER_FRAME]
            return whole.float().mul_(1.0 / 32768.0)
        return self._gather_audio(positions, longest).float().mul_(1.0 / 32768.0)

    def _video(self, positions: NDArray[np.int64], longest: int) -> Tensor:
        if self._decoded is not None:
            return self._decoded["video"][torch.from_numpy(positions), :longest]
        return self._gather_video(positions, longest)

    def _gather_audio(self, positions: NDArray[np.int64], longest: int) -> Tensor:
        """Return 16-bit sound ``(N, longest * 640)``, zeros after the end."""
        padded = torch.zeros(len(positions), longest * SAMPLES_PER_FRAME, dtype=torch.int16)
        for row, position in enumerate(positions):
            sound = self._store.audio(int(self._indices[position]))[: int(self._lengths[position]) * SAMPLES_PER_FRAME]
            padded[row, : len(sound)] = torch.from_numpy(sound.copy())
        return padded

    def _gather_video(self, positions: NDArray[np.int64], longest: int) -> Tensor:
        """Return pictures ``(N, longest, 3, H, W)``, zeros after the end."""
        size = int(self._store.manifest["settings"]["frame_size"])
        padded = torch.zeros(len(positions), longest, 3, size, size, dtype=torch.uint8)
        for row, position in enumerate(positions):
            frames = self._store.frames(int(self._indices[position]))[: int(self._lengths[position])]
            padded[row, : len(frames)] = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2)
        return padded

    def _decode(self) -> dict[str, Tensor]:
        everything, longest = np.arange(len(self)), int(self._lengths.max(initial=1))
        decoded: dict[str, Tensor] = {}
        if "audio" in self._modalities:
            decoded["audio"] = self._gather_audio(everything, longest)
        if "video" in self._modalities:
            decoded["video"] = self._gather_video(everything, longest)
        return decoded

    def _decoded_bytes(self) -> int:
        size = int(self._store.manifest["settings"]["frame_size"])
        per_frame = {"audio": 2 * SAMPLES_PER_FRAME, "video": 3 * size * size}
        return len(self) * int(self._lengths.max(initial=1)) * sum(per_frame[name] for name in self._modalities)


def units_of(store: Store, tasks: Sequence[Task], indices: NDArray[np.int64]) -> dict[str, tuple[float, float]]:
    """Return regression task -> mean and standard deviation of its numbers in one part of a corpus, the training part.

    A network that starts at 0 learns numbers around 0 with deviation 1: a rating of 1 to 5 would first have to move its
    mean, which concordance punishes and a gradient of it hardly corrects. Concordance itself is the same in any units.
    """
    found = {}
    for task in tasks:
        if task.kind == "regression":
            numbers = _numbers(store, task.name)[indices].astype(np.float64)
            mean, deviation = (float(value) for value in (np.nanmean(numbers), np.nanstd(numbers)))
            found[task.name] = (mean, deviation if deviation > 0 else 1.0)
    return found


def _in_units(labels: NDArray[Any], units: tuple[float, float] | None) -> NDArray[Any]:
    if units is None:
        return labels
    mean, deviation = units
    measured: NDArray[Any] = ((labels - mean) / deviation).astype(np.float32)
    return measured


def _labels(store: Store, task: Task) -> NDArray[np.int64]:
    """Return the labels of every utterance of the store as the task wants them.

    Raises:
        CorpusError: the store lacks the label, or has a class that the task does not know.
    """
    if task.name not in store.table:
        raise CorpusError(f"{store.path} has no label '{task.name}'")
    column = store.table[task.name]
    if task.kind == "regression":
        return _numbers(store, task.name)
    indices = column.map({name: index for index, name in enumerate(task.classes)})
    if (strange := column.notna() & indices.isna()).any():
        raise CorpusError(f"{store.path}: {task.name} '{column[strange].iloc[0]}' is none of {', '.join(task.classes)}")
    return np.asarray(indices.fillna(MISSING), dtype=np.int64)


def _shares(store: Store, task: Task) -> NDArray[np.float32]:
    """Return the share of each class among the votes, ``(N, C)``; of the label where nobody voted; else NaN."""
    hard = _labels(store, task)
    found = np.full((len(hard), len(task.classes)), np.nan, np.float32)
    found[hard != MISSING] = np.eye(len(task.classes), dtype=np.float32)[hard[hard != MISSING]]
    for row, votes in enumerate(store.table["votes"]):
        if (counted := shares(votes, task.name, task.classes)) is not None:
            found[row] = counted
    return found


def _numbers(store: Store, label: str) -> NDArray[Any]:
    """Return a label that is a number, ``(N,)`` float32, NaN where it is missing."""
    column = store.table[label]
    values = pd.to_numeric(column, errors="coerce").astype(float)
    if (strange := column.notna() & ~np.isfinite(values)).any():
        name, value = store.table.loc[strange, ["utterance", label]].iloc[0]
        raise CorpusError(f"{store.path}: {label} of {name} is {value!r}, but must be a finite number")
    numbers: NDArray[Any] = values.to_numpy(np.float32)
    return numbers
