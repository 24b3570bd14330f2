"""RAVDESS: 24 actors speak two sentences in eight emotions."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strategies.errors import unknown
from trainables.corpora.base import COLUMNS, Corpus, file_of
from trainables.corpora.faces import FIXED, checked_crop
from trainables.corpora.folders import files_in, folders_in, refusals
from trainables.corpora.media import read_audio, speech_span, trimmed
from trainables.corpora.pictures import Faces
from trainables.errors import CorpusError
from trainables.inputs import FRAME_RATE, SAMPLES_PER_FRAME

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""In the order of the file names' codes 01 to 08."""
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
FACE = (380, 130, 520, 520)
"""x, y, width and height of the face in the films of 1280 x 720.

The actors sit before a fixed camera, so one box serves all. It holds every landmark from brow to chin (x 449 to 840, y
239 to 616) of the eight actors 01, 02, 05, 08, 12, 15, 18 and 24 in the published tracking (RAVDESS Facial Landmark
Tracking, https://doi.org/10.5281/zenodo.3255102), with room for forehead and movement. Half of what the largest square
in the middle shows is wall and shirt.
"""
PICTURE = (1280, 720)
VOCAL = ("speech", "song", "both")
NUM_SONG_EMOTIONS = 6
"""Nobody sings disgust or surprise."""
_SOUND, _FILM = {".wav", ".flac"}, {".mp4"}
_CHANNELS = MappingProxyType({"01": "speech", "02": "song"})
_NAME = re.compile(
    r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])-(?P<repetition>0[12])-(?P<actor>[0-2]\d)"
)
_GRAMMAR = "modality-channel-emotion-intensity-statement-repetition-actor, such as 03-01-05-02-01-01-12"
_TRIM_DB, _MARGIN_S = 40.0, 0.1


class Ravdess(Corpus):
    """The recordings of RAVDESS: sound or film, speech or song.

    Args:
        trim: cut the silence before and after the sentence (about a second each), which otherwise takes up most of
            what a network with a short input sees: 25-ms windows 40 dB below the loudest, 0.1 s of margin. A film is
            cut at its pictures' edges, sound and picture alike.
        video: read the films with sound (``01-*.mp4``) and not the recordings of sound alone (``03-*.wav``).
        vocal: ``speech``, ``song`` (six emotions; actor 18 has none) or ``both``.
        crop: "fixed" (one box for all films, ``FACE``) or "detected" (the face is looked for in each film, see
            ``trainables.corpora.faces``).
    """

    name = "ravdess"
    classes = {"emotion": EMOTIONS, "gender": ("female", "male")}  # noqa: RUF012  (the base class declares it a ClassVar)
    modalities: tuple[str, ...] = ("audio",)
    picture = PICTURE
    version = 1
    licence = "CC BY-NC-SA 4.0"
    reference = (
        "Livingstone & Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE 13(5), 2018, "
        "e0196391. https://doi.org/10.1371/journal.pone.0196391"
    )

    published_counts: Mapping[str, int] = MappingProxyType({f"Actor_{actor:02d}": 60 for actor in range(1, 25)})

    def __init__(self, *, trim: bool = True, video: bool = False, vocal: str = "speech", crop: str = FIXED) -> None:
        if not isinstance(video, bool):
            raise CorpusError(f"video must be true or false, not {video!r}")
        if vocal not in VOCAL:
            raise CorpusError(unknown("vocal", str(vocal), VOCAL))
        self.trim, self.video, self.vocal = trim, video, vocal
        if video:
            self.modalities = ("audio", "video")
        self.crop = checked_crop(crop, self.modalities)
        if vocal == "song":
            self.classes = {**self.classes, "emotion": EMOTIONS[:NUM_SONG_EMOTIONS]}
        if vocal != "speech":
            self.published_counts = _published(with_speech=vocal == "both")

    @property
    def options(self) -> dict[str, object]:
        """The options it was built with; without those that are newer than many stores and at their defaults."""
        newer = {"video": False, "vocal": "speech"}
        return {name: value for name, value in super().options.items() if newer.get(name) != value}

    def read(self, root: Path) -> pd.DataFrame:
        """Return the table of the recordings under ``root``: ``Actor_*/03-01-*.wav`` (or flac), or what was asked for.

        Files whose names do not parse are left out, see ``misnamed``.

        Raises:
            CorpusError: the folder is missing or holds no such file.
        """
        named = [path for path in self._files(root) if not refusals([path], parse_name)]
        rows = [_row(path, root, self.video) for path in named if self._wanted(path)]
        if not rows:
            raise CorpusError(f"{root} has no {self._sought()} and so on")
        return pd.DataFrame(rows, columns=[*COLUMNS, "emotion"])

    def misnamed(self, root: Path) -> list[str]:
        """Return one line for each file of an actor whose name does not parse."""
        return refusals(self._files(root), parse_name)

    def clip(self, path: Path) -> dict[str, object]:
        """Return a row for a user's file: trimmed as the corpus is, and the face where it is in all of its films."""
        return {"utterance": path.stem, "audio": path.name, "video": path.name, "crop": FACE}

    def load_audio(self, root: Path, utterance: Mapping[str, object]) -> NDArray[np.int16]:
        """Return the utterance's sound at 16 kHz, mono, ``(samples,)``."""
        samples = read_audio(root / str(utterance["audio"]))
        if not self.trim:
            return samples
        if not self.video:
            return trimmed(samples, _TRIM_DB, _MARGIN_S)
        first, last = _frames_of_speech(samples)
        return samples[first * SAMPLES_PER_FRAME : None if last is None else last * SAMPLES_PER_FRAME]

    def load_faces(self, root: Path, utterance: Mapping[str, object], frame_size: int) -> Faces:
        """Return the face at 25 frames a second, and whether it was found, of the time of ``load_audio``."""
        path = file_of(root, utterance, "video")
        first, last = _frames_of_speech(read_audio(path)) if self.trim else (0, None)
        span = {"start_s": first / FRAME_RATE, "end_s": None if last is None else last / FRAME_RATE}
        return super().load_faces(root, {**utterance, **span}, frame_size)

    def _files(self, root: Path) -> list[Path]:
        suffixes = _FILM if self.video else _SOUND
        return [path for actor in _find_actors(root) for path in files_in(actor, suffixes)]

    def _sought(self) -> str:
        kind = "speech or song" if self.vocal == "both" else self.vocal
        modality, film, suffix = ("01", " on film", "mp4") if self.video else ("03", "", "wav")
        channel = "02" if self.vocal == "song" else "01"
        return f"{kind} of RAVDESS{film}: expected Actor_01/{modality}-{channel}-01-01-01-01-01.{suffix}"

    def _wanted(self, path: Path) -> bool:
        parts = parse_name(path)
        channel = _CHANNELS[parts["channel"]]
        return parts["modality"] == ("01" if self.video else "03") and self.vocal in (channel, "both")


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
    if match["channel"] == "02" and int(match["emotion"]) > NUM_SONG_EMOTIONS:
        raise CorpusError(
            f"{path.parent.name}/{path.name} is not a RAVDESS file name: expected one of the six emotions of song"
        )
    return match.groupdict()


