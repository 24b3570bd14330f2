"""The contract of a corpus: a folder on disk becomes a table of utterances."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strategies.options import option_names
from trainables.corpora.finding import Finding
from trainables.corpora.media import read_audio
from trainables.corpora.pictures import read_frames
from trainables.errors import CorpusError, MediaError

COLUMNS = [
    "utterance",  # unique name
    "speaker",  # unique within the corpus
    "gender",  # "female", "male", or missing
    "session",  # recording session, or missing
    "domain",  # such as "speech", "improvised", "scripted", or missing
    "audio",  # path relative to the root, or missing
    "video",  # path relative to the root, or missing
    "crop",  # (x, y, width, height) of the face in the picture, or missing
    "text",  # transcript, or missing
    "start_s",  # start within the file, seconds
    "end_s",  # end within the file, seconds; missing means the end of the file
    "votes",  # what annotators said, as JSON: {label: {class: votes}}, or missing
]
"""Columns every corpus has; beside them there is one column per label, holding the name of the class or a number."""


class Corpus:
    """Utterances on disk.

    Options are the keyword-only arguments of ``__init__``; each is kept in an attribute of the same name. A corpus
    must be picklable: worker processes read its media.

    A subclass defines ``read``. The media of an utterance are then the files its row names, from ``start_s`` to
    ``end_s``; a corpus whose sound and picture lie otherwise defines ``load_audio`` or ``load_video`` too. What a
    corpus has may depend on its options: an instance then sets ``classes``, ``values`` or ``modalities`` of its own.

    Attributes:
        name: the name it is registered under.
        classes: label -> names of its classes, in the order of their indices (such as emotion, gender).
        values: labels that are numbers (such as valence), columns of floats; NaN where nobody said.
        modalities: what it has of ``("audio", "video")``.
        picture: width and height of the films that ``crop`` is measured in; it is scaled in films of another size.
            None takes every film as it is.
        needs_root: whether the user must say where its folder is.
        version: raised whenever the same files and options give another table or signal: no old store is reused then.
        licence: the licence it comes with, in one line.
        reference: how to cite it.
        published_counts: speaker -> number of utterances as published; empty where nothing was published.
        published_classes: label -> class -> number of utterances as published.
    """

    name: ClassVar[str]
    classes: Mapping[str, tuple[str, ...]]
    values: tuple[str, ...] = ()
    modalities: tuple[str, ...]
    picture: ClassVar[tuple[int, int] | None] = None
    needs_root: ClassVar[bool] = True
    version: ClassVar[int] = 1
    licence: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    published_counts: Mapping[str, int] = MappingProxyType({})
    published_classes: Mapping[str, Mapping[str, int]] = MappingProxyType({})

    @property
    def options(self) -> dict[str, object]:
        """The options it was built with, by name."""
        return {name: getattr(self, name) for name in option_names(type(self))}

    def read(self, root: Path) -> pd.DataFrame:
        """Return the table of utterances found under ``root``, see ``COLUMNS``.

        Raises:
            CorpusError: the folder is missing or holds nothing of this corpus.
        """
        raise NotImplementedError(f"{type(self).__name__} must define read(root)")

    def misnamed(self, root: Path) -> list[str]:  # noqa: ARG002  (the base class finds fault with nothing)
        """Return one line for each file under ``root`` that should be an utterance and whose name does not parse.

        ``read`` leaves such files out; ``read_table`` refuses them, and ``check`` lists them all.
        """
        return []

    def remarks(self, root: Path) -> list[Finding]:  # noqa: ARG002  (the base class has nothing to say)
        """Return what ``check`` should tell of the files under ``root`` beside names, media, labels and counts.

        Such as media that nobody labelled, or lines of a label file that are not understood. None of it keeps the
        corpus from being prepared.
        """
        return []

    def load_audio(self, root: Path, utterance: Mapping[str, object]) -> NDArray[np.int16]:
        """Return the utterance's sound at 16 kHz, mono, shape ``(samples,)``: its range of the file it names.

        Raises:
            MediaError: the file cannot be read, is empty or silent, or ends before the utterance does.
        """
        return read_audio(file_of(root, utterance, "audio"), *span_of(utterance))

    def load_video(self, root: Path, utterance: Mapping[str, object], frame_size: int) -> NDArray[np.uint8]:
        """Return the utterance's face at 25 frames a second, shape ``(frames, size, size, 3)``.

        Its range of the file it names, cut to ``crop`` where there is one.

        Raises:
            MediaError: the file cannot be read, has no picture, or ends before the utterance does.
        """
        crop = utterance.get("crop")
        box = None if _is_missing(crop) else [int(value) for value in cast(Sequence[int], crop)]
        path = file_of(root, utterance, "video")
        return read_frames(path, frame_size, *span_of(utterance), crop=box, crop_of=self.picture)


def file_of(root: Path, utterance: Mapping[str, object], modality: str) -> Path:
    """Return the file of an utterance.

    Raises:
        MediaError: the table names none.
    """
    name = utterance.get(modality)
    if _is_missing(name):
        raise MediaError(f"{utterance['utterance']} has no {modality}: its file is missing")
    return root / str(name)


def span_of(utterance: Mapping[str, object]) -> tuple[float, float | None]:
    """Return where an utterance begins and ends within its file, seconds; None is the end of the file.

    >>> span_of({"start_s": 1.5, "end_s": float("nan")})
    (1.5, None)
    """
    start, end = utterance.get("start_s"), utterance.get("end_s")
    return 0.0 if _is_missing(start) else float(str(start)), None if _is_missing(end) else float(str(end))


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA


def read_table(corpus: Corpus, root: Path) -> pd.DataFrame:
    """Return the corpus's table, rows numbered from 0, checked to be one that the code for all corpora can use.

    Raises:
        CorpusError: the corpus cannot be read, a file's name does not parse, or a column, a name or a speaker lacks.
    """
    if problems := corpus.misnamed(root):
        more = f" (and {len(problems) - 1} more: see study corpus check)" if len(problems) > 1 else ""
        raise CorpusError(f"{problems[0]}{more}; rename or remove it")
    table = corpus.read(root).reset_index(drop=True)
    if faults := table_faults(corpus, table):
        raise CorpusError(f"corpus '{corpus.name}': {faults[0]}")
    return table


def table_faults(corpus: Corpus, table: pd.DataFrame) -> list[str]:
    """Return what keeps a table from being used: columns that lack, names that are there twice, nameless speakers."""
    if lacking := [name for name in [*COLUMNS, *corpus.classes, *corpus.values] if name not in table]:
        return [f"its table has no column '{lacking[0]}'"]
    twice = table.loc[table["utterance"].duplicated(), "utterance"].unique()
    nameless = table.loc[table["speaker"].isna(), "utterance"]
    return [
        *(f"utterance {name} is there {(table['utterance'] == name).sum()} times" for name in twice),
        *(f"utterance {name} has no speaker" for name in nameless),
    ]
