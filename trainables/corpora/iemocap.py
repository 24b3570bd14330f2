"""IEMOCAP: ten actors in pairs, improvised and scripted, 10,039 evaluated utterances."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strategies.errors import unknown
from trainables.corpora.base import COLUMNS, Corpus, file_of, span_of
from trainables.corpora.faces import DETECTED, FIXED, Box, checked_crop
from trainables.corpora.finding import Finding
from trainables.corpora.iemocap_check import misnamed_lines, missing_sessions, session_findings
from trainables.corpora.iemocap_faces import FACES, PICTURE, face_box, panel_of
from trainables.corpora.iemocap_files import DIMENSIONS, Evaluation
from trainables.corpora.iemocap_folder import Session, sessions_of
from trainables.corpora.iemocap_labels import (
    CLASSES,
    DOMAINS,
    TIES,
    class_names,
    label_of,
    published_classes,
    published_speakers,
    votes_of,
)
from trainables.corpora.media import TOLERANCE_S, read_audio
from trainables.errors import CorpusError, MediaError
from trainables.inputs import SAMPLE_RATE

_GENDERS = {"F": "female", "M": "male"}
_SOUNDS = ("sentences", "published")


class Iemocap(Corpus):
    """The utterances of IEMOCAP that have a label under the policies chosen; the others are not in the table.

    Speaker and gender are those of the last letter of the utterance's name: ``Ses01F_impro01_M003`` is spoken by
    ``Ses01_M``. The letter of the dialog says who wears the markers and is a coin flip for the gender.

    Valence, arousal and dominance, 1 to 5, are the means that the evaluations give. ``votes`` has what the external
    evaluators said: of the emotion, one vote each, shared equally by those who name several; and their ratings.

    Args:
        emotions: "four" (neutral, anger, happiness with excitement, sadness; as most of the literature), "four_strict"
            (without excitement, as the code of Chae et al. 2018), "five", "six" or "nine", see ``iemocap_labels``.
        ties: what becomes of utterances without consensus: "drop" (as most of the literature), "random" or "first" of
            the classes with most votes; "published" as the code of Chae et al. 2018 does, which gives every utterance
            whose consensus is none of the classes, frustration too, the first class that the external evaluators list,
            in improvisations that the speaker does.
        seed: decides random ties.
        domain: "all", "improvised" (as the paper of Chae et al. 2018) or "scripted"; the scripts are the same in all
            sessions, so that what is said tells the emotion of a scripted utterance even to speakers never seen.
        faces: where to cut the face: "marker_left" (the box of Chae et al. 2018 in the speaker's half), "published"
            (the same boxes, but women always left and men right: the listener's face in about half of the dialogs),
            "panel" (the square in the middle of the speaker's half).
        sound: "sentences" (the speaker's own recording; where it is missing the mean of both channels of the dialog,
            whose order is not documented), or "published" (the film's left channel for women and right for men).
        video: whether to read the films too; many copies have the sound alone.
        crop: "fixed" (the box of ``faces``) or "detected" (the face is looked for in each utterance, in the speaker's
            half alone, see ``trainables.corpora.faces``).
    """

    name = "iemocap"
    values = DIMENSIONS
    policies = MappingProxyType({"emotions": tuple(CLASSES), "ties": TIES})
    picture = PICTURE
    version = 2
    licence = "IEMOCAP licence of the University of Southern California: academic use, not to be passed on"
    reference = (
        "Busso et al., IEMOCAP: interactive emotional dyadic motion capture database, Language Resources and "
        "Evaluation 42, 2008, 335-359. https://doi.org/10.1007/s10579-008-9076-6"
    )

    def __init__(
        self,
        *,
        emotions: str = "four",
        ties: str = "drop",
        seed: int = 0,
        domain: str = "all",
        faces: str = "marker_left",
        sound: str = "sentences",
        video: bool = True,
        crop: str = FIXED,
    ) -> None:
        self.emotions = _checked("emotions", emotions, CLASSES)
        self.ties = _checked("ties", ties, TIES)
        self.seed = seed
        self.domain = _checked("domain", domain, DOMAINS)
        self.faces = _checked("faces", faces, FACES)
        self.sound = _checked("sound", sound, _SOUNDS)
        if not isinstance(video, bool):
            raise CorpusError(f"video must be true or false, not {video!r}")
        self.video = video
        self.modalities = ("audio", "video", "text") if video else ("audio", "text")
        self.crop = checked_crop(crop, self.modalities)
        if faces == "published" and crop == DETECTED:
            raise CorpusError("faces 'published' shows the listener in half of the dialogs: nothing is detected there")
        self.classes = {"emotion": class_names(emotions), "gender": tuple(_GENDERS.values())}
        if ties == "drop":
            self.published_counts = published_speakers(emotions, domain)
            self.published_classes = {"emotion": published_classes(emotions, domain)}

    def read(self, root: Path) -> pd.DataFrame:
        """Return the table of the labelled utterances under ``root``, the folder of the release or the one above it.

        Files that are no dialog and damaged lines are left out, see ``misnamed``. ``audio`` and ``video`` are missing
        where the file is.

        Raises:
            CorpusError: the folder is missing or cannot be read, or none of its utterances has a label.
        """
        rows = [row for session in sessions_of(root) for row in self._rows(session, root)]
        if not rows:
            policies = f"emotions: {self.emotions}, ties: {self.ties}, domain: {self.domain}"
            raise CorpusError(f"{root} has no utterance with a label under {policies}")
        return pd.DataFrame(rows, columns=[*COLUMNS, "emotion", *DIMENSIONS])

    def misnamed(self, root: Path) -> list[str]:
        """Return one line for each file that is no dialog and for each damaged line of an utterance."""
        return [line for session in sessions_of(root) for line in misnamed_lines(session)]

    def remarks(self, root: Path) -> list[Finding]:
        """Return what the label files and folders show: lines not understood, media without labels, what is missing."""
        sessions = sessions_of(root)
        findings = [finding for session in sessions for finding in session_findings(session, has_video=self.video)]
        return [*missing_sessions(sessions), *findings]

    def clip(self, path: Path) -> None:  # noqa: ARG002
        """Return nothing: a user's film does not show two people side by side."""
        return

    def load_audio(self, root: Path, utterance: Mapping[str, object]) -> NDArray[np.int16]:
        """Return the utterance's sound at 16 kHz, mono, ``(samples,)``: its own file, or its range of the dialog.

        Raises:
            MediaError: the file cannot be read, is empty or silent, or is shorter than the utterance.
        """
        path, (start, end) = file_of(root, utterance, "audio"), span_of(utterance)
        if self.sound == "published":
            return read_audio(path, start, end, channel=0 if utterance["gender"] == "female" else 1)
        if path.stem != utterance["utterance"]:
            return read_audio(path, start, end)
        samples = read_audio(path)
        if end is not None and len(samples) / SAMPLE_RATE < end - start - TOLERANCE_S:
            lasts = f"{len(samples) / SAMPLE_RATE:.3f} s"
            raise MediaError(f"{path} lasts {lasts}, but its label says {end - start:.3f} s: it is cut off")
        return samples

    def face_area(self, utterance: Mapping[str, object]) -> Box:
        """Return the speaker's half of the picture, so that the other actor's face is never taken."""
        return panel_of(cast(Sequence[int], utterance["crop"]))

    def _rows(self, session: Session, root: Path) -> Iterator[dict[str, object]]:
        texts = session.texts()
        for _, evaluations in session.read():
            for evaluation in evaluations.found:
                label = label_of(evaluation, self.emotions, self.ties, self.seed)
                if label is not None and self.domain in ("all", evaluation.domain):
                    row = _row(evaluation) | self._files(session, evaluation, root)
                    labels = {"emotion": label, "votes": votes_of(evaluation, self.emotions)}
                    yield row | labels | {"session": session.name, "text": texts.get(evaluation.utterance)}

    def _files(self, session: Session, evaluation: Evaluation, root: Path) -> dict[str, object]:
        """Return the files of an utterance relative to the root, as far as they are there and asked for."""
        film = session.films.get(evaluation.dialog)
        sentence = session.sentences.get(evaluation.utterance, session.dialog_sounds.get(evaluation.dialog))
        sound = film if self.sound == "published" else sentence
        files: dict[str, object] = {"audio": sound and str(sound.relative_to(root))}
        if film and self.video:
            files |= {"video": str(film.relative_to(root)), "crop": face_box(self.faces, evaluation)}
        return files


def _row(evaluation: Evaluation) -> dict[str, object]:
    """Return what the evaluation alone says."""
    return {
        "utterance": evaluation.utterance,
        "speaker": f"{evaluation.utterance[:5]}_{evaluation.speaker}",
        "gender": _GENDERS[evaluation.speaker],
        "domain": evaluation.domain,
        "start_s": evaluation.start_s,
        "end_s": evaluation.end_s,
        **dict(zip(DIMENSIONS, evaluation.means, strict=True)),
    }


def _checked(option: str, value: str, allowed: Iterable[str]) -> str:
    names = tuple(allowed)
    if value not in names:
        raise CorpusError(unknown(option, str(value), names))
    return value
