"""A study on disk: its folder, its rows, its lock. MLflow and every report can be rebuilt from it.

Layout of a study's folder::

    definition.yaml    the frozen definition
    lock.json          what it takes to repeat it: arms, seeds, versions, git commit, hash of the prepared corpus
    rows/TRIAL.jsonl   one JSON line per event of a trial: start, row, end
    predictions/TRIAL.npz  what the chosen network says of every test utterance, see trainables.predictions
    checkpoints/TRIAL/ last.pt and best.pt
    report/            report.md, figures, tables
    tuning/            the same of its tuning phase, with history.jsonl and tuning.json, see study.tuning
    cache/             copies of rows and scores that open at once, see study.columns; may be deleted
    study.log          what Ray and the driver said
"""

import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic_core import from_json

from strategies.errors import MOST_KNOWN, UserError, unknown
from strategies.text import shortened
from study import columns
from study.analysis.control_arms import EFFECTIVE_LR, FROZEN_MEAN
from study.analysis.folds import pool_rows
from study.analysis.results import Results
from study.analysis.tuning import Tuning, from_plain
from study.columns import TrialColumns
from study.errors import StudyError
from study.validation import LARGEST_LOCK, NAME, checked_lock, is_event
from trainables.predictions import Predictions, read_predictions

DEFAULT_HOME = "studies"
TUNING = "tuning"
"""Folder of a study's tuning phase."""
STATUSES = ("finished", "failed", "interrupted", "pending")


@dataclass(frozen=True)
class TrialRecord:
    """What is on disk of one trial.

    Attributes:
        trial: its name.
        status: ``finished``, ``failed``, ``interrupted`` (started, never ended, or without its predictions) or
            ``pending`` (never started).
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
        self.predictions = path / "predictions"
        self.checkpoints = path / "checkpoints"
        self.report = path / "report"
        self.cache = path / "cache"
        self.log = path / "study.log"
        self.definition = path / "definition.yaml"
        self.lock = path / "lock.json"

    @property
    def tuning(self) -> "StudyFolder":
        """The folder of its tuning phase, which only a study with a search has."""
        return StudyFolder(self.path / TUNING)

    def create(self) -> None:
        """Make the folder.

        Raises:
            StudyError: it cannot be written.
        """
        try:
            for folder in (self.rows, self.predictions, self.checkpoints):
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
        with _told_in_one_line(path):
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)

    def read_lock(self) -> dict[str, Any]:
        """Return what the study's lock says.

        Raises:
            StudyError: there is none, or it is damaged, or holds what no study wrote.
        """
        try:
            with self.lock.open("rb") as file:
                content = json.loads(file.read(LARGEST_LOCK))
        except (OSError, ValueError, RecursionError) as failure:
            raise StudyError(f"study {self.name} has no readable lock.json ({failure})") from failure
        return checked_lock(content, self.name)

    def append(self, trial: str, event: Mapping[str, Any]) -> None:
        """Append one event of a trial as one JSON line; a line torn by a kill is closed off first."""
        path = self.rows / f"{trial}.jsonl"
        line = json.dumps({**event, "time": round(time.time(), 3)})
        with _told_in_one_line(path), path.open("a+b") as file:
            torn = _ends_torn(file.fileno())
            file.write((b"\n" if torn else b"") + line.encode() + b"\n")

    def write_predictions(self, trial: str, content: bytes) -> None:
        """Keep a trial's predictions, whole or not at all."""
        path = self._predictions_of(trial)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with _told_in_one_line(path):
            temporary.write_bytes(content)
            temporary.replace(path)

    def read_predictions(self, trial: str) -> Predictions:
        """Return the test predictions of a trial that has finished.

        Raises:
            StudyError: there are none, or they are damaged.
        """
        path = self._predictions_of(trial)
        try:
            return read_predictions(path.read_bytes())
        except (OSError, UserError) as failure:
            raise StudyError(f"{path} cannot be read ({failure}): delete it and run the study again") from failure

    def _predictions_of(self, trial: str) -> Path:
        return self.predictions / f"{trial}.npz"

    def record(self, trial: str) -> TrialRecord:
        """Return what is on disk of a trial."""
        path = self.rows / f"{trial}.jsonl"
        if not path.exists():
            return TrialRecord(trial, "pending", [])
        return _read_record(trial, path.read_bytes(), has_predictions=self._predictions_of(trial).is_file())

    def columns(self, trials: Sequence[str]) -> dict[str, TrialColumns]:
        """Return what is on disk of trials as columns of numbers, from the copy as far as it is still true."""
        kept = columns.read_copy(self.cache)
        stamps = {trial: self._stamp(trial) for trial in trials}
        found = {
            trial: kept[trial] if trial in kept and kept[trial].stamp == stamp else self._columns(trial, stamp)
            for trial, stamp in stamps.items()
        }
        if any(one is not kept.get(trial) for trial, one in found.items()):
            columns.write_copy(self.cache, found)
        return found

    def _stamp(self, trial: str) -> tuple[int, int, bool]:
        return (*columns.file_stamp(self.rows / f"{trial}.jsonl"), self._predictions_of(trial).is_file())

    def _columns(self, trial: str, stamp: tuple[int, int, bool]) -> TrialColumns:
        record = self.record(trial)
        return TrialColumns(stamp, record.status, record.error, record.seconds, *columns.columns_of(record.rows))


