"""Bring one study's MLflow runs up to what is on disk.

Every step may be repeated: runs are found again by their tags, and what of a trial is there already is told by its
latest ``step``, as rows are written in order and each whole or not at all.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from strategies.text import redacted
from study.mlflow_runs import PARENT_TAG, TRIAL_TAG, Run, as_run, batches, ended, flat
from study.mlflow_store import KIND, KIND_TAG, connect, found_runs
from study.records import StudyFolder, TrialRecord

_STATUS = {"finished": "FINISHED", "failed": "FAILED"}


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
    _runs: dict[str, Run] = field(default_factory=dict)
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

    def _find_runs(self) -> dict[str, Run]:
        """Return trial -> its run, the study's own under an empty name; no trial keeps a second one.

        A request that took too long may have made a run after it was asked for again.
        """
        runs: dict[str, Run] = {}
        for run in self._search():
            name = run.tags.get(TRIAL_TAG, "" if PARENT_TAG in run.tags else None)
            if name is None:
                continue
            first, second = sorted((runs.get(name, run), run), key=lambda each: (-each.step, each.run_id))
            runs[name] = first
            if first.run_id != second.run_id:
                self._connected.delete_run(second.run_id)
        return runs

    def _search(self) -> Iterator[Run]:
        yield from map(as_run, found_runs(self._connected, [self._experiment], f"tags.`study` = '{self.folder.name}'"))

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

    def _complete_parent(self, run: Run | None, lock: Mapping[str, Any]) -> str:
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
            run = as_run(self._connected.create_run(self._experiment, run_name=self.folder.name, tags=tags))
        self._log_params(run, flat(definition))
        if not run.has_corpus:
            self._log_corpus(run.run_id, lock["corpus"])
        return run.run_id

    def _log_params(self, run: Run, values: Mapping[str, object]) -> None:
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

    def _write_rows(self, run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
        for metrics in batches([row for row in rows if run.lacks(row)]):
            self._connected.log_batch(run.run_id, metrics=metrics)
            run.metrics |= {metric.key: metric.value for metric in metrics}

    def _write_status(self, run: Run, record: TrialRecord, status: str) -> None:
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
            client.set_terminated(run.run_id, status, end_time=ended(record))
        run.status = status

    def _create_trial(self, name: str, record: TrialRecord) -> Run:
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
        return self._complete_trial(name, as_run(made), self._parent)

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
        return flat({"network": definition["network"], "training": training, "options": arm["options"]})

    def _complete_trial(self, name: str, run: Run, parent: str) -> Run:
        """Return the run of a trial with all that a process that was killed may have left out."""
        if self._knows(name):
            self._log_params(run, self._labels(name) | self._settings(name))
        if run.tags.get("mlflow.parentRunId") != parent:
            self._connected.set_tag(run.run_id, "mlflow.parentRunId", parent)
        return run
