"""Where the files of IEMOCAP lie: ``Session1`` to ``Session5``, each with ``dialog`` and ``sentences``."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainables.corpora.iemocap_files import DIALOG, Evaluations, parse_evaluations, parse_transcript
from trainables.errors import CorpusError

EVALUATIONS = "dialog/EmoEvaluation"
TRANSCRIPTS = "dialog/transcriptions"
FILMS = "dialog/avi/DivX"
DIALOG_SOUNDS = "dialog/wav"
SENTENCES = "sentences/wav"
_SESSION = re.compile(r"Session[1-5]")
_EXPECTED = "expected the folder IEMOCAP_full_release that holds Session1 to Session5"


@dataclass(frozen=True)
class Session:
    """The files of one session, listed once; what is not there is empty.

    Attributes:
        path: its folder.
        evaluations: files that may say what was seen in a dialog, by name without suffix.
        transcripts: what is said in a dialog.
        films: both actors side by side, for each dialog.
        dialog_sounds: both actors, for each dialog.
        sentences: the sound of each utterance.
    """

    path: Path
    evaluations: dict[str, Path]
    transcripts: dict[str, Path]
    films: dict[str, Path]
    dialog_sounds: dict[str, Path]
    sentences: dict[str, Path]

    @property
    def name(self) -> str:
        """Such as ``Session1``."""
        return self.path.name

    def is_own(self, dialog: str) -> bool:
        """Return whether it is the name of a dialog of this session."""
        match = DIALOG.fullmatch(dialog)
        return match is not None and int(match["session"]) == int(self.name[-1])

    def read(self) -> Iterator[tuple[Path, Evaluations]]:
        """Yield each file of its own dialogs with what it says, in the order of the names.

        Raises:
            CorpusError: a file cannot be read.
        """
        for dialog, path in self.evaluations.items():
            if self.is_own(dialog):
                yield path, parse_evaluations(read_text(path), dialog)

    def texts(self) -> dict[str, str]:
        """Return utterance -> what is said.

        Raises:
            CorpusError: a file cannot be read.
        """
        said: dict[str, str] = {}
        for path in self.transcripts.values():
            said |= parse_transcript(read_text(path))
        return said


def sessions_of(root: Path) -> list[Session]:
    """Return the sessions under the folder of the release, or under the one that holds it.

    Raises:
        CorpusError: the folder is missing, holds no session, cannot be read, or nothing in it is evaluated.
    """
    if not root.is_dir():
        raise CorpusError(f"{root} is not a folder: {_EXPECTED}")
    for folder in [root, *_folders(root)]:
        if paths := [path for path in _folders(folder) if _SESSION.fullmatch(path.name)]:
            sessions = [_session(path) for path in paths]
            if not any(session.evaluations for session in sessions):
                raise CorpusError(f"{folder} has no {paths[0].name}/{EVALUATIONS}/Ses*.txt: nothing in it has a label")
            return sessions
    raise CorpusError(f"{root} has no folder Session1: {_EXPECTED}")


def _session(path: Path) -> Session:
    return Session(
        path,
        {stem: file for stem, file in _files(path / EVALUATIONS, ".txt").items() if stem.startswith("Ses")},
        _files(path / TRANSCRIPTS, ".txt"),
        _files(path / FILMS, ".avi"),
        _files(path / DIALOG_SOUNDS, ".wav"),
        {stem: file for folder in _folders(path / SENTENCES) for stem, file in _files(folder, ".wav").items()},
    )


def _folders(folder: Path) -> list[Path]:
    return [path for path in _listed(folder) if path.is_dir()]


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    """Return name without suffix -> file; folders in it, ``.anvil`` files and what macOS leaves are left out."""
    return {path.stem: path for path in _listed(folder) if path.suffix.lower() == suffix and path.is_file()}


def _listed(folder: Path) -> list[Path]:
    """Return what is in a folder, in the order of the names, without hidden files; nothing if it is not there."""
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as failure:
        raise CorpusError(f"{folder} cannot be read: {failure.strerror or failure}") from failure


def read_text(path: Path) -> str:
    """Return a text file, whose few accented letters may be in UTF-8 or in Latin-1.

    Raises:
        CorpusError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as failure:
        raise CorpusError(f"{path} cannot be read: {failure.strerror or failure}") from failure
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")
