"""The contract of a corpus: a folder on disk becomes a table of utterances."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strategies.registry import option_names

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
        version: raised whenever the same files and options give another table or signal, so that no old store is reused.
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
