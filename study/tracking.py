"""Write trials to MLflow; the only module that knows MLflow.

One writer, in the driver. It reads what is on disk (``study.records``) and brings MLflow up to it, so that the live
study, a study that goes on after a crash, and a rebuilt tracking store all take the same path. Every step may be
repeated: runs are found again by their tag, and a metric keeps the time its row was recorded at.
"""

import logging
import math
import os
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import StudyError
from study.records import StudyFolder, TrialRecord

if TYPE_CHECKING:
    from trainables.session import Row, TrialSpecification


PARENT_TAG = "study.parent"
TRIAL_TAG = "study.trial"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "pending": "SCHEDULED"}
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # the writer retries by itself and must not wait for MLflow's four minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
_PERIOD_S = 4.0
"""Seconds between two rounds of writing."""


def default_uri(home: Path) -> str:
    """Return ``MLFLOW_TRACKING_URI``, or the database in the study home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"


def check_reachable(uri: str) -> None:
    """Ask the tracking store for anything.

    Raises:
        StudyError: it does not answer.
    """
    try:
        _client(uri).search_experiments(max_results=1)
    except Exception as failure:
        raise StudyError(f"tracking store {uri} does not answer: {_reason(failure)}") from failure


def _client(uri: str) -> Any:  # noqa: ANN401  (mlflow is imported late)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def _reason(failure: Exception) -> str:
    return " ".join(str(failure).split())[:200] or type(failure).__name__


@dataclass
class _Run:
    """The MLflow run of one trial: its id, how many rows it has, and the status last written."""

    run_id: str
    num_rows: int = 0
    status: str = ""


@dataclass
class Writer:
    """Brings one study's MLflow runs up to what is on disk.

    Attributes:
        folder: the study.
        uri: the tracking store.
    """

    folder: StudyFolder
    uri: str
    _runs: dict[str, _Run] = field(default_factory=dict)
    _connected: Any = None
    _experiment: str = ""
    _parent: str = ""

    def write(self, trials: Mapping[str, TrialRecord]) -> None:
        """Write the given trials; raises whatever MLflow raises."""
        self._connect()
        for name, record in trials.items():
            if record.status != "pending":
                self._write_trial(name, record)

    def write_parent(self, status: str, note: str, metrics: Mapping[str, float]) -> None:
        """Write the study itself: its report and figures as artifacts, its summary as a note, its headline metrics."""
        self._connect()
        client = self._connected
        client.set_tag(self._parent, "mlflow.note.content", note)
        for name, value in metrics.items():
            client.log_metric(self._parent, name, value, timestamp=0, step=0)
        for path in (self.folder.definition, self.folder.lock):
            client.log_artifact(self._parent, str(path))
        if self.folder.report.is_dir():
            client.log_artifacts(self._parent, str(self.folder.report), "report")
        client.set_terminated(self._parent, status)

    def _connect(self) -> None:
        if self._parent:
            return
        self._connected = _client(self.uri)
        lock = self.folder.read_lock()
        self._experiment = self._find_experiment(lock["definition"]["name"])
        self._parent = self._find_run(PARENT_TAG, self.folder.name) or self._create_parent(lock)
        self._trials = {trial["trial"]: trial for trial in lock["trials"]}
        self._arms = {arm["arm"]: arm for arm in lock["arms"]}
        self._lock = lock

    def _find_experiment(self, name: str) -> str:
        client = self._connected
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        if found is not None:
            return str(found.experiment_id)
        local = self.uri.startswith("sqlite")
        artifacts = (self.folder.path.parent / "artifacts" / name).as_uri() if local else None
        experiment = client.create_experiment(name, artifact_location=artifacts)
        client.set_experiment_tag(experiment, "mlflow.experiment.primaryMetric.name", "test/joint_nll")
        return str(experiment)

    def _find_run(self, tag: str, value: str) -> str | None:
        query = f"tags.`{tag}` = '{value}' and tags.`study` = '{self.folder.name}'"
        found = self._connected.search_runs([self._experiment], query, max_results=1)
        return found[0].info.run_id if found else None

    def _create_parent(self, lock: Mapping[str, Any]) -> str:
        client, definition = self._connected, lock["definition"]
        tags = {
            PARENT_TAG: self.folder.name,
            "study": self.folder.name,
            "corpus": definition["corpus"]["name"],
            "split": definition["split"]["protocol"],
            "mlflow.source.name": "study run",
            **{f"version.{name}": version for name, version in lock["versions"].items()},
        }
        if lock["git_commit"]:
            tags["mlflow.source.git.commit"] = lock["git_commit"]
        run = client.create_run(self._experiment, run_name=self.folder.name, tags=tags)
        self._log_params(run.info.run_id, _flat(definition))
        self._log_corpus(run.info.run_id, lock["corpus"])
        return str(run.info.run_id)

    def _log_params(self, run_id: str, values: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        self._connected.log_batch(run_id, params=[Param(name, str(value)) for name, value in values.items()])

    def _log_corpus(self, run_id: str, corpus: Mapping[str, Any]) -> None:
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=corpus["name"],
            digest=corpus["content_hash"][:32],
            source_type="local",
            source=json.dumps({"uri": corpus["root"] or "built-in"}),
            profile=json.dumps({"num_rows": corpus["num_utterances"]}),
        )
        self._connected.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _write_trial(self, name: str, record: TrialRecord) -> None:
        run = self._runs.get(name) or self._open_trial(name, record)
        self._runs[name] = run
        client = self._connected
        fresh = record.rows[run.num_rows :]
        if fresh:
            client.log_batch(run.run_id, metrics=[metric for row in fresh for metric in _metrics(row)])
            run.num_rows = len(record.rows)
        if record.status != run.status and record.status in ("finished", "failed"):
            if record.error:
                client.set_tag(run.run_id, "error", record.error[:5000])
                client.set_tag(run.run_id, "mlflow.note.content", f"```\n{(record.traceback or '')[-5000:]}\n```")
            client.set_terminated(run.run_id, _STATUS[record.status])
        run.status = record.status

    def close_interrupted(self, trials: Mapping[str, TrialRecord]) -> None:
        """Mark started trials that did not end as killed, so that none looks as if it were still running."""
        for name, record in trials.items():
            if record.status == "interrupted" and name in self._runs:
                self._connected.set_terminated(self._runs[name].run_id, _STATUS["interrupted"])

    def _open_trial(self, name: str, record: TrialRecord) -> _Run:
        found = self._find_run(TRIAL_TAG, name)
        if found is not None:
            if record.status == "interrupted":
                self._connected.update_run(found, status="RUNNING")
            return _Run(found)
        trial = self._trials[name]
        arm, seed = self._arms[trial["arm"]], trial["seed"]
        definition = self._lock["definition"]
        labels = {"study": self.folder.name, "arm": arm["arm"], "strategy": arm["strategy"], "seed": str(seed)}
        tags = {
            **labels,
            TRIAL_TAG: name,
            "mlflow.parentRunId": self._parent,
            "corpus": definition["corpus"]["name"],
            "split": definition["split"]["protocol"],
            "family": arm["family"],
        }
        started = None if record.started is None else int(1000 * record.started)
        run = self._connected.create_run(
            self._experiment, start_time=started, tags=tags, run_name=f"{arm['label']} · seed {seed}"
        )
        settings = {"network": definition["network"], "training": definition["training"], "options": arm["options"]}
        self._log_params(run.info.run_id, labels | _flat(settings))
        return _Run(str(run.info.run_id))


def _metrics(row: "Row") -> list[Any]:
    """Return a row as MLflow metrics at its epoch; of the final row only what the epochs' rows have not told yet."""
    from mlflow.entities import Metric

    skipped = {"kind", "epoch", "time"}
    final = row["kind"] == "final"
    names = [name for name in row if name not in skipped and (not final or name.startswith("test/"))]
    stamp = int(1000 * float(row["time"]))
    metrics = [Metric(name, float(row[name]), stamp, int(row["epoch"])) for name in names]
    if final:
        metrics.append(Metric("best_epoch", float(row["epoch"]), stamp, int(row["epoch"])))
    return [metric for metric in metrics if not math.isinf(metric.value)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif name != "arms":
            flat[f"{prefix}{name}"] = value
    return flat


class Tracker:
    """Writes a running study to MLflow from a thread of its own; an observer of trials.

    The study never waits for it and never fails because of it: what could not be written stays on disk, is tried again
    every few seconds, and once more at the end.
    """

    def __init__(self, folder: StudyFolder, uri: str) -> None:
        self._writer = Writer(folder, uri)
        self._folder = folder
        self._changed: set[str] = set()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mlflow-writer", daemon=True)
        self.problem: str | None = None

    def start(self) -> None:
        """Start writing; every trial on disk is brought up to date first."""
        self._changed = {path.stem for path in self._folder.rows.glob("*.jsonl")}
        self._thread.start()

    def trial_started(self, trial: "TrialSpecification") -> None:
        """Remember that the trial changed."""
        self._mark(trial.trial)

    def trial_reported(self, trial: "TrialSpecification", row: "Row") -> None:  # noqa: ARG002
        """Remember that the trial changed."""
        self._mark(trial.trial)

    def trial_ended(self, trial: "TrialSpecification", failure: dict[str, str] | None) -> None:  # noqa: ARG002
        """Remember that the trial changed."""
        self._mark(trial.trial)

    def finish(self, status: str, note: str, metrics: Mapping[str, float]) -> str | None:
        """Write what is left and the study itself; return why that did not work, or None."""
        self._stop.set()
        self._thread.join()
        self._round()
        if self.problem is None:
            self._attempt(lambda: self._close(status, note, metrics))
        return self.problem

    def _close(self, status: str, note: str, metrics: Mapping[str, float]) -> None:
        names = [path.stem for path in self._folder.rows.glob("*.jsonl")]
        self._writer.close_interrupted({name: self._folder.record(name) for name in names})
        self._writer.write_parent(status, note, metrics)

    def _mark(self, trial: str) -> None:
        with self._guard:
            self._changed.add(trial)

    def _loop(self) -> None:
        while True:
            self._round()
            if self._stop.wait(_PERIOD_S):
                return

    def _round(self) -> None:
        with self._guard:
            changed, self._changed = sorted(self._changed), set()
        if not self._attempt(lambda: self._writer.write({name: self._folder.record(name) for name in changed})):
            with self._guard:
                self._changed |= set(changed)

    def _attempt(self, action: Any) -> bool:  # noqa: ANN401
        """Run one piece of writing; anything the tracking store throws becomes ``problem``, not our end."""
        try:
            action()
        except Exception as failure:
            self.problem = _reason(failure)
            return False
        self.problem = None
        return True


def sync(folder: StudyFolder, uri: str, status: str, note: str, metrics: Mapping[str, float]) -> int:
    """Bring MLflow up to a study on disk, from nothing if need be; return the number of trials written.

    Raises:
        StudyError: the tracking store does not answer.
    """
    tracker = Tracker(folder, uri)
    tracker.start()
    problem = tracker.finish(status, note, metrics)
    if problem:
        raise StudyError(f"tracking store {uri} cannot be written: {problem}; nothing is lost, try again later")
    return sum(1 for path in folder.rows.glob("*.jsonl") if path.is_file())


def serve(home: Path, port: int) -> None:
    """Replace this process by the MLflow pages of the study home, on this machine's loopback address only.

    Raises:
        StudyError: there is nothing to show yet, or the port is taken.
    """
    uri = default_uri(home)
    if uri.startswith("http"):
        raise StudyError(f"MLFLOW_TRACKING_URI is {uri}: open that address in a browser")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise StudyError(
            f"there is no {uri.removeprefix('sqlite:///')} yet: run a study first, or name its home with --home"
        )
    _refuse_taken(port)
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # eight helper processes nobody needs here
    arguments = ["server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    print(f"MLflow: http://127.0.0.1:{port}   (Ctrl-C ends it)", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as failure:
            raise StudyError(f"port {port} is not free ({failure.strerror}): choose another with --port") from failure
