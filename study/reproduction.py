"""Run a study again from its lock file, and say whether the same numbers come out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study import job
from study.definition import Definition, validate
from study.errors import StudyError
from study.records import StudyFolder
from study.validation import LARGEST_LOCK, checked_lock
from study.verification import (
    GPU_TOLERANCE,
    MOST_LINES,
    Difference,
    differences_of,
    numbers_of,
    prepared,
    row_differences,
)

if TYPE_CHECKING:
    from study.progress import Display


@dataclass(frozen=True)
class Reproduction:
    """How a study did when it was run again.

    Attributes:
        folder: where it was run now.
        verified: trial -> numbers that were compared, and those that differ; of trials that have rows in both.
        missing: trials without rows in one of the two.
        tolerance: what counts as the same.
        circumstances: what is not as it was.
        has_rows: whether there was anything beside the lock to compare with.
    """

    folder: StudyFolder
    verified: Mapping[str, tuple[int, tuple[Difference, ...]]]
    missing: tuple[str, ...]
    tolerance: float
    circumstances: tuple[str, ...]
    has_rows: bool

    @property
    def is_same(self) -> bool:
        """Whether everything that was recorded came out again."""
        return self.has_rows and not self.missing and not any(found for _, found in self.verified.values())

    @property
    def lines(self) -> list[str]:
        """The verdict, the trials that differ with the first number that does, and those that are missing."""
        if not self.has_rows:
            return [f"{self.folder.name} was run again; there are no rows beside the lock to compare it with"]
        how = "bit for bit" if self.tolerance == 0 else f"within {self.tolerance:g}"
        differing = {trial: found for trial, (_, found) in self.verified.items() if found}
        numbers = sum(count for count, _ in self.verified.values())
        total = len(self.verified) + len(self.missing)
        lines = [
            f"{total - len(differing) - len(self.missing)} of {total} trials are the same {how} ({numbers} numbers)"
        ]
        lines += [
            f"{trial}: {len(found)} numbers differ, first {found[0]}"
            for trial, found in list(differing.items())[:MOST_LINES]
        ]
        if len(differing) > MOST_LINES:
            lines.append(f"and {len(differing) - MOST_LINES} more trials differ")
        if self.missing:
            shown = ", ".join(self.missing[:MOST_LINES])
            lines.append(f"{len(self.missing)} trials have rows in one of the two only: {shown}")
        return lines


def read_lock(path: Path) -> dict[str, Any]:
    """Return the content of a lock file, or of the lock in a study's folder.

    Raises:
        StudyError: it cannot be read, or is none.
    """
    file = path / "lock.json" if path.is_dir() else path
    try:
        with file.open("rb") as opened:
            content = json.loads(opened.read(LARGEST_LOCK))
    except (OSError, ValueError, RecursionError) as failure:
        reason = getattr(failure, "strerror", None) or "it is not JSON"
        raise StudyError(f"{file} cannot be read: {reason}; expected the lock.json of a study") from failure
    return checked_lock(content, str(file))


def reproduce(
    path: Path,
    home: Path,
    display: Display,
    *,
    root: Path | None = None,
    address: str | None = None,
    tolerance: float | None = None,
    run: Callable[..., job.Outcome] = job.run,
) -> Reproduction:
    """Run a study again from its lock file, in a home of its own, and compare every row with those beside the lock.

    Args:
        path: the ``lock.json``, or the folder it lies in.
        home: new home; what an earlier, interrupted reproduction has finished there is kept.
        display: told of what is not as it was.
        root: folder of the corpus, where it lies elsewhere now.
        address: of a Ray cluster; None starts Ray on this machine.
        tolerance: what counts as the same; None is 0 without a GPU and ``GPU_TOLERANCE`` with one.
        run: what runs a study.

    Raises:
        UserError: the lock cannot be read, the corpus is another one, or the home is that of the study itself.
    """
    lock = read_lock(path)
    original = StudyFolder((path if path.is_dir() else path.parent).resolve())
    definition = _from_lock(lock, root)
    if (home / definition.study).resolve() == original.path:
        raise StudyError(f"{home} is the home of the study itself: choose another with --out")
    circumstances = differences_of(lock)
    for line in circumstances:
        display.warn(line)
    prepared(definition, lock, display)
    folder = run(definition, home, display, address=address).folder
    allowed = _tolerance() if tolerance is None else tolerance
    return compared(original, folder, lock, allowed, circumstances)


def _from_lock(lock: Mapping[str, Any], root: Path | None) -> Definition:
    content = json.loads(json.dumps(lock["definition"])) | {"seeds": list(lock["seeds"])}
    if root is not None:
        content["corpus"]["root"] = str(root)
    definition = validate(content, "the definition in the lock")
    if definition.identity != lock["identity"]:
        raise StudyError("the lock was edited, or is of a version that reads its definition otherwise")
    return definition


def _tolerance() -> float:
    import torch

    return GPU_TOLERANCE if torch.cuda.is_available() else 0.0


def compared(
    before: StudyFolder, now: StudyFolder, lock: Mapping[str, Any], tolerance: float, circumstances: Sequence[str] = ()
) -> Reproduction:
    """Compare the rows of two runs of one study, trial by trial."""
    verified: dict[str, tuple[int, tuple[Difference, ...]]] = {}
    missing = []
    for trial in (str(entry["trial"]) for entry in lock["trials"]):
        recorded, repeated = before.record(trial).rows, now.record(trial).rows
        if recorded and repeated:
            numbers = sum(len(numbers_of(row)) for row in recorded)
            verified[trial] = numbers, tuple(row_differences(recorded, repeated, tolerance))
        elif recorded or repeated:
            missing.append(trial)
    return Reproduction(now, verified, tuple(missing), tolerance, tuple(circumstances), has_rows=before.rows.is_dir())
