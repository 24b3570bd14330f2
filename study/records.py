"""A study on disk: its folder, its rows, its lock. MLflow and every report can be rebuilt from it.

Layout of a study's folder::

    definition.yaml    the frozen definition
    lock.json          what it takes to repeat it: arms, seeds, versions, git commit, hash of the prepared corpus
    rows/TRIAL.jsonl   one JSON line per event of a trial: start, row, end
    checkpoints/TRIAL/ last.pt and best.pt
    report/            report.md, figures, tables
    study.log          what Ray and the driver said
"""

import fcntl
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from strategies.errors import unknown
from study.analysis.results import Results
from study.errors import StudyError

DEFAULT_HOME = "studies"
STATUSES = ("finished", "failed", "interrupted", "pending")


@dataclass(frozen=True)
class TrialRecord:
    """What is on disk of one trial.

    Attributes:
        trial: its name.
        status: ``finished``, ``failed``, ``interrupted`` (started, never ended) or ``pending`` (never started).
        rows: its rows in order; of an epoch that was repeated after an interruption, the last one.
        started: seconds since 1970, or None.
        seconds: how long its last, completed attempt took, or None.
        error: why it failed, in one line, or None.
        traceback: where it failed, or None.
    """

    trial: str
    status: str
    rows: list[dict[str, Any]]
    started: float | None = None
    seconds: float | None = None
    error: str | None = None
    traceback: str | None = None


class StudyFolder:
    """The folder of one study. One process writes, under ``locked``; anyone may read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.rows = path / "rows"
        self.checkpoints = path / "checkpoints"
        self.report = path / "report"
        self.log = path / "study.log"
        self.definition = path / "definition.yaml"
        self.lock = path / "lock.json"

    def create(self) -> None:
        """Make the folder.

        Raises:
            StudyError: it cannot be written.
        """
        try:
            for folder in (self.rows, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as failure:
            raise StudyError(
                f"study home {self.path.parent} cannot be written ({failure.strerror}): "
                "choose another with --home or STUDY_HOME"
            ) from failure

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study for this process; the lock dies with it, however it dies.

        Raises:
            StudyError: another process is running this study.
        """
        with (self.path / ".driver").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise StudyError(
                    f"study {self.name} is being run by process {owner}: wait for it, or stop it with Ctrl-C there"
                ) from None
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield

    def write_text(self, path: Path, text: str) -> None:
        """Write a file of the study whole or not at all."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

    def read_lock(self) -> dict[str, Any]:
        """Return what the study's lock says.

        Raises:
            StudyError: there is none, or it is damaged.
        """
        try:
            content = json.loads(self.lock.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as failure:
            raise StudyError(f"study {self.name} has no readable lock.json ({failure})") from failure
        return dict(content)

    def append(self, trial: str, event: Mapping[str, Any]) -> None:
        """Append one event of a trial as one JSON line; a line torn by a kill is closed off first."""
        path = self.rows / f"{trial}.jsonl"
        line = json.dumps({**event, "time": round(time.time(), 3)})
        with path.open("a+b") as file:
            torn = _ends_torn(file.fileno())
            file.write((b"\n" if torn else b"") + line.encode() + b"\n")

    def record(self, trial: str) -> TrialRecord:
        """Return what is on disk of a trial."""
        path = self.rows / f"{trial}.jsonl"
        if not path.exists():
            return TrialRecord(trial, "pending", [])
        with path.open(encoding="utf-8", errors="replace") as file:
            return _read_record(trial, file)


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _read_record(trial: str, lines: TextIO) -> TrialRecord:
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    started: float | None = None
    end: dict[str, Any] = {}
    for line in lines:
        event = _parse_line(line)
        kind = event.get("event")
        if kind == "start":
            started, end = event["time"], {}
        elif kind == "row":
            rows[event["row"]["kind"], event["row"]["epoch"]] = event["row"] | {"time": event["time"]}
        elif kind == "end":
            end = event
    status = end.get("status", "pending" if started is None else "interrupted")
    seconds = end["time"] - started if end and started is not None else None
    return TrialRecord(trial, status, list(rows.values()), started, seconds, end.get("error"), end.get("traceback"))


def _parse_line(line: str) -> dict[str, Any]:
    """Return an event, or nothing for a line that a kill tore."""
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def study_home(given: Path | None) -> Path:
    """Return the folder that holds all studies: ``given``, or ``STUDY_HOME``, or ``./studies``."""
    return (given or Path(os.environ.get("STUDY_HOME") or DEFAULT_HOME)).expanduser().resolve()


def find(home: Path, name: str) -> StudyFolder:
    """Return the study called ``name``, or the only one whose name starts with it.

    Raises:
        StudyError: there is none, or more than one.
    """
    known = names(home)
    matching = [name] if name in known else [study for study in known if study.startswith(name)]
    if not matching:
        raise StudyError(f"{unknown('study', name, known)} in {home}")
    if len(matching) > 1:
        raise StudyError(f"'{name}' may be any of {', '.join(matching)}: name one of them")
    return StudyFolder(home / matching[0])


def names(home: Path) -> list[str]:
    """Return the names of the studies in a study home."""
    if not home.is_dir():
        return []
    return sorted(entry.name for entry in home.iterdir() if (entry / "lock.json").is_file())


def load_results(folder: StudyFolder) -> Results:
    """Return everything a study has measured.

    Raises:
        StudyError: its lock cannot be read.
    """
    lock = folder.read_lock()
    records = {trial["trial"]: folder.record(trial["trial"]) for trial in lock["trials"]}
    return Results(
        study=folder.name,
        title=lock["title"],
        arms=_arms_frame(lock["arms"]),
        trials=_trials_frame(lock["trials"], records),
        rows=_rows_frame(lock["trials"], records),
        tasks=tuple(task["name"] for task in lock["tasks"]),
        task_kinds={task["name"]: task["kind"] for task in lock["tasks"]},
        num_classes={task["name"]: len(task["classes"]) for task in lock["tasks"] if task["classes"]},
        control=lock["control"],
        reference_weights=lock["reference_weights"],
        facts=lock["facts"],
    )


def _arms_frame(arms: list[dict[str, Any]]) -> pd.DataFrame:
    entries = [
        {
            **arm,
            "is_static": arm["static_weights"] is not None,
            "static_weights": _as_tuple(arm["static_weights"]),
            "may_be_clock": arm.get("may_be_clock", False),  # older locks do not say
        }
        for arm in arms
    ]
    return pd.DataFrame(entries)


def _as_tuple(weights: list[float] | None) -> tuple[float, ...] | None:
    return None if weights is None else tuple(weights)


def _trials_frame(trials: list[dict[str, Any]], records: Mapping[str, TrialRecord]) -> pd.DataFrame:
    entries = [
        {
            "trial": trial["trial"],
            "arm": trial["arm"],
            "seed": trial["seed"],
            "status": records[trial["trial"]].status,
            "error": records[trial["trial"]].error,
            "seconds": _number(records[trial["trial"]].seconds),
        }
        for trial in trials
    ]
    return pd.DataFrame(entries)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _rows_frame(trials: list[dict[str, Any]], records: Mapping[str, TrialRecord]) -> pd.DataFrame:
    entries = [
        {"trial": trial["trial"], "arm": trial["arm"], "seed": trial["seed"], **row}
        for trial in trials
        for row in records[trial["trial"]].rows
    ]
    columns = ["trial", "arm", "seed", "kind", "epoch"]
    return pd.DataFrame(entries).drop(columns="time") if entries else pd.DataFrame(columns=columns)
