"""The contract of a corpus: a folder on disk becomes a table of utterances."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import ClassVar, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strategies.options import option_names
from trainables.corpora.faces import DETECTED, FIXED, Box
from trainables.corpora.finding import Defect, Finding
from trainables.corpora.folders import reading
from trainables.corpora.media import read_audio
from trainables.corpora.pictures import Faces, read_faces
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
MOST = "most_s"
"""What an utterance whose media are loaded has beside its columns: the seconds after which nothing of it is used."""


class Corpus:
    """Utterances on disk.

    Options are the keyword-only arguments of ``__init__``; each is kept in an attribute of the same name. A corpus
    must be picklable: worker processes read its media.

    A subclass defines ``read``. The media of an utterance are then the files its row names, from ``start_s`` to
    ``end_s``; a corpus whose sound and picture lie otherwise defines ``load_audio`` or ``load_video`` too, or
    ``load_faces`` where they are films in which a face can be found. What a corpus has may depend on its options: an
    instance then sets ``classes``, ``values`` or ``modalities`` of its own.

    Attributes:
        name: the name it is registered under.
        classes: label -> names of its classes, in the order of their indices (such as emotion, gender).
        values: labels that are numbers (such as valence), columns of floats; NaN where nobody said.
        modalities: what it has of ``("audio", "video", "text")``; with text, an utterance may lack its transcript.
        picture: width and height of the films that the column ``crop`` is measured in; it is scaled in films of
            another size. None takes every film as it is.
        crop: "fixed" (the face is the box in the column ``crop``, or the square in the middle) or "detected" (it is
            looked for in each utterance, and the fixed one stands in where none is found).
        needs_root: whether the user must say where its folder is.
        version: raised whenever the same files and options give another table or signal: no old store is reused then.
        licence: the licence it comes with, in one line.
        reference: how to cite it.
        published_counts: speaker -> number of utterances as published; empty where nothing was published.
        published_classes: label -> class -> number of utterances as published.
        known_defects: utterance -> what of it is missing or bad in the corpus as published; ``check`` tells it apart.
        policies: option -> its values, of options that decide which label an utterance gets.
    """

    name: ClassVar[str]
    classes: Mapping[str, tuple[str, ...]]
    values: tuple[str, ...] = ()
    modalities: tuple[str, ...]
    picture: ClassVar[tuple[int, int] | None] = None
    crop: str = FIXED
    needs_root: ClassVar[bool] = True
    version: ClassVar[int] = 1
    licence: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    published_counts: Mapping[str, int] = MappingProxyType({})
    published_classes: Mapping[str, Mapping[str, int]] = MappingProxyType({})
    known_defects: ClassVar[Mapping[str, Defect]] = MappingProxyType({})
    policies: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})

    @property
    def media(self) -> tuple[str, ...]:
        """Its modalities that are decoded and stored: all but the text, which is a column of the table."""
        return tuple(name for name in self.modalities if name != "text")

    @property
    def options(self) -> dict[str, object]:
        """The options it was built with, by name; without ``crop`` at its default, which is newer than many stores."""
        given = {name: getattr(self, name) for name in option_names(type(self))}
        return {name: value for name, value in given.items() if (name, value) != ("crop", FIXED)}

    @property
    def multilabels(self) -> Mapping[str, Mapping[str, tuple[str, str]]]:
        """Label -> class -> (column, value there that says yes), of labels whose classes may be true at once.

        The columns are among those of ``classes``; where a column is missing nobody said. The base class asks of each
        class of ``emotion`` whether it is the one, under the name ``emotions``, as Dai et al. 2021 do with IEMOCAP.
        """
        one_of = self.classes.get("emotion")
        return {"emotions": {name: ("emotion", name) for name in one_of}} if one_of else {}

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

    def clip(self, path: Path) -> dict[str, object] | None:
        """Return a row that has a file of a user's in ``path.parent`` read as the corpus reads its own.

        None if it cannot be: the file is then read as it is, the face being the square in the middle or what is found.
        """
        return {"utterance": path.stem, "audio": path.name, "video": path.name}

    def load_audio(self, root: Path, utterance: Mapping[str, object]) -> NDArray[np.int16]:
        """Return the utterance's sound at 16 kHz, mono, shape ``(samples,)``: its range of the file it names.

        Raises:
            MediaError: the file cannot be read, is empty or silent, or ends before the utterance does.
        """
        return read_audio(file_of(root, utterance, "audio"), *span_of(utterance), most_s=most_of(utterance))

    def load_video(self, root: Path, utterance: Mapping[str, object], frame_size: int) -> NDArray[np.uint8]:
        """Return the utterance's face at 25 frames a second, shape ``(frames, size, size, 3)``.

        Raises:
            MediaError: the file cannot be read, has no picture, or ends before the utterance does.
        """
        return self.load_faces(root, utterance, frame_size).pictures

    def load_faces(self, root: Path, utterance: Mapping[str, object], frame_size: int) -> Faces:
        """Return the utterance's face at 25 frames a second, and whether it was found.

        Its range of the file it names, cut to where a face is found if it is looked for, or else to ``crop`` where
        there is one.

        Raises:
            MediaError: the file cannot be read, has no picture, or ends before the utterance does.
        """
        crop = utterance.get("crop")
        box = None if _is_missing(crop) else [int(value) for value in cast(Sequence[int], crop)]
        return read_faces(
            file_of(root, utterance, "video"),
            frame_size,
            *span_of(utterance),
            crop=box,
            crop_of=self.picture,
            most_s=most_of(utterance),
            search=self.crop == DETECTED,
            area=self.face_area(utterance),
        )

    def face_area(self, utterance: Mapping[str, object]) -> Box | None:  # noqa: ARG002  (the base class knows none)
        """Return where in the picture the speaker's face may be, measured in ``picture``; None is everywhere.

        A corpus whose films show others beside the speaker says here where the speaker is.
        """
        return None


def file_of(root: Path, utterance: Mapping[str, object], modality: str) -> Path:
    """Return the file of an utterance.

    Raises:
        MediaError: the table names none.
    """
    name = utterance.get(modality)
    if _is_missing(name):
        raise MediaError(f"{utterance['utterance']} has no {modality}: its file is missing")
    if leaves_folder(str(name)):
        raise MediaError(f"{utterance['utterance']}: its {modality} {name} lies outside of the folder of the corpus")
    return root / str(name)


def leaves_folder(name: str) -> bool:
    """Return whether a path that a label file names leads out of the folder of the corpus.

    Links in the folder may lead elsewhere: whoever made the folder made them, and a corpus often lies on several disks.

    >>> leaves_folder("wav/a.wav"), leaves_folder("wav/../../a.wav"), leaves_folder("/etc/passwd")
    (False, True, True)
    """
    depth = 0
    for part in PurePath(name).parts:
        depth += {"..": -1, "/": -len(name), ".": 0}.get(part, 1)
        if depth < 0:
            return True
    return "\0" in name


def span_of(utterance: Mapping[str, object]) -> tuple[float, float | None]:
    """Return where an utterance begins and ends within its file, seconds; None is the end of the file.

    >>> span_of({"start_s": 1.5, "end_s": float("nan")})
    (1.5, None)
    """
    start, end = utterance.get("start_s"), utterance.get("end_s")
    return 0.0 if _is_missing(start) else float(str(start)), None if _is_missing(end) else float(str(end))


def most_of(utterance: Mapping[str, object]) -> float | None:
    """Return the seconds of an utterance after which nothing of it is used; None where all of it is wanted."""
    most = utterance.get(MOST)
    return None if most is None else float(str(most))


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA


def is_told(text: object) -> bool:
    """Return whether there is a transcript, and something in it.

    >>> is_told("Excuse me."), is_told(" "), is_told(None), is_told(float("nan"))
    (True, False, False, False)
    """
    return not _is_missing(text) and bool(str(text).strip())


def check_texts(table: pd.DataFrame, source: str) -> None:
    """Refuse a table without any transcript where a network is to read them.

    Args:
        table: of a corpus or a store.
        source: what to call it.

    Raises:
        CorpusError: no utterance has one.
    """
    if "text" not in table or not any(map(is_told, table["text"])):
        raise CorpusError(f"{source} has no transcripts: the column 'text' of its table is empty")


def read_table(corpus: Corpus, root: Path) -> pd.DataFrame:
    """Return the corpus's table, rows numbered from 0, checked to be one that the code for all corpora can use.

    Raises:
        CorpusError: the corpus cannot be read, a file's name does not parse, or a column, a name or a speaker lacks.
    """
    with reading(root):
        problems = corpus.misnamed(root)
    if problems:
        more = f" (and {len(problems) - 1} more: see study corpus check)" if len(problems) > 1 else ""
        raise CorpusError(f"{problems[0]}{more}; rename or remove it")
    with reading(root):
        table = corpus.read(root).reset_index(drop=True)
    if faults := table_faults(corpus, table):
        raise CorpusError(f"corpus '{corpus.name}': {faults[0]}")
    return table


def _named(table: pd.DataFrame, kind: str) -> Iterator[tuple[object, object]]:
    """Return utterance and file of every row that names one."""
    there = table[kind].notna()
    return zip(table.loc[there, "utterance"], table.loc[there, kind], strict=True)


def table_faults(corpus: Corpus, table: pd.DataFrame) -> list[str]:
    """Return what keeps a table from being used: columns that lack, names that are there twice, nameless speakers."""
    if lacking := [name for name in [*COLUMNS, *corpus.classes, *corpus.values] if name not in table]:
        return [f"its table has no column '{lacking[0]}'"]
    twice = table.loc[table["utterance"].duplicated(), "utterance"].unique()
    nameless = table.loc[table["speaker"].isna(), "utterance"]
    files = ((name, str(file)) for kind in ("audio", "video") for name, file in _named(table, kind))
    return [
        *(
            f"utterance {name} names {file}, outside of the corpus's folder"
            for name, file in files
            if leaves_folder(file)
        ),
        *(f"utterance {name} is there {(table['utterance'] == name).sum()} times" for name in twice),
        *(f"utterance {name} has no speaker" for name in nameless),
    ]