def _published(*, with_speech: bool) -> dict[str, int]:
    """Return actor -> number of songs, or of recordings of both kinds."""
    actors = {f"Actor_{actor:02d}": 44 + 60 * with_speech for actor in range(1, 25)}
    actors["Actor_18"] -= 44
    return {actor: count for actor, count in actors.items() if count}


def _find_actors(root: Path) -> list[Path]:
    """Return the folders ``Actor_*`` in the root; lacking those, in the folders of it, one for each archive."""
    if not root.is_dir():
        raise CorpusError(f"{root} is not a folder: expected the folder of RAVDESS that holds Actor_01 to Actor_24")
    for places in ([root], folders_in(root)):
        if actors := [actor for place in places for actor in folders_in(place) if actor.name.startswith("Actor_")]:
            return actors
    raise CorpusError(f"{root} has no folder Actor_01: expected the folder of RAVDESS that holds Actor_01 to Actor_24")


def _frames_of_speech(samples: NDArray[np.int16]) -> tuple[int, int | None]:
    """Return the first picture of the sentence and the one after its last; None is the end of the film."""
    start, stop = speech_span(samples, _TRIM_DB, _MARGIN_S)
    last = -(-stop // SAMPLES_PER_FRAME)
    return start // SAMPLES_PER_FRAME, last if last * SAMPLES_PER_FRAME < len(samples) else None


def _row(path: Path, root: Path, video: bool) -> dict[str, object]:
    parts = parse_name(path)
    actor, name = int(parts["actor"]), str(path.relative_to(root))
    return {
        "utterance": path.stem,
        "speaker": f"Actor_{actor:02d}",
        "gender": "male" if actor % 2 else "female",
        "domain": _CHANNELS[parts["channel"]],
        "audio": name,
        **({"video": name, "crop": FACE} if video else {}),
        "text": STATEMENTS[int(parts["statement"]) - 1],
        "start_s": 0.0,
        "emotion": EMOTIONS[int(parts["emotion"]) - 1],
    }
