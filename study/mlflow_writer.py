"""Bring one study's MLflow runs up to what is on disk; the only module that knows MLflow.

Every step may be repeated: runs are found again by their tags, and what of a trial is there already is told by its
latest ``step``, as rows are written in order and each whole or not at all.
"""

import fcntl
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strategies.text import redacted
from study.records import StudyFolder, TrialRecord

PARENT_TAG = "study.parent"
TRIAL_TAG = "study.trial"
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
"""What says that an experiment trains models. MLflow 3.17 keeps it and goes by what a browser last chose, or by the
``workflowType`` of an address: see ``tracking.runs_page``."""
_STATUS = {"finished": "FINISHED", "failed": "FAILED"}
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # the writer retries by itself and must not wait for MLflow's four minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # it tells of every step in which it makes the tables of a new database
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # whoever wrote to the store could run code here
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for results
}
_MAX_METRICS = 1000
"""Metrics that MLflow takes in one request, which it writes in one transaction."""
_PAGE = 200
"""Runs that are asked for at a time: 2 MB, which a slow server sends within the time a request may take."""
_MEASURED = ("time/", "memory/")
"""Numbers that differ when an epoch is repeated."""


def connect(uri: str) -> Any:  # noqa: ANN401  (mlflow is imported late)
    """Return a client of a tracking store that has answered; a database that is new gets its tables here, once."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for library in ("alembic", "mlflow"):  # somebody may have imported MLflow before
        logging.getLogger(library).setLevel(logging.WARNING)
    with _alone(uri):
        _make_whole(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def experiments(uri: str) -> dict[str, str]:
    """Return name -> id of the experiments of a tracking store that studies have made, the latest first."""
    found = connect(uri).search_experiments(
        filter_string=f"tags.`{KIND_TAG}` = '{KIND}'", order_by=["last_update_time DESC"]
    )
    return {experiment.name: str(experiment.experiment_id) for experiment in found}


def _make_whole(uri: str) -> None:
    """Make a database that is not there, whole or not at all: MLflow refuses one that a kill has left half made."""
    from mlflow import MlflowClient

    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    for left in path.parent.glob(f".{path.name}.half-*"):
        left.unlink()
    half = path.with_name(f".{path.name}.half-{time.time_ns()}")  # MLflow remembers what it has made, by its name
    MlflowClient(tracking_uri=f"sqlite:///{half}").search_experiments(max_results=1)
    half.replace(path)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keep other studies of the same home out: two that make the tables of one new database break it."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    with Path(f"{uri.removeprefix('sqlite:///')}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def chosen_runs(uri: str, study: str) -> dict[str, dict[str, str]]:
    """Return method -> the values that a study has chosen for it, as text: what its tuning runs say."""
    client = connect(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = "tags.`phase` = 'tuning' and tags.`chosen` = 'yes'"
    found: dict[str, dict[str, str]] = {}
    for run in _found(client, experiments, query):
        name = run.data.tags.get("study", "")
        if name == study or name.startswith(f"{study}-"):
            knobs = {knob: text for knob, text in run.data.params.items() if knob.startswith(_KNOBS)}
            found.setdefault(run.data.tags["method"], knobs)
    return found


def _found(client: Any, experiments: Sequence[str], query: str) -> Iterator[Any]:  # noqa: ANN401
    """Yield all runs that a query finds, page by page."""
    token = None
    while True:
        page = client.search_runs(experiments, query, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


_KNOBS = ("training.", "strategy.", "network.")
"""What the names of hyperparameters begin with."""


def reason_of(failure: Exception) -> str:
    """Return what went wrong in one line, without passwords."""
    return redacted(" ".join(str(failure).split()))[:200] or type(failure).__name__


def concerns_one_run(failure: Exception) -> bool:
    """Whether the tracking store refused, or a row is not as it should be, so that other runs may still be written."""
    status = getattr(failure, "get_http_status_code", None)
    return isinstance(failure, KeyError | ValueError) if status is None else status() < 500


@dataclass
class _Run:
    """What MLflow has of one run.

    Attributes:
        run_id: its id.
        status: in MLflow's words.
        params: names of its parameters, which never change.
        tags: its tags.
        metrics: the latest value of each.
        has_corpus: whether it says what it was trained on.
    """

    run_id: str
    status: str = "RUNNING"
    params: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    has_corpus: bool = False

    @property
    def step(self) -> float:
        """Optimizer steps at the last epoch that is there; -1 before the first."""
        return self.metrics.get("step", -1.0)

    def lacks(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has yet to be written."""
        return "best_epoch" not in self.metrics if row["kind"] == "final" else bool(row["step"] > self.step)

    def contradicts(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Whether what it has is of an attempt whose numbers were others: it failed, and the code was mended."""
        told = [metric for row in rows if not self.lacks(row) and row["step"] >= self.step for metric in _metrics(row)]
        return any(
            _differ(metric.value, self.metrics.get(metric.key, metric.value))
            for metric in told
            if not metric.key.startswith(_MEASURED)
        )


def _differ(value: float, other: float) -> bool:
    return value != other and not (math.isnan(value) and math.isnan(other))


def _as_run(found: Any) -> _Run:  # noqa: ANN401  (a run of MLflow)
    return _Run(
        str(found.info.run_id),
        found.info.status,
        frozenset(found.data.params),
        found.data.tags,
        dict(found.data.metrics),
        bool(found.inputs and found.inputs.dataset_inputs),
    )


@dataclass
class Writer:
    """Brings one study's MLflow runs up to what is on disk.

    Every method raises whatever MLflow raises; call ``forget`` then, as nobody knows what has been written.

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

    def forget(self) -> None:
        """Look up anew what MLflow has before anything else is written."""
        self._parent, self._runs = "", {}

    def write(self, name: str, *, is_live: bool) -> None:
        """Write a trial as it is on disk.

        Args:
            name: of the trial.
            is_live: it is running; one that is not and did not end is marked as killed.
        """
        self.open()
        record = self._record(name)
        if record.status == "pending" or not self._knows(name):
            return
        run = self._runs.get(name)
        if run is not None and run.contradicts(record.rows):
            self._connected.delete_run(self._runs.pop(name).run_id)
            run = None
        run = run or self._create_trial(name, record)
        self._runs[name] = run
        self._write_rows(run, record.rows)
        self._write_status(run, record, _STATUS.get(record.status, "RUNNING" if is_live else "KILLED"))

    def _record(self, name: str) -> TrialRecord:
        return self.folder.record(name)

    def _knows(self, name: str) -> bool:
        return name in self._trials

    def write_parent(self, status: str, note: str, metrics: Mapping[str, float]) -> None:
        """Write the study itself: its report and figures as artifacts, its summary as a note, its headline metrics."""
        self.open()
        client = self._connected
        client.set_tag(self._parent, "mlflow.note.content", note)
        found = client.get_run(self._parent)
        known = found.data.metrics
        for name, value in metrics.items():
            if known.get(name) != value:
                client.log_metric(self._parent, name, value)
        for path in (self.folder.definition, self.folder.lock):
            client.log_artifact(self._parent, str(path))
        if self.folder.report.is_dir():
            client.log_artifacts(self._parent, str(self.folder.report), "report")
        if found.info.status != status:  # writing it again must not change when it ended
            client.set_terminated(self._parent, status)

    def open(self) -> None:
        """Find out what MLflow has of the study, and make the study's own run, unless that is known."""
        if self._parent:
            return
        self._connected = connect(self.uri)
        lock = self.folder.read_lock()
        self._experiment = self._find_experiment(lock["definition"]["name"])
        self._trials = {trial["trial"]: trial for trial in lock["trials"]}
        self._arms = {arm["arm"]: arm for arm in lock["arms"]}
        self._lock = lock
        found = self._find_runs()
        parent = self._complete_parent(found.pop("", None), lock)
        self._runs = {name: self._complete_trial(name, run, parent) for name, run in found.items()}
        self._parent = parent

    def _find_runs(self) -> dict[str, _Run]:
        """Return trial -> its run, the study's own under an empty name; no trial keeps a second one.

        A request that took too long may have made a run after it was asked for again.
        """
        runs: dict[str, _Run] = {}
        for run in self._search():
            name = run.tags.get(TRIAL_TAG, "" if PARENT_TAG in run.tags else None)
            if name is None:
                continue
            first, second = sorted((runs.get(name, run), run), key=lambda each: (-each.step, each.run_id))
            runs[name] = first
            if first.run_id != second.run_id:
                self._connected.delete_run(second.run_id)
        return runs

    def _search(self) -> Iterator[_Run]:
        yield from map(_as_run, _found(self._connected, [self._experiment], f"tags.`study` = '{self.folder.name}'"))

    def _find_experiment(self, name: str) -> str:
        client = self._connected
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        if found is not None:
            if KIND_TAG not in found.tags:  # made by an older version, or by one that was killed
                client.set_experiment_tag(found.experiment_id, KIND_TAG, KIND)
            return str(found.experiment_id)
        local = not self.uri.startswith("http")
        artifacts = (self.folder.path.parent / "artifacts" / name).as_uri() if local else None
        experiment = client.create_experiment(name, artifact_location=artifacts)
        client.set_experiment_tag(experiment, "mlflow.experiment.primaryMetric.name", "test/joint_nll")
        client.set_experiment_tag(experiment, KIND_TAG, KIND)
        return str(experiment)

    def _complete_parent(self, run: _Run | None, lock: Mapping[str, Any]) -> str:
        """Return the id of the study's run, with all that a process that was killed may have left out."""
        definition = lock["definition"]
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
        if run is None:
            run = _as_run(self._connected.create_run(self._experiment, run_name=self.folder.name, tags=tags))
        self._log_params(run, _flat(definition))
        if not run.has_corpus:
            self._log_corpus(run.run_id, lock["corpus"])
        return run.run_id

    def _log_params(self, run: _Run, values: Mapping[str, object]) -> None:
        """Log the parameters that are not there: one that is never changes."""
        from mlflow.entities import Param

        missing = [Param(name, str(value)) for name, value in values.items() if name not in run.params]
        if missing:
            self._connected.log_batch(run.run_id, params=missing)
            run.params = run.params | set(values)

    def _log_corpus(self, run_id: str, corpus: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=corpus["name"],
            digest=corpus["content_hash"][:32],
            source_type="local",
            source=json.dumps({"uri": redacted(corpus["root"] or "built-in")}),
            profile=json.dumps({"num_rows": corpus["num_utterances"]}),
        )
        self._connected.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _write_rows(self, run: _Run, rows: Sequence[Mapping[str, Any]]) -> None:
        for metrics in _batches([row for row in rows if run.lacks(row)]):
            self._connected.log_batch(run.run_id, metrics=metrics)
            run.metrics |= {metric.key: metric.value for metric in metrics}

    def _write_status(self, run: _Run, record: TrialRecord, status: str) -> None:
        client = self._connected
        if status == run.status:
            return
        if record.error:
            run.tags = {**run.tags, "error": record.error}
            client.set_tag(run.run_id, "error", record.error[:5000])
            client.set_tag(run.run_id, "mlflow.note.content", f"```\n{(record.traceback or '')[-5000:]}\n```")
        elif "error" in run.tags:  # of an attempt before
            for tag in ("error", "mlflow.note.content"):
                client.delete_tag(run.run_id, tag)
            run.tags = {name: value for name, value in run.tags.items() if name not in ("error", "mlflow.note.content")}
        if status == "RUNNING":
            client.update_run(run.run_id, status=status)
        else:
            client.set_terminated(run.run_id, status, end_time=_ended(record))
        run.status = status

    def _create_trial(self, name: str, record: TrialRecord) -> _Run:
        started = None if record.started is None else int(1000 * record.started)
        definition = self._lock["definition"]
        tags = {
            **self._labels(name),
            TRIAL_TAG: name,
            "mlflow.parentRunId": self._parent,
            "corpus": definition["corpus"]["name"],
            "split": definition["split"]["protocol"],
            "family": self._family(name),
        }
        run_name = self._run_name(name)
        made = self._connected.create_run(self._experiment, start_time=started, tags=tags, run_name=run_name)
        return self._complete_trial(name, _as_run(made), self._parent)

    def _labels(self, name: str) -> dict[str, str]:
        trial = self._trials[name]
        arm = self._arms[trial["arm"]]
        labels = {"arm": arm["arm"], "strategy": arm["strategy"], "seed": str(trial["seed"])}
        fold = {"fold": str(trial["fold"])} if "fold" in trial else {}
        return {"study": self.folder.name, **labels, **fold}

    def _run_name(self, name: str) -> str:
        trial = self._trials[name]
        told = [self._arms[trial["arm"]]["label"], f"seed {trial['seed']}"]
        return " · ".join([*told, *([f"fold {trial['fold']}"] if "fold" in trial else [])])

    def _family(self, name: str) -> str:
        return str(self._arms[self._trials[name]["arm"]]["family"])

    def _settings(self, name: str) -> dict[str, object]:
        definition, arm = self._lock["definition"], self._arms[self._trials[name]["arm"]]
        training = {**definition["training"], **arm.get("training", {})}
        return _flat({"network": definition["network"], "training": training, "options": arm["options"]})

    def _complete_trial(self, name: str, run: _Run, parent: str) -> _Run:
        """Return the run of a trial with all that a process that was killed may have left out."""
        if self._knows(name):
            self._log_params(run, self._labels(name) | self._settings(name))
        if run.tags.get("mlflow.parentRunId") != parent:
            self._connected.set_tag(run.run_id, "mlflow.parentRunId", parent)
        return run


@dataclass
class TuningWriter(Writer):
    """Brings the MLflow runs of a study's tuning phase up to what is on disk; they lie below the study's own run.

    Attributes:
        rows: the folder of the tuning phase.
        describe: name of a trial -> its ``method``, ``configuration``, ``seed`` and ``values``; None for no trial.
        chosen: trials of the configurations that are confirmed.
        endings: trial -> how its configuration ended, in words, once that is known.
    """

    rows: StudyFolder = field(kw_only=True)
    describe: Callable[[str], Mapping[str, Any] | None] = field(kw_only=True)
    chosen: set[str] = field(default_factory=set, kw_only=True)
    endings: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    def write_parent(self, status: str, note: str, metrics: Mapping[str, float]) -> None:  # noqa: ARG002
        """Mark what was chosen and how each configuration ended; the study itself is written when that is confirmed."""
        self.open()
        for name, run in self._runs.items():
            wanted = {"ending": self.endings.get(name), "chosen": "yes" if name in self.chosen else None}
            for tag, value in wanted.items():
                if value is not None and run.tags.get(tag) != value:
                    self._connected.set_tag(run.run_id, tag, value)
                elif value is None and tag in run.tags and self.endings:  # chosen before others were tried again
                    self._connected.delete_tag(run.run_id, tag)

    def _record(self, name: str) -> TrialRecord:
        return self.rows.record(name)

    def _knows(self, name: str) -> bool:
        return self.describe(name) is not None

    def _told(self, name: str) -> Mapping[str, Any]:
        return self.describe(name) or {}

    def _labels(self, name: str) -> dict[str, str]:
        told = self._told(name)
        labels = {part: str(told[part]) for part in ("method", "configuration", "seed")}
        return {"study": self.folder.name, "phase": "tuning", **labels}

    def _run_name(self, name: str) -> str:
        told = self._told(name)
        return f"tuning · {told['method']} {told['configuration']} · seed {told['seed']}"

    def _family(self, name: str) -> str:
        return str(self._told(name)["method"])

    def _settings(self, name: str) -> dict[str, object]:
        return dict(self._told(name)["values"])


def _ended(record: TrialRecord) -> int | None:
    """Return when a trial ended in milliseconds since 1970, or None: writing it again must not change it."""
    if record.started is None or record.seconds is None:
        return None
    return int(1000 * (record.started + record.seconds))


def _batches(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """Yield metrics in requests that MLflow writes whole or not at all; a row is in one request if it fits."""
    batch: list[Any] = []
    for row in rows:
        metrics = _metrics(row)  # the last of them tells that the row is there
        if batch and len(batch) + len(metrics) > _MAX_METRICS:
            yield batch
            batch = []
        batch += metrics
        while len(batch) > _MAX_METRICS:
            yield batch[:_MAX_METRICS]
            batch = batch[_MAX_METRICS:]
    if batch:
        yield batch


def _metrics(row: Mapping[str, Any]) -> list[Any]:
    """Return a row as MLflow metrics at its epoch; of the final row only what the epochs' rows have not told yet."""
    from mlflow.entities import Metric

    final = row["kind"] == "final"
    stamp, epoch = int(1000 * float(row["time"])), int(row["epoch"])
    names = [name for name in row if name not in {"kind", "epoch", "time", "step"}]
    told = {name: float(row[name]) for name in names if not final or name.startswith("test/")}
    told |= {"best_epoch": float(epoch)} if final else {"step": float(row["step"])}
    return [Metric(name, value, stamp, epoch) for name, value in told.items() if not math.isinf(value)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif name != "arms":
            flat[f"{prefix}{name}"] = value
    return flat
