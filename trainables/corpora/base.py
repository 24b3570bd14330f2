"""The contract of a corpus: a folder on disk becomes a table of utterances."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strategies.options import option_names
from trainables.errors import CorpusError

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
    "votes",  # label -> votes, or missing
]
"""Columns every corpus has; beside them there is one column per label, holding the name of the class."""


class Corpus:
    """Utterances on disk.

    Options are the keyword-only arguments of ``__init__``; each is kept in an attribute of the same name. A corpus
    must be picklable: worker processes read its media.

    Attributes:
        name: the name it is registered under.
        classes: label -> names of its classes, in the order of their indices (such as emotion, gender).
        modalities: what it has of ``("audio", "video")``.
        needs_root: whether the user must say where its folder is.
        version: raised whenever the same files and options give another table or signal: no old store is reused then.
        licence: the licence it comes with, in one line.
        reference: how to cite it.
        published_counts: speaker -> number of utterances as published; empty where nothing was published.
    """

    name: ClassVar[str]
    classes: ClassVar[Mapping[str, tuple[str, ...]]]
    modalities: ClassVar[tuple[str, ...]]
    needs_root: ClassVar[bool] = True
    version: ClassVar[int] = 1
    licence: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    published_counts: ClassVar[Mapping[str, int]] = MappingProxyType({})

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

    def load_audio(self, root: Path, utterance: Mapping[str, object]) -> NDArray[np.int16]:
        """Return the utterance's sound at 16 kHz, mono, shape ``(samples,)``.

        Raises:
            MediaError: the file cannot be read, is empty or silent.
        """
        raise NotImplementedError(f"{type(self).__name__} has no audio")

    def load_video(self, root: Path, utterance: Mapping[str, object], frame_size: int) -> NDArray[np.uint8]:
        """Return the utterance's face at 25 frames a second, shape ``(frames, size, size, 3)``.

        Raises:
            MediaError: the file cannot be read or has no picture.
        """
        raise NotImplementedError(f"{type(self).__name__} has no video")


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
    if lacking := [name for name in [*COLUMNS, *corpus.classes] if name not in table]:
        return [f"its table has no column '{lacking[0]}'"]
    twice = table.loc[table["utterance"].duplicated(), "utterance"].unique()
    nameless = table.loc[table["speaker"].isna(), "utterance"]
    return [
        *(f"utterance {name} is there {(table['utterance'] == name).sum()} times" for name in twice),
        *(f"utterance {name} has no speaker" for name in nameless),
    ]
