"""RAVDESS: 24 actors speak two sentences in eight emotions."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainables.corpora.base import COLUMNS, Corpus
from trainables.corpora.media import read_audio, trimmed
from trainables.errors import CorpusError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""In the order of the file names' codes 01 to 08."""
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
_SUFFIXES = {".wav", ".flac"}
_NAME = re.compile(
    r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])-(?P<repetition>0[12])-(?P<actor>[0-2]\d)"
)
_GRAMMAR = "modality-channel-emotion-intensity-statement-repetition-actor, such as 03-01-05-02-01-01-12"
_TRIM_DB, _MARGIN_S = 40.0, 0.1


class Ravdess(Corpus):
    """The speech recordings of RAVDESS, sound only.

    Args:
        trim: cut the silence before and after the sentence (about a second each), which otherwise takes up most of
            what a network with a short input sees: 25-ms windows 40 dB below the loudest, 0.1 s of margin.
    """

    name = "ravdess"
    classes = {"emotion": EMOTIONS, "gender": ("female", "male")}  # noqa: RUF012  (the base class declares it a ClassVar)
    modalities = ("audio",)
    version = 1
    licence = "CC BY-NC-SA 4.0"
    reference = (
        "Livingstone & Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE 13(5), 2018, "
        "e0196391. https://doi.org/10.1371/journal.pone.0196391"
    )

    published_counts = MappingProxyType({f"Actor_{actor:02d}": 60 for actor in range(1, 25)})

    def __init__(self, *, trim: bool = True) -> None:
        self.trim = trim

    def read(self, root: Path) -> pd.DataFrame:
        """Return the table of the speech recordings under ``root``: ``Actor_*/03-01-*.wav`` (or flac).

        Files whose names do not parse are left out, see ``misnamed``.

        Raises:
            CorpusError: the folder is missing or holds no such file.
        """
        folder = _find_actors(root)
        named = [path for path in _sound_files(folder) if _misname(path) is None]
        speech = [row for path in named if (row := _row(path, root)) is not None]
        if not speech:
            raise CorpusError(
                f"{folder} has no speech of RAVDESS: expected Actor_01/03-01-01-01-01-01-01.wav and so on"
            )
        return pd.DataFrame(speech, columns=[*COLUMNS, "emotion"])

    def misnamed(self, root: Path) -> list[str]:
        """Return one line for each sound file of an actor whose name does not parse."""
        return [line for path in _sound_files(_find_actors(root)) if (line := _misname(path)) is not None]

    def load_audio(self, root: Path, utterance: Mapping[str, object]) -> NDArray[np.int16]:
        """Return the utterance's sound at 16 kHz, mono, ``(samples,)``."""
        samples = read_audio(root / str(utterance["audio"]))
        return trimmed(samples, _TRIM_DB, _MARGIN_S) if self.trim else samples


def parse_name(path: Path) -> dict[str, str]:
    """Return the parts of a file name.

    >>> parse_name(Path("03-01-05-02-01-01-12.wav"))["emotion"]
    '05'

    Raises:
        CorpusError: the name does not follow the grammar.
    """
    match = _NAME.fullmatch(path.stem)
    if match is None or not 1 <= int(match["actor"]) <= 24:
        raise CorpusError(f"{path.parent.name}/{path.name} is not a RAVDESS file name: expected {_GRAMMAR}")
    return match.groupdict()


def _find_actors(root: Path) -> Path:
    """Return the folder that holds ``Actor_*``: the root, or the one folder in it that does."""
    if not root.is_dir():
        raise CorpusError(f"{root} is not a folder: expected the folder of RAVDESS that holds Actor_01 to Actor_24")
    for folder in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
        if _actors(folder):
            return folder
    raise CorpusError(f"{root} has no folder Actor_01: expected the folder of RAVDESS that holds Actor_01 to Actor_24")


def _actors(folder: Path) -> list[Path]:
    """Return the actors' folders; the archives they came in may lie beside them."""
    return sorted(path for path in folder.glob("Actor_*") if path.is_dir())


def _sound_files(folder: Path) -> Iterator[Path]:
    """Yield sound files in the order of their names; ``._`` files are what macOS leaves in copies."""
    for actor in _actors(folder):
        for path in sorted(actor.iterdir()):
            if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
                yield path


def _misname(path: Path) -> str | None:
    try:
        parse_name(path)
    except CorpusError as problem:
        return str(problem)
    return None


def _row(path: Path, root: Path) -> dict[str, object] | None:
    """Return the row of a file, or nothing if it is song or has a picture."""
    parts = parse_name(path)
    if (parts["modality"], parts["channel"]) != ("03", "01"):
        return None
    actor = int(parts["actor"])
    return {
        "utterance": path.stem,
        "speaker": f"Actor_{actor:02d}",
        "gender": "male" if actor % 2 else "female",
        "domain": "speech",
        "audio": str(path.relative_to(root)),
        "text": STATEMENTS[int(parts["statement"]) - 1],
        "start_s": 0.0,
        "emotion": EMOTIONS[int(parts["emotion"]) - 1],
    }
