"""Batches of a prepared corpus, in an order that seed and epoch decide."""

import copy
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from strategies.errors import unknown
from trainables.ahead import in_turn
from trainables.batch import Batch
from trainables.corpora.base import check_texts
from trainables.corpora.store import Store
from trainables.corpora.votes import shares
from trainables.errors import CorpusError
from trainables.inputs import FRAME_RATE, SAMPLES_PER_FRAME
from trainables.tasks import MISSING, Task

KEEP_DECODED_BYTES = 512 * 2**20
"""A part of a corpus that is smaller, decoded and padded, stays in memory; a larger one is read for every batch."""
_FULL_SCALE = np.float32(1 / 32768)
"""Makes 16-bit samples numbers of -1..1; a power of two, so nothing is rounded."""
AHEAD = 2
"""Batches made before they are asked for, in one thread: what it costs is memory, and it changes no number."""


class Batches:
    """The utterances of one part of a corpus.

    Args:
        store: the prepared corpus.
        indices: rows of its table.
        tasks: whose labels are wanted.
        modalities: what of ``("audio", "video", "text")`` is wanted.
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
        self._store = store
        self._indices = indices
        longest = max(1, round(max_seconds * FRAME_RATE))
        # What has text alone has no frames; a batch counts at least one.
        self._lengths = np.clip(store.table["num_frames"].to_numpy()[indices], 1, longest)
        self._labels = {task.name: _in_units(_labels(store, task)[indices], units.get(task.name)) for task in tasks}
        wanted = [task for task in tasks if soft_labels and task.kind == "classification"]
        self._soft = {task.name: _shares(store, task)[indices] for task in wanted}
        self._kept: dict[str, NDArray[Any]] = {}
        self._read(modalities, batch_size)

    def reading(self, modalities: Sequence[str], batch_size: int) -> "Batches":
        """Return the same utterances with other modalities, in batches of another size; what is decoded is shared.

        Raises:
            CorpusError: the store lacks a modality.
        """
        other = copy.copy(self)
        other._read(modalities, batch_size)
        return other

    def _read(self, modalities: Sequence[str], batch_size: int) -> None:
        store = self._store
        for modality in modalities:
            if modality not in store.modalities:
                raise CorpusError(f"{store.path} has no {modality} (it has: {', '.join(store.modalities)})")
        self._modalities = tuple(modalities)
        self._batch_size = batch_size
        self._text = _texts(store)[self._indices] if "text" in modalities else None
        self._decoded = self._decode() if self._decoded_bytes() <= KEEP_DECODED_BYTES else None

    def __len__(self) -> int:
        return len(self._indices)

    def labels(self, task: str) -> NDArray[np.int64]:
        """Return the labels of a task, ``(N,)``: class indices, -1 where missing; numbers, or ``(N, K)``, with NaN."""
        return self._labels[task]

    def epoch(self, seed: int, epoch: int, *, pinned: bool = False) -> Generator[Batch, None, None]:
        """Yield every utterance once, in an order that seed and epoch decide; all arms of a seed see the same.

        The next batches are made meanwhile; closing the generator, as leaving a loop over it does, ends that.

        Args:
            seed: of the trial.
            epoch: number of the epoch, from 0.
            pinned: whether sound and pictures lie where a GPU can fetch them itself.
        """
        return self._in_order(np.random.default_rng([seed, epoch]).permutation(len(self)), pinned)

    def ordered(self, *, pinned: bool = False) -> Generator[Batch, None, None]:
        """Yield every utterance once, in the order of the table; ``pinned`` as for ``epoch``."""
        return self._in_order(np.arange(len(self)), pinned)

    def longest(self) -> Batch:
        """Return a batch of the longest utterances: what needs the most memory."""
        return self._batch(np.argsort(-self._lengths, kind="stable")[: self._batch_size], pinned=False)

    def _in_order(self, positions: NDArray[np.int64], pinned: bool) -> Generator[Batch, None, None]:
        parts = (positions[start : start + self._batch_size] for start in range(0, len(positions), self._batch_size))
        with ThreadPoolExecutor(1, "batches") as thread:
            try:
                yield from in_turn((thread.submit(self._batch, part, pinned) for part in parts), AHEAD)
            finally:
                thread.shutdown(cancel_futures=True)

    def _batch(self, positions: NDArray[np.int64], pinned: bool) -> Batch:
        lengths = self._lengths[positions]
        longest = int(lengths.max())
        return Batch(
            num_frames=torch.from_numpy(lengths.astype(np.int64)),
            labels={name: torch.from_numpy(values[positions]) for name, values in self._labels.items()},
            audio=self._audio(positions, longest, pinned) if "audio" in self._modalities else None,
            video=self._video(positions, longest, pinned) if "video" in self._modalities else None,
            soft={name: torch.from_numpy(shares[positions]) for name, shares in self._soft.items()},
            text=None if self._text is None else tuple(self._text[positions]),
        )

    # NumPy copies on one thread and lets others run meanwhile; PyTorch would start a team of threads in this one.

    def _audio(self, positions: NDArray[np.int64], longest: int, pinned: bool) -> Tensor:
        sound = torch.empty(len(positions), longest * SAMPLES_PER_FRAME, pin_memory=pinned)
        if self._decoded is not None:
            whole = self._decoded["audio"][positions, : longest * SAMPLES_PER_FRAME]
            np.multiply(whole, _FULL_SCALE, out=sound.numpy())
        else:
            self._gather_audio(positions, sound.numpy(), _FULL_SCALE)
        return sound

    def _video(self, positions: NDArray[np.int64], longest: int, pinned: bool) -> Tensor:
        size = self._frame_size
        pictures = torch.empty(len(positions), longest, 3, size, size, dtype=torch.uint8, pin_memory=pinned)
        if self._decoded is not None:
            pictures.numpy()[...] = self._decoded["video"][positions, :longest]
        else:
            self._gather_video(positions, pictures.numpy())
        return pictures

    def _gather_audio(self, positions: NDArray[np.int64], padded: NDArray[Any], scale: np.number[Any]) -> None:
        """Write sound, times a scale, into ``(N, M * 640)``; zeros after the end."""
        for row, position in zip(padded, positions, strict=True):
            sound = self._store.audio(int(self._indices[position]))[: int(self._lengths[position]) * SAMPLES_PER_FRAME]
            np.multiply(sound, scale, out=row[: len(sound)])
            row[len(sound) :] = 0

    def _gather_video(self, positions: NDArray[np.int64], padded: NDArray[np.uint8]) -> None:
        """Write pictures into ``(N, M, 3, H, W)``; zeros after the end."""
        for row, position in zip(padded, positions, strict=True):
            frames = self._store.frames(int(self._indices[position]))[: int(self._lengths[position])]
            row[: len(frames)] = frames.transpose(0, 3, 1, 2)
            row[len(frames) :] = 0

    def _decode(self) -> dict[str, NDArray[Any]]:
        everything, longest = np.arange(len(self)), int(self._lengths.max(initial=1))
        kept = self._kept  # of all that read the same utterances
        if "audio" in self._modalities and "audio" not in kept:
            sound = np.empty((len(self), longest * SAMPLES_PER_FRAME), np.int16)
            self._gather_audio(everything, sound, np.int16(1))
            kept["audio"] = sound
        if "video" in self._modalities and "video" not in kept:
            pictures = np.empty((len(self), longest, 3, self._frame_size, self._frame_size), np.uint8)
            self._gather_video(everything, pictures)
            kept["video"] = pictures
        return kept

    @property
    def _frame_size(self) -> int:
        return int(self._store.manifest["settings"]["frame_size"])

    def _decoded_bytes(self) -> int:
        per_frame = {"audio": 2 * SAMPLES_PER_FRAME, "video": 3 * self._frame_size**2}
        in_a_frame = sum(size for name, size in per_frame.items() if name in {*self._modalities, *self._kept})
        return len(self) * int(self._lengths.max(initial=1)) * in_a_frame


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
    """Return the labels of every utterance of the store as the task wants them, ``(N,)`` or ``(N, K)``.

    Raises:
        CorpusError: the store lacks the label, or has a class that the task does not know.
    """
    for name in task.columns:
        if name not in store.table:
            raise CorpusError(f"{store.path} has no label '{name}'")
    if task.kind == "multilabel":
        return _answers(store, task)
    column = store.table[task.name]
    if task.kind == "regression":
        return _numbers(store, task.name)
    indices = column.map({name: index for index, name in enumerate(task.classes)})
    if (strange := column.notna() & indices.isna()).any():
        raise CorpusError(f"{store.path}: {task.name} '{column[strange].iloc[0]}' is none of {', '.join(task.classes)}")
    return np.asarray(indices.fillna(MISSING), dtype=np.int64)


def _texts(store: Store) -> NDArray[np.object_]:
    """Return the transcripts, ``(N,)``, empty where there is none.

    Raises:
        CorpusError: no utterance has one.
    """
    check_texts(store.table, str(store.path))
    column = store.table["text"]
    return np.array([str(text) if said else "" for text, said in zip(column, column.notna(), strict=True)], object)


def _answers(store: Store, task: Task) -> NDArray[Any]:
    """Return for each class of a multilabel task 1, 0 or NaN where nobody said, ``(N, K)`` float32."""
    for column, value in task.marks:
        if value not in (known := store.classes.get(column, ())):
            raise CorpusError(f"{store.path}: {task.name}: {unknown(column, value, known)}")
    columns = [store.table[column] for column, _ in task.marks]
    answers = [(column == value).where(column.notna()) for column, (_, value) in zip(columns, task.marks, strict=True)]
    return np.stack([answer.to_numpy(np.float32, na_value=np.nan) for answer in answers], axis=1)


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
