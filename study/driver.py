"""The process that runs a study: whether it is alive, started so that it outlives its terminal, and stopped.

It holds an exclusive lock on the file ``.driver`` of the study's folder for as long as it lives, however it dies, and
writes its id there. All of this is about this machine: the lock of another machine's process is not seen.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from strategies.text import redacted
from study.errors import StudyError

if TYPE_CHECKING:
    from study.records import StudyFolder

LOG = "driver.log"
"""File in a study's folder that a detached driver writes to."""
OUTCOME = "outcome.json"
"""File in a study's folder that says how its last run ended."""
STARTING_S = 60.0
"""Most seconds from the start of a driver to the first thing it does with its study, imports included."""
STOPPING_S = 300.0
"""Most seconds from Ctrl-C to the end: running epochs are left where they are, the report is written."""
_POLL_S = 0.1
_CLOCK_S = 0.02
"""A file's time comes from a coarser clock than ``time.time``."""


def running(folder: "StudyFolder") -> int | None:
    """Return the process that runs a study now, or None.

    The number in the file alone would not do: it may be left over, and belong to somebody else by now.
    """
    try:
        with (folder.path / ".driver").open(encoding="utf-8") as file:
            pid = file.read().strip()
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(pid) if pid.isdecimal() else None
    except OSError:
        return None
    return None


def stop(folder: "StudyFolder", timeout_s: float = STOPPING_S) -> bool:
    """Press Ctrl-C for the process that runs a study, and wait until it has ended; return whether there was one.

    It is never killed: what it has yet to write is written.

    Raises:
        StudyError: it belongs to another user, or has not ended in time.
    """
    pid = running(folder)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return True
    except PermissionError as failure:
        raise StudyError(
            f"study {folder.name} is run by process {pid} of another user, who has to stop it"
        ) from failure
    deadline = time.monotonic() + timeout_s
    while running(folder) == pid:
        if time.monotonic() > deadline:
            raise StudyError(
                f"process {pid} of study {folder.name} has not ended {timeout_s:.0f} s after Ctrl-C; ask again"
            )
        time.sleep(_POLL_S)
    return True


def start(folder: "StudyFolder", arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Start ``study ARGUMENTS`` in a session of its own and return its process once it runs the study.

    Args:
        folder: the study it will run.
        arguments: of the command line, such as ``["run", "mine.yaml"]``.
        environment: what it finds in its environment beside this process's own.

    Raises:
        StudyError: it ended before it came that far; with what it said last.
    """
    folder.create()
    log, begun = folder.path / LOG, time.time()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell told us to ignore would be handed on
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "study.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path.home(),
            env=os.environ | environment,
            start_new_session=True,
        )
    deadline = time.monotonic() + STARTING_S
    while running(folder) != process.pid:
        if process.poll() is not None:
            if ended_since(folder, begun):  # a study with nothing left to do
                break
            raise StudyError(f"the study did not start: {last_line(folder)}")
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            raise StudyError(f"the study did not start within {STARTING_S:.0f} s: {last_line(folder)}")
        time.sleep(_POLL_S)
    return process.pid


def ended_since(folder: "StudyFolder", when: float) -> bool:
    """Tell whether a run of the study has come to its end, good or bad, since a time in seconds since 1970."""
    try:
        return (folder.path / OUTCOME).stat().st_mtime >= when - _CLOCK_S
    except OSError:
        return False


def write_outcome(
    folder: "StudyFolder", *, failed: int, unfinished: int, tracking_uri: str, tracking_problem: str | None
) -> None:
    """Leave word of how a run ended to those who follow it: they may be elsewhere, and it may be long ago."""
    content = {"failed": failed, "unfinished": unfinished, "tracking_uri": redacted(tracking_uri)}
    problem = None if tracking_problem is None else redacted(tracking_problem)
    folder.write_text(folder.path / OUTCOME, json.dumps({**content, "tracking_problem": problem}))


def has_ended(folder: Path) -> bool:
    """Tell whether the last run of the study in a folder has left nothing to do."""
    try:
        return bool(json.loads((folder / OUTCOME).read_text(encoding="utf-8"))["unfinished"] == 0)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def last_line(folder: "StudyFolder") -> str:
    """Return the last thing a detached driver said, without the tool's name in front."""
    try:
        text = (folder.path / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "it has left no log"
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("study: ") if lines else "it said nothing"
