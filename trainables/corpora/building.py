"""A store in the making: a folder that grows utterance by utterance and survives whatever ends the process.

Finished utterances are appended to the arrays, and then to a journal. What the journal does not hold is cut off again
when the next process takes the folder over, so that nothing is decoded twice and nothing half is kept.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainables.corpora.decoding import Media, bytes_of
from trainables.inputs import SAMPLES_PER_FRAME

JOURNAL = "journal.jsonl"
LOCK = "lock"
PARTS = "parts"
"""Folder of what is decoded and not yet appended; of no worth once its process has ended."""
_READ = 2**22
_PAUSE_S = 0.2


class Building:
    """The arrays of a store, as far as they are written.

    Args:
        folder: where they are; what an earlier process left there is taken over.

    Attributes:
        kept: for each utterance that is in the arrays its row in the table and its place, and how its face was cut
            if that was looked for.
        skipped: for each that cannot be used its name and the problem.
        parts: an empty folder for what is not yet appended.
        digest: SHA-256 of the content of the arrays, utterance by utterance, sound before pictures.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / PARTS
        shutil.rmtree(self.parts, ignore_errors=True)
        self.parts.mkdir()
        self.kept: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []
        self.digest = hashlib.sha256()
        self._samples = self._frames = self._frame_bytes = 0
        self._sound_end = self._pictures_end = 0
        entries = self._take_over()
        self._sound = _opened_at(folder / "audio.int16", self._sound_end)
        self._pictures = _opened_at(folder / "frames.uint8", self._pictures_end)
        _rewrite(folder / JOURNAL, entries)
        self._journal = (folder / JOURNAL).open("a", encoding="utf-8")

    @property
    def done(self) -> int:
        """Number of utterances that need not be decoded again."""
        return len(self.kept) + len(self.skipped)

    def append(self, row: int, utterance: str, media: Media) -> None:
        """Add one utterance, the next row of the table; it is in the journal when this returns."""
        sound, pictures = bytes_of(media.audio), bytes_of(media.frames)
        self._sound.write(sound)
        self._pictures.write(pictures)
        self._sound.flush()
        self._pictures.flush()
        samples = 0 if media.audio is None else len(media.audio)
        entry: dict[str, Any] = {"row": row, "utterance": utterance, "samples": samples}
        entry |= {"frames": 0 if media.frames is None else len(media.frames), "bytes": [len(sound), len(pictures)]}
        told = {"problem": media.problem, "face": media.face}
        entry |= {name: value for name, value in told.items() if value is not None}
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()
        self.digest.update(sound)
        self.digest.update(pictures)
        self._note(entry)

    def close(self) -> None:
        """Close the files."""
        for file in (self._sound, self._pictures, self._journal):
            file.close()

    def _note(self, entry: Mapping[str, Any]) -> None:
        if "problem" in entry:
            self.skipped.append({"utterance": entry["utterance"], "problem": entry["problem"]})
            return
        place: dict[str, Any] = {"row": entry["row"], "audio_start": self._samples, "frame_start": self._frames}
        place["num_samples"] = entry["samples"]
        place["num_frames"] = entry["frames"] or -(-entry["samples"] // SAMPLES_PER_FRAME)
        self._samples, self._frames = self._samples + entry["samples"], self._frames + entry["frames"]
        self.kept.append(place | ({"face": entry["face"]} if "face" in entry else {}))

    def _take_over(self) -> list[str]:
        """Read what is in the journal and in the arrays; return the journal's lines that hold."""
        lines: list[str] = []
        with (
            contextlib.ExitStack() as files,
            contextlib.suppress(FileNotFoundError, ValueError, KeyError),  # a line that was cut short, and all after it
        ):
            journal = files.enter_context((self.folder / JOURNAL).open(encoding="utf-8"))
            sound = files.enter_context((self.folder / "audio.int16").open("rb"))
            pictures = files.enter_context((self.folder / "frames.uint8").open("rb"))
            for row, line in enumerate(journal):
                entry = json.loads(line)
                digest = self.digest.copy()
                whole = all(
                    _digested(file, size, digest) for file, size in zip((sound, pictures), entry["bytes"], strict=True)
                )
                if not whole or entry["row"] != row or not line.endswith("\n"):
                    break
                self.digest = digest
                self._sound_end, self._pictures_end = sound.tell(), pictures.tell()
                self._note(entry)
                lines.append(line)
        return lines


@contextlib.contextmanager
def locked(folder: Path, finished: Path) -> Iterator[bool]:
    """Hold the folder for this process alone; wait while another one builds in it.

    Yields:
        whether there is anything left to do: False once ``finished`` is there.
    """
    import fcntl

    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as failure:
                if failure.errno in (errno.EACCES, errno.EAGAIN):
                    time.sleep(_PAUSE_S)
                    continue
                # A file system without locks: two processes may then build the same store, and one finds it in place.
            if not _same_file(file.fileno(), folder / LOCK):  # it was put in place or removed while we waited
                continue
            if finished.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
                yield False
            else:
                yield True
            return


def is_free(folder: Path) -> bool:
    """Whether no process builds in a folder."""
    import fcntl

    try:
        with (folder / LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _opened_at(path: Path, end: int) -> Any:  # noqa: ANN401  (a file open for writing bytes)
    """Open a file for appending after its first ``end`` bytes; the rest is cut off."""
    file = path.open("ab")
    file.truncate(end)
    file.seek(end)
    return file


def _rewrite(path: Path, lines: list[str]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text("".join(lines), encoding="utf-8")
    temporary.replace(path)


def _digested(file: Any, size: int, digest: "hashlib._Hash") -> bool:  # noqa: ANN401
    """Add the next ``size`` bytes of a file to a digest; False if it does not have them."""
    while size:
        content = file.read(min(size, _READ))
        if not content:
            return False
        digest.update(content)
        size -= len(content)
    return True
