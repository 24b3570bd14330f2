"""CMU-MOSEI: people who speak to a camera, in films of the web, with emotions rated clip by clip."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from strategies.errors import unknown
from trainables.corpora.base import COLUMNS, Corpus
from trainables.corpora.finding import Finding, few
from trainables.corpora.folders import files_in, folders_in
from trainables.corpora.tabular import Line, read_lines, repaired
from trainables.corpora.votes import as_json, checked_ties, winner
from trainables.errors import CorpusError

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
PRESENCE = ("absent", "present")
POLICIES = ("multi", "dominant")
_TRANSCRIPTS = ("Transcript/Combined", "Transcript/Full/Combined")
_SOUNDS = ("Audio/WAV_16000", "Audio/Full/WAV_16000")
_FILMS = ("Videos/Full/Combined", "Videos/Combined")
_COLUMNS = ("Input.VIDEO_ID", "Input.CLIP", *(f"Answer.{emotion}" for emotion in EMOTIONS))
_GRAMMAR = "video___clip___start___end___text"
_LINE = re.compile(
    r"(?P<video>.+?)___(?P<clip>\d+)___(?P<start>-?\d+(?:\.\d*)?)___(?P<end>-?\d+(?:\.\d*)?)___(?P<text>.*)"
)

Ratings = Sequence[Mapping[str, float | None]]
"""What each annotator of a clip said: emotion -> intensity, None where the answer is empty."""


class Mosei(Corpus):
    """The clips of CMU-MOSEI, as the raw files of the release have them, with the whole picture as the face.

    Nobody wrote down who speaks: the name of the film stands for the speaker, so that a split by speaker is a split by
    film, as the published ones are; whoever is in two films may still be in two parts. Genders are unknown.

    Args:
        policy: ``multi`` makes every emotion a label of its own, present if any annotator gave it more than 0, as in
            MESM (Dai et al. 2021); ``dominant`` makes one label, the emotion with the highest intensity summed over
            the annotators, and none where nobody saw any.
        ties: what ``dominant`` does where two emotions are equally strong, see ``trainables.corpora.votes.Ties``.
        seed: decides random ties.
    """

    name = "mosei"
    modalities = ("audio", "video")
    licence = "as its authors offer it for download, for research; the films belong to those who made them"
    reference = (
        "Bagher Zadeh, Liang, Poria, Cambria & Morency, Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset "
        "and Interpretable Dynamic Fusion Graph, ACL 2018, 2236-2246. https://doi.org/10.18653/v1/P18-1208"
    )

    def __init__(self, *, policy: str = "multi", ties: str = "drop", seed: int = 0) -> None:
        if policy not in POLICIES:
            raise CorpusError(unknown("policy", str(policy), POLICIES))
        self.policy = policy
        self.ties = checked_ties(ties)
        self.seed = seed
        self.classes = dict.fromkeys(EMOTIONS, PRESENCE) if policy == "multi" else {"emotion": EMOTIONS}

    def read(self, root: Path) -> pd.DataFrame:
        """Return the table of the clips that have a transcript, which says when they are, and a label.

        Raises:
            CorpusError: the folder is missing, holds nothing of this corpus, or a label file is damaged.
        """
        files = _find(root)
        ratings = _ratings(files.labels)
        clips = [clip for clip in _clips(files.transcripts)[0] if clip.name in ratings]
        rows = [self._row(clip, ratings[clip.name], files) for clip in clips]
        return pd.DataFrame(rows, columns=[*COLUMNS, *self.classes])

    def misnamed(self, root: Path) -> list[str]:
        """Return one line for each line of a transcript that does not parse."""
        return _clips(_find(root).transcripts)[1]

    def remarks(self, root: Path) -> list[Finding]:
        """Return clips with a transcript and no label, or with a label and no transcript, and films nobody speaks in.

        The release has all three: none keeps the rest from being used.
        """
        files = _find(root)
        rated, clips = set(_ratings(files.labels)), _clips(files.transcripts)[0]
        said, films = {clip.name for clip in clips}, {clip.video for clip in clips}
        told = [
            ("label", sorted(said - rated), "clips have a transcript and no label, and are left out"),
            ("label", sorted(rated - said), "clips have a label and no transcript, and are left out"),
            ("media", sorted((files.sounds.keys() | files.films.keys()) - films), "films have no transcript"),
        ]
        return [Finding(kind, self.name, f"{len(names)} {what}: {few(names)}") for kind, names, what in told if names]

    def _row(self, clip: "_Clip", ratings: Ratings, files: "_Files") -> dict[str, object]:
        row: dict[str, object] = {
            "utterance": clip.name,
            "speaker": clip.video,
            "audio": files.sounds.get(clip.video),
            "video": files.films.get(clip.video),
            "text": clip.text,
            "start_s": clip.start_s,
            "end_s": clip.end_s,
        }
        return row | (_presence(ratings) if self.policy == "multi" else self._dominant(clip.name, ratings))

    def _dominant(self, utterance: str, ratings: Ratings) -> dict[str, object]:
        sums = {emotion: sum(rating[emotion] or 0.0 for rating in ratings) for emotion in EMOTIONS}
        emotion = winner(sums, self.ties, EMOTIONS, utterance=utterance, seed=self.seed)
        return {"emotion": emotion, "votes": as_json({"emotion": sums})}


@dataclass(frozen=True)
class _Clip:
    """A line of a transcript: what is said in a film, and when, seconds."""

    video: str
    number: int
    start_s: float
    end_s: float
    text: str

    @property
    def name(self) -> str:
        return f"{self.video}_{self.number}"


@dataclass(frozen=True)
class _Files:
    """What is below the root: transcripts and label files, and film -> file relative to the root."""

    transcripts: list[Path]
    labels: list[Path]
    sounds: dict[str, str]
    films: dict[str, str]


def _find(root: Path) -> _Files:
    if not root.is_dir():
        raise CorpusError(f"{root} is not a folder: expected the folder of CMU-MOSEI that holds Labels and Transcript")
    home = next((folder for folder in [root, *folders_in(root)] if (folder / "Labels").is_dir()), None)
    if home is None:
        raise CorpusError(f"{root} has no folder Labels: expected the folder of CMU-MOSEI that holds it")
    transcripts, labels = _files(home, _TRANSCRIPTS, ".txt"), _files(home, ("Labels",), ".csv")
    for found, what in ((transcripts, f"{_TRANSCRIPTS[0]}/*.txt"), (labels, "Labels/*.csv")):
        if not found:
            raise CorpusError(f"{home} has no {what}: the corpus is not complete")
    sounds, films = _files(home, _SOUNDS, ".wav"), _files(home, _FILMS, ".mp4")
    return _Files(
        transcripts, labels, *({path.stem: str(path.relative_to(root)) for path in paths} for paths in (sounds, films))
    )


def _files(home: Path, places: Sequence[str], suffix: str) -> list[Path]:
    """Return the files in the first of some places that is there."""
    folder = next((home / place for place in places if (home / place).is_dir()), None)
    return [] if folder is None else files_in(folder, {suffix})


def _clips(transcripts: Sequence[Path]) -> tuple[list[_Clip], list[str]]:
    """Return the clips of all films, and one line for each line that is none."""
    clips, problems = [], []
    for path in transcripts:
        try:
            lines = path.read_bytes().decode("utf-8-sig", errors="surrogateescape").split("\n")
        except OSError as failure:
            raise CorpusError(f"{path} cannot be read: {failure.strerror or failure}") from failure
        for number, line in enumerate(lines, start=1):
            match = _LINE.fullmatch(line.strip())
            if match is not None and match["video"] == path.stem:
                clips.append(_clip(match))
            elif line.strip():
                problems.append(f"{path.name}, line {number} is not {_GRAMMAR} of film {path.stem}")
    return clips, problems


def _clip(match: re.Match[str]) -> _Clip:
    """Return the clip of a line; some clips of the release begin a little before their film does."""
    start_s = max(0.0, float(match["start"]))
    return _Clip(match["video"], int(match["clip"]), start_s, float(match["end"]), repaired(match["text"]))


def _ratings(labels: Sequence[Path]) -> dict[str, list[dict[str, float | None]]]:
    """Return clip -> what each of its annotators said, over all label files."""
    ratings: dict[str, list[dict[str, float | None]]] = {}
    for path in labels:
        for line in read_lines(path, _COLUMNS):
            name = f"{line.fields['Input.VIDEO_ID'].rpartition('/')[2]}_{line.whole_number('Input.CLIP')}"
            ratings.setdefault(name, []).append({emotion: _intensity(line, emotion) for emotion in EMOTIONS})
    return ratings


def _intensity(line: Line, emotion: str) -> float | None:
    value = line.number(f"Answer.{emotion}")
    if value is not None and value < 0:
        raise CorpusError(f"{line.where}: Answer.{emotion} is {value:g}, but intensities are not negative")
    return value


def _presence(ratings: Ratings) -> dict[str, object]:
    """Return a label for each emotion: present if any annotator gave it more than 0, missing if nobody answered."""
    labels: dict[str, object] = {}
    votes: dict[str, dict[str, float]] = {}
    for emotion in EMOTIONS:
        said = [rating[emotion] for rating in ratings if rating[emotion] is not None]
        present = sum(bool(value) for value in said)
        votes[emotion] = {"present": present, "absent": len(said) - present}
        labels[emotion] = None if not said else PRESENCE[present > 0]
    return labels | {"votes": as_json(votes)}
