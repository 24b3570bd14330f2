"""Keep MLflow up to date while a study runs, after it, and for a person who looks at it.

One writer, in the driver. It reads what is on disk (``study.records``) and brings MLflow up to it, so that the live
study, a study that goes on after a crash, and a rebuilt tracking store all take the same path.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from strategies.text import redacted
from study import server
from study.errors import StudyError
from study.mlflow_store import concerns_one_run, connect, experiments, reason_of
from study.mlflow_writer import Writer
from study.observing import Observer
from study.records import StudyFolder

if TYPE_CHECKING:
    from trainables.rows import Row
    from trainables.specification import TrialSpecification


_PERIOD_S = 4.0
"""Seconds between two rounds of writing."""
_STARTING_S = 20.0
"""Most seconds that the first round waits for a trial to report: importing MLflow would hold up the start of trials."""


def default_uri(home: Path) -> str:
    """Return ``MLFLOW_TRACKING_URI``, or the server that runs for the study home, or the database in it."""
    return os.environ.get("MLFLOW_TRACKING_URI") or server.address_for(home) or f"sqlite:///{home / 'mlflow.db'}"


def check_reachable(uri: str) -> None:
    """Ask the tracking store for anything.

    Raises:
        StudyError: it does not answer.
    """
    try:
        connect(uri)
    except Exception as failure:
        raise StudyError(f"tracking store {redacted(uri)} does not answer: {reason_of(failure)}") from failure


class Tracker(Observer):
    """Writes a running study to MLflow from a thread of its own; an observer of trials.

    The study never waits for it and never fails because of it: what could not be written stays on disk, is tried again
    every few seconds, and once more at the end.

    Args:
        folder: where the rows are.
        uri: the tracking store.
        writer: what writes them; by default that of a study's own trials.
    """

    def __init__(self, folder: StudyFolder, uri: str, writer: Writer | None = None) -> None:
        self._writer = writer or Writer(folder, uri)
        self._folder = folder
        self._changed: set[str] = set()
        self._live: set[str] = set()
        self._guard = threading.Lock()
        self._stop, self._reported = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mlflow-writer", daemon=True)
        self._had_problems = False
        self.problem: str | None = None

    def start(self) -> None:
        """Start writing; every trial on disk is brought up to date first."""
        self._mark(*self._on_disk())
        self._thread.start()

    def _on_disk(self) -> list[str]:
        return [path.stem for path in self._folder.rows.glob("*.jsonl")]

    def trial_started(self, trial: "TrialSpecification") -> None:
        """Remember that the trial runs."""
        self._live.add(trial.trial)
        self._mark(trial.trial)

    def trial_reported(self, trial: "TrialSpecification", row: "Row") -> None:  # noqa: ARG002
        """Remember that the trial changed."""
        self._mark(trial.trial)
        self._reported.set()

    def trial_ended(self, trial: "TrialSpecification", failure: dict[str, str] | None) -> None:  # noqa: ARG002
        """Remember that the trial changed."""
        self._mark(trial.trial)

    def finish(self, status: str, note: str, metrics: Mapping[str, float]) -> str | None:
        """Write what is left and the study itself; return why that did not work, or None."""
        self._stop.set()
        self._reported.set()
        self._thread.join()
        self._mark(*self._live)
        self._live = set()
        if self._had_problems:
            self._mark(*self._on_disk())
            self._writer.forget()
        self._round()
        if self.problem is None:
            self._attempt(lambda: self._writer.write_parent(status, note, metrics))
        return self.problem

    def _mark(self, *trials: str) -> None:
        with self._guard:
            self._changed.update(trials)

    def _loop(self) -> None:
        self._reported.wait(_STARTING_S)
        while True:
            self._round()
            if self._stop.wait(_PERIOD_S):
                return

    def _round(self) -> None:
        """Write every trial that changed; what cannot be written stays changed."""
        with self._guard:
            changed, self._changed = sorted(self._changed), set()
        self.problem = None
        if self._attempt(self._writer.open):
            self._mark(*changed)
            return
        for number, name in enumerate(changed):
            failure = self._attempt(lambda name=name: self._writer.write(name, is_live=name in self._live))  # type: ignore[misc]
            if failure is not None and not concerns_one_run(failure):
                self._mark(*changed[number:])
                return
            if failure is not None:
                self._mark(name)

    def _attempt(self, action: Callable[[], None]) -> Exception | None:
        """Run one piece of writing; anything the tracking store throws becomes ``problem``, not our end."""
        try:
            action()
        except Exception as failure:
            self.problem, self._had_problems = reason_of(failure), True
            self._writer.forget()
            return failure
        return None


def sync(folder: StudyFolder, uri: str, status: str, note: str, metrics: Mapping[str, float]) -> int:
    """Bring MLflow up to a study on disk, from nothing if need be; return the number of trials written.

    Raises:
        StudyError: the tracking store does not answer.
    """
    tracker = Tracker(folder, uri)
    tracker.start()
    problem = tracker.finish(status, note, metrics)
    if problem:
        raise StudyError(
            f"tracking store {redacted(uri)} cannot be written: {problem}; nothing is lost, try again later"
        )
    return sum(1 for path in folder.rows.glob("*.jsonl") if path.is_file())


def serve(home: Path, port: int) -> None:
    """Replace this process by the MLflow pages of the study home, on this machine's loopback address only.

    Where a server shows them already, say where it is and return.

    Raises:
        StudyError: there is nothing to show yet, or the port is taken.
    """
    uri = default_uri(home)
    if uri.startswith("http"):
        print(redacted(uri))
        print("open this address in a browser; user and password: ~/.mlflow/credentials", file=sys.stderr)
        return
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise StudyError(
            f"there is no {uri.removeprefix('sqlite:///')} yet: run a study first, or name its home with --home"
        )
    refuse_taken(port)
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # eight helper processes nobody needs here
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # no argument: the address of a database may hold a password
    print(f"MLflow: http://127.0.0.1:{port}   (Ctrl-C ends it)", file=sys.stderr)
    for line in _pages(uri, f"http://127.0.0.1:{port}"):
        print(line, file=sys.stderr, flush=True)
    arguments = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


_MOST_PAGES = 10
"""Experiments whose pages are told."""


def _pages(uri: str, address: str) -> list[str]:
    """Return a line for each of the latest experiments with the address of its runs; none if the store does not say."""
    try:
        found = experiments(uri)
    except Exception:  # the server, which starts next, says better what is wrong
        return []
    return [f"{name}: {runs_page(address, number)}" for name, number in list(found.items())[:_MOST_PAGES]]


def runs_page(address: str, experiment: str) -> str:
    """Return the address of the table of runs of an experiment.

    MLflow 3.17 opens at its pages for language models, where there is no such table, unless the browser has chosen
    *Model training* before or the address says so.

    >>> runs_page("http://127.0.0.1:5000", "1")
    'http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning'
    """
    return f"{address}/#/experiments/{experiment}/runs?workflowType=machine_learning"


def refuse_taken(port: int) -> None:
    """Refuse a port of this machine at which something listens.

    Raises:
        StudyError: with the remedy.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as failure:
            raise StudyError(f"port {port} is not free ({failure.strerror}): choose another with --port") from failure