class RememberedScores:
    """Knows the scores of pools that were computed before, as long as the predictions are the same files.

    Args:
        folder: the study.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        self._before = columns.read_scores(folder.cache)
        self._now: dict[str, Any] = {}

    def __call__(
        self, trials: list[str], weights: Mapping[str, float], score: Callable[[], dict[str, float]]
    ) -> dict[str, float]:
        """Return the scores of a pool, see ``study.analysis.folds.Remember``."""
        state = [list(columns.file_stamp(self._folder.predictions / f"{trial}.npz")) for trial in trials]
        key = " ".join(trials)
        scores = columns.known_scores(self._before.get(key), state, weights)
        scores = score() if scores is None else scores
        self._now[key] = {"files": state, "weights": dict(weights), "scores": scores}
        return scores

    def keep(self) -> None:
        """Write down what was not known before."""
        if self._now != self._before:
            columns.write_scores(self._folder.cache, self._now)


@contextmanager
def _told_in_one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise StudyError(
            f"{path} cannot be written: {failure.strerror}; mend that, and the same command goes on where it was"
        ) from failure


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _read_record(trial: str, content: bytes, *, has_predictions: bool) -> TrialRecord:
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    started: float | None = None
    end: dict[str, Any] = {}
    for line in content.split(b"\n"):
        event = _parse_line(line)
        kind = event.get("event")
        if kind == "start":
            started, end = event["time"], {}
        elif kind == "row":
            rows[event["row"]["kind"], event["row"]["epoch"]] = event["row"] | {"time": event["time"]}
        elif kind == "end":
            end = event
    if end.get("predictions") and not has_predictions:  # older studies kept none and do not promise them
        end = {}
    status = end.get("status", "pending" if started is None else "interrupted")
    seconds = end["time"] - started if end and started is not None else None
    ordered = [rows[key] for key in sorted(rows)]  # epochs by number, then the final row
    return TrialRecord(trial, status, ordered, started, seconds, end.get("error"), end.get("traceback"))


def _parse_line(line: bytes) -> dict[str, Any]:
    """Return an event, or nothing for a line that a kill tore or that is none."""
    try:
        event = from_json(line)  # three times as fast as the standard library's, and equal to it
    except ValueError:
        return {}
    return event if is_event(event) else {}


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
        more = f" and {len(matching) - MOST_KNOWN} more" if len(matching) > MOST_KNOWN else ""
        told = ", ".join(map(shortened, matching[:MOST_KNOWN]))
        raise StudyError(f"'{shortened(name)}' may be any of {told}{more}: name one of them")
    return StudyFolder(home / matching[0])


def names(home: Path) -> list[str]:
    """Return the names of the studies in a study home."""
    if not home.is_dir():
        return []
    found = (entry.name for entry in home.iterdir() if (entry / "lock.json").is_file())
    return sorted(name for name in found if NAME.fullmatch(name))


def load_statuses(folder: StudyFolder) -> list[str]:
    """Return the status of every trial of a study, in the order of its plan.

    Raises:
        StudyError: its lock cannot be read.
    """
    return [folder.record(trial["trial"]).status for trial in folder.read_lock()["trials"]]


def load_results(folder: StudyFolder) -> Results:
    """Return everything a study has measured; of a study over folds, the test scores of each arm and seed on the pool.

    Raises:
        StudyError: its lock, or predictions that are needed, cannot be read.
    """
    lock = folder.read_lock()
    found = folder.columns([trial["trial"] for trial in lock["trials"]])
    trials, rows = _trials_frame(lock["trials"], found), columns.frame(lock["trials"], found)
    if "fold" in trials:
        rows = pool_rows(
            trials, rows, lock["reference_weights"], folder.read_predictions, remember := RememberedScores(folder)
        )
        remember.keep()
    return Results(
        study=folder.name,
        title=lock["title"],
        arms=_arms_frame(lock["arms"]),
        trials=trials,
        rows=rows,
        tasks=tuple(task["name"] for task in lock["tasks"]),
        task_kinds={task["name"]: task.get("kind", "classification") for task in lock["tasks"]},
        num_classes={task["name"]: len(task["classes"]) for task in lock["tasks"] if task.get("classes")},
        control=lock["control"],
        reference_weights=lock["reference_weights"],
        facts=lock["facts"],
        tuning=load_tuning(folder),
    )


def load_tuning(folder: StudyFolder) -> Tuning | None:
    """Return the tuning phase of a study as far as it has come; None without one.

    Raises:
        StudyError: what is on disk of it is none.
    """
    path = folder.tuning.path / "tuning.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise StudyError(f"{path} cannot be read ({failure}): run the study again, which writes it anew") from failure
    return from_plain(content, str(path))


def _arms_frame(arms: list[dict[str, Any]]) -> pd.DataFrame:
    entries = [
        {
            **arm,
            "is_static": arm.get("static_weights") is not None or arm.get("role") in (FROZEN_MEAN, EFFECTIVE_LR),
            "static_weights": _as_tuple(arm.get("static_weights")),
            "may_be_clock": arm.get("may_be_clock", False),  # older locks do not say
            "role": arm.get("role", ""),
            "of": arm.get("of", ""),
            "scaled": next(iter(arm.get("loss_scales", {})), ""),
        }
        for arm in arms
    ]
    return pd.DataFrame(entries)


def _as_tuple(weights: list[float] | None) -> tuple[float, ...] | None:
    return None if weights is None else tuple(weights)


def _trials_frame(trials: list[dict[str, Any]], records: Mapping[str, TrialColumns]) -> pd.DataFrame:
    entries = [
        {
            "trial": trial["trial"],
            "arm": trial["arm"],
            "seed": trial["seed"],
            **({"fold": trial["fold"]} if "fold" in trial else {}),
            "status": records[trial["trial"]].status,
            "error": records[trial["trial"]].error,
            "seconds": _number(records[trial["trial"]].seconds),
        }
        for trial in trials
    ]
    return pd.DataFrame(entries)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
