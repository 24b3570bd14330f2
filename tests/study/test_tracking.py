import json
import os
import socket
import subprocess
import sys
import time

import pytest

from study import mlflow_runs, mlflow_store, tracking
from study.errors import StudyError
from study.mlflow_writer import Writer
from study.records import StudyFolder
from study.tracking import Tracker, sync

LOCK = {
    "study": "weighting-12345678",
    "title": "Mine",
    "identity": "a" * 64,
    "seeds": [0, 1],
    "control": "softmax",
    "tasks": [],
    "reference_weights": {},
    "facts": {},
    "definition": {
        "name": "weighting",
        "corpus": {"name": "synthetic"},
        "split": {"protocol": "speaker_disjoint"},
        "network": {"name": "chae", "preset": "small"},
        "training": {"epochs": 2, "learning_rate": 0.001},
        "arms": [{"strategy": "softmax"}],
    },
    "arms": [{"arm": "softmax", "label": "softmax", "strategy": "softmax", "family": "softmax", "options": {}}],
    "trials": [{"trial": f"softmax-seed{seed}", "arm": "softmax", "seed": seed} for seed in (0, 1)],
    "corpus": {"name": "synthetic", "root": None, "content_hash": "a" * 64, "num_utterances": 480},
    "versions": {"torch": "2.14.1"},
    "git_commit": "abc",
}


NEW_DATABASE = """
import logging, sys
import mlflow  # as somebody else may have done before
from study.mlflow_store import connect
connect(sys.argv[1])
logging.getLogger("mlflow.store").warning("a value was cut")
"""


def test_a_new_database_is_made_without_a_word_and_warnings_are_still_said(tmp_path):
    command = [sys.executable, "-c", NEW_DATABASE, f"sqlite:///{tmp_path / 'mlflow.db'}"]
    environment = os.environ | {"MLFLOW_LOGGING_LEVEL": "INFO"}  # its default
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.endswith("WARNING mlflow.store: a value was cut")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def uri(home):
    """One database for the module: making its schema takes seconds."""
    return f"sqlite:///{home / 'mlflow.db'}"


@pytest.fixture
def folder(home, request):
    made = StudyFolder(home / f"weighting-{abs(hash(request.node.name)) % 10**8:08d}")
    made.create()
    made.write_text(made.lock, json.dumps(LOCK))
    made.write_text(made.definition, "name: weighting\n")
    made.report.mkdir()
    (made.report / "report.md").write_text("# Report\n")
    return made


def run_trial(folder, trial, *, epochs=2, end="finished"):
    folder.append(trial, {"event": "start"})
    for epoch in range(1, epochs + 1):
        row = {"kind": "epoch", "epoch": epoch, "step": 10 * epoch, "valid/joint_nll": 1 / epoch, "weight/emotion": 0.5}
        row |= {"weight/entropy": 0.9, "gradient/norm/emotion": 2.0, "gradient/cosine/emotion:gender": -0.25}
        folder.append(trial, {"event": "row", "row": row})
    if end == "finished":
        final = {"kind": "final", "epoch": epochs, "step": 20, "valid/joint_nll": 0.5, "test/joint_nll": 0.6}
        folder.append(trial, {"event": "row", "row": final})
        folder.append(trial, {"event": "end", "status": "finished"})
    if end == "failed":
        folder.append(
            trial, {"event": "end", "status": "failed", "error": "loss is nan", "traceback": "Traceback: here"}
        )


def runs_of(uri, folder):
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("weighting")
    found = client.search_runs([experiment.experiment_id], f"tags.study = '{folder.name}'")
    return client, {run.data.tags.get(mlflow_runs.TRIAL_TAG, "parent"): run for run in found}


def test_a_study_becomes_one_parent_run_and_one_child_run_a_trial(uri, folder):
    run_trial(folder, "softmax-seed0")
    run_trial(folder, "softmax-seed1", end="failed")
    assert sync(folder, uri, "FINISHED", "the summary", {"trials_finished": 1.0}) == 2
    client, runs = runs_of(uri, folder)
    parent, first, second = (runs[name] for name in ("parent", "softmax-seed0", "softmax-seed1"))
    assert len(runs) == 3
    assert parent.data.tags["mlflow.note.content"] == "the summary"
    assert parent.data.tags["mlflow.source.git.commit"] == "abc"
    assert parent.data.params["training.learning_rate"] == "0.001"
    assert parent.inputs.dataset_inputs[0].dataset.name == "synthetic"
    assert {first.data.tags["mlflow.parentRunId"], second.data.tags["mlflow.parentRunId"]} == {parent.info.run_id}
    assert (first.info.status, second.info.status, parent.info.status) == ("FINISHED", "FAILED", "FINISHED")
    assert first.info.run_name == "softmax · seed 0"
    assert first.data.params["strategy"] == "softmax"
    assert first.data.metrics["test/joint_nll"] == 0.6
    assert first.data.metrics["gradient/cosine/emotion:gender"] == -0.25
    assert [(point.step, point.value) for point in client.get_metric_history(first.info.run_id, "valid/joint_nll")] == [
        (1, 1.0),
        (2, 0.5),
    ]
    assert second.data.tags["error"] == "loss is nan"
    assert "report" in [artifact.path for artifact in client.list_artifacts(parent.info.run_id)]


def test_writing_everything_again_changes_nothing(uri, folder):
    run_trial(folder, "softmax-seed0")
    for _ in range(2):
        sync(folder, uri, "FINISHED", "", {})
    client, runs = runs_of(uri, folder)
    assert len(runs) == 2
    assert len(client.get_metric_history(runs["softmax-seed0"].info.run_id, "valid/joint_nll")) == 2


def test_a_trial_that_goes_on_after_a_crash_keeps_its_run_and_a_gapless_history(uri, folder):
    run_trial(folder, "softmax-seed0", epochs=1, end=None)
    sync(folder, uri, "KILLED", "", {})
    _, before = runs_of(uri, folder)
    assert before["softmax-seed0"].info.status == "KILLED"
    run_trial(folder, "softmax-seed0")
    sync(folder, uri, "FINISHED", "", {})
    client, after = runs_of(uri, folder)
    assert after["softmax-seed0"].info.run_id == before["softmax-seed0"].info.run_id
    assert after["softmax-seed0"].info.status == "FINISHED"
    assert {
        point.step for point in client.get_metric_history(after["softmax-seed0"].info.run_id, "valid/joint_nll")
    } == {1, 2}


def points(client, run, name):
    return sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))


def test_an_epoch_that_was_repeated_is_one_point(uri, folder):
    run_trial(folder, "softmax-seed0", epochs=1, end=None)
    sync(folder, uri, "KILLED", "", {})
    time.sleep(0.002)  # rows carry the time they were recorded at, in milliseconds
    run_trial(folder, "softmax-seed0")
    for _ in range(2):
        sync(folder, uri, "FINISHED", "", {})
    client, runs = runs_of(uri, folder)
    assert points(client, runs["softmax-seed0"], "valid/joint_nll") == [(1, 1.0), (2, 0.5)]


def test_numbers_of_an_attempt_that_was_mended_make_room_for_the_new_ones(uri, folder):
    run_trial(folder, "softmax-seed0", epochs=1, end="failed")
    sync(folder, uri, "FINISHED", "", {})
    folder.append("softmax-seed0", {"event": "start"})
    row = {"kind": "epoch", "epoch": 1, "step": 10, "valid/joint_nll": 0.75, "time/epoch_s": 2.0}
    folder.append("softmax-seed0", {"event": "row", "row": row})
    folder.append("softmax-seed0", {"event": "end", "status": "finished"})
    sync(folder, uri, "FINISHED", "", {})
    client, runs = runs_of(uri, folder)
    assert points(client, runs["softmax-seed0"], "valid/joint_nll") == [(1, 0.75)]
    assert len(runs) == 2


def test_a_trial_that_failed_and_then_finished_has_no_error_left(uri, folder):
    run_trial(folder, "softmax-seed0", end="failed")
    sync(folder, uri, "FINISHED", "", {})
    run_trial(folder, "softmax-seed0")
    sync(folder, uri, "FINISHED", "", {})
    run = runs_of(uri, folder)[1]["softmax-seed0"]
    assert run.info.status == "FINISHED"
    assert not {"error", "mlflow.note.content"} & set(run.data.tags)


class _DiesError(BaseException):
    """Stands for SIGKILL: no handler of ours runs."""


CALLS = ("create_run", "log_batch", "log_inputs", "set_terminated", "set_tag")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_before_or_after_any_request_leaves_nothing_out_and_nothing_twice(uri, home, monkeypatch, when):
    """Ends the writer at its first request, writes on, ends it at its second, and so on to the last."""
    from mlflow import MlflowClient

    monkeypatch.setattr("study.mlflow_runs._MAX_METRICS", 15)  # several requests a trial
    allowed = 0
    made = StudyFolder(home / f"kills-{when}")
    made.create()
    made.write_text(made.lock, json.dumps(LOCK))
    made.write_text(made.definition, "name: weighting\n")
    for seed in (0, 1):
        run_trial(made, f"softmax-seed{seed}", epochs=5)
    originals = {name: getattr(MlflowClient, name) for name in CALLS}
    count = 0

    def counted(name):
        def call(*arguments, **options):
            nonlocal count
            count += 1
            if count == allowed and when == "before":
                raise _DiesError
            result = originals[name](*arguments, **options)
            if count == allowed:
                raise _DiesError
            return result

        return call

    for name in CALLS:
        monkeypatch.setattr(MlflowClient, name, counted(name))
    deaths = 0
    for after in (1, 2, 3, 1, 2, 4, 1, 3, 2, 1, 0):  # 0: to the end
        count, allowed, writer = 0, after, Writer(made, uri)
        try:
            for seed in (0, 1):
                writer.write(f"softmax-seed{seed}", is_live=False)
            writer.write_parent("FINISHED", "", {})
        except _DiesError:
            deaths += 1
    assert deaths >= 9  # the last may find everything done
    client, runs = runs_of(uri, made)
    assert (
        len(
            client.search_runs(
                [client.get_experiment_by_name("weighting").experiment_id], f"tags.study = '{made.name}'"
            )
        )
        == 3
    )
    for seed in (0, 1):
        run = runs[f"softmax-seed{seed}"]
        assert points(client, run, "valid/joint_nll") == [(epoch, 1 / epoch) for epoch in range(1, 6)]
        assert points(client, run, "test/joint_nll") == [(5, 0.6)]
        assert {"strategy", "network.name", "training.epochs"} <= set(run.data.params)
        assert run.info.status == "FINISHED"
    assert runs["parent"].inputs.dataset_inputs
    assert runs["parent"].data.params["training.learning_rate"] == "0.001"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_fails_before_or_after_it_did_as_asked_and_recovers_has_everything_once(
    uri, folder, monkeypatch, when
):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for seed in (0, 1):
        run_trial(folder, f"softmax-seed{seed}", epochs=3)
    counts = dict.fromkeys(CALLS, 0)

    def unreliable(name, original):
        def call(*arguments, **options):
            counts[name] += 1
            fails = counts[name] % 2 == 1  # every other request of each kind
            if fails and when == "before":
                raise MlflowException("500: out of order")
            result = original(*arguments, **options)
            if fails:
                raise MlflowException("500: out of order")
            return result

        return call

    for name in CALLS:
        monkeypatch.setattr(MlflowClient, name, unreliable(name, getattr(MlflowClient, name)))
    tracker = Tracker(folder, uri)
    tracker.start()
    attempts = 1
    while problem := tracker.finish("FINISHED", "", {}):
        assert problem == "500: out of order"
        attempts += 1
        assert attempts < 40
    assert attempts > 2
    client, runs = runs_of(uri, folder)
    assert sorted(runs) == ["parent", "softmax-seed0", "softmax-seed1"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(client.search_runs([runs["parent"].info.experiment_id], f"tags.study = '{folder.name}'")) == 3
    for seed in (0, 1):
        run = runs[f"softmax-seed{seed}"]
        assert points(client, run, "valid/joint_nll") == [(epoch, 1 / epoch) for epoch in (1, 2, 3)]
        assert "training.learning_rate" in run.data.params


def test_a_second_run_of_a_trial_and_runs_that_somebody_deleted_are_put_right(uri, folder):
    from mlflow import MlflowClient

    for seed in (0, 1):
        run_trial(folder, f"softmax-seed{seed}")
    sync(folder, uri, "FINISHED", "", {})
    client, runs = runs_of(uri, folder)
    client.create_run(runs["parent"].info.experiment_id, tags=runs["softmax-seed0"].data.tags)
    client.delete_run(runs["softmax-seed1"].info.run_id)
    client.delete_run(runs["parent"].info.run_id)
    sync(folder, uri, "FINISHED", "", {})
    found = MlflowClient(uri).search_runs([runs["parent"].info.experiment_id], f"tags.study = '{folder.name}'")
    assert sorted(run.data.tags.get(mlflow_runs.TRIAL_TAG, "parent") for run in found) == [
        "parent",
        "softmax-seed0",
        "softmax-seed1",
    ]
    (parent,) = (run.info.run_id for run in found if mlflow_runs.PARENT_TAG in run.data.tags)
    assert {run.data.tags.get("mlflow.parentRunId", parent) for run in found} == {parent}
    for run in found:
        if run.info.run_id != parent:
            assert points(client, run, "valid/joint_nll") == [(1, 1.0), (2, 0.5)]


def test_no_run_looks_as_if_it_were_running_after_a_driver_was_killed(uri, folder):
    run_trial(folder, "softmax-seed0", end=None)
    writer = Writer(folder, uri)
    writer.write("softmax-seed0", is_live=True)
    assert runs_of(uri, folder)[1]["softmax-seed0"].info.status == "RUNNING"
    sync(folder, uri, "KILLED", "", {})
    assert {run.info.status for run in runs_of(uri, folder)[1].values()} == {"KILLED"}


def test_one_trial_that_is_refused_does_not_keep_the_others_out(uri, folder):
    run_trial(folder, "softmax-seed0", end=None)
    row = {"kind": "epoch", "epoch": 9, "step": 90, "valid/joint_nll": 1.0, "a name @ MLflow refuses": 1.0}
    folder.append("softmax-seed0", {"event": "row", "row": row})
    run_trial(folder, "softmax-seed1")
    with pytest.raises(StudyError, match=r"cannot be written: Invalid value \"a name @ MLflow refuses"):
        sync(folder, uri, "FINISHED", "", {})
    assert runs_of(uri, folder)[1]["softmax-seed1"].info.status == "FINISHED"


def test_parameters_never_change_when_a_study_goes_on_otherwise(uri, folder):
    run_trial(folder, "softmax-seed0")
    sync(folder, uri, "FINISHED", "", {})
    lock = json.loads(json.dumps(LOCK))
    lock["definition"]["training"] |= {"learning_rate": 0.5, "diagnose_every": 3}
    folder.write_text(folder.lock, json.dumps(lock))
    sync(folder, uri, "FINISHED", "", {})
    run = runs_of(uri, folder)[1]["softmax-seed0"]
    assert run.data.params["training.learning_rate"] == "0.001"
    assert run.data.params["training.diagnose_every"] == "3"


def test_a_row_of_many_tasks_goes_in_several_requests_that_end_with_its_step():
    rows = [{"kind": "epoch", "epoch": 1, "step": 5, "time": 1.0} | {f"gradient/cosine/{i}": 0.5 for i in range(2500)}]
    rows += [{"kind": "epoch", "epoch": epoch, "step": 5 * epoch, "time": 1.0, "a": 1.0} for epoch in (2, 3)]
    batches = list(mlflow_runs.batches(rows))
    assert [len(batch) for batch in batches] == [1000, 1000, 505]
    assert [[metric.step for metric in batch if metric.key == "step"] for batch in batches] == [[], [], [1, 2, 3]]
    assert batches[2][500].key == "step"


def test_a_pending_trial_has_no_run(uri, folder):
    run_trial(folder, "softmax-seed0")
    sync(folder, uri, "FINISHED", "", {})
    assert set(runs_of(uri, folder)[1]) == {"parent", "softmax-seed0"}


@pytest.fixture
def dead_uri():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_server_that_does_not_answer_stops_nothing_and_is_told_at_the_end(dead_uri, folder):
    run_trial(folder, "softmax-seed0")
    tracker = Tracker(folder, dead_uri)
    tracker.start()
    problem = tracker.finish("FINISHED", "", {})
    assert problem
    assert "\n" not in problem


def test_what_a_dead_server_missed_is_written_once_it_answers(dead_uri, uri, folder):
    run_trial(folder, "softmax-seed0")
    tracker = Tracker(folder, dead_uri)
    tracker.start()
    assert tracker.finish("FINISHED", "", {})
    sync(folder, uri, "FINISHED", "", {})
    assert runs_of(uri, folder)[1]["softmax-seed0"].data.metrics["test/joint_nll"] == 0.6


def test_asking_a_dead_server_is_one_clear_line(dead_uri, folder):
    run_trial(folder, "softmax-seed0")
    with pytest.raises(
        StudyError, match=rf"tracking store {dead_uri} cannot be written: .*; nothing is lost, try again later"
    ):
        sync(folder, dead_uri, "FINISHED", "", {})
    with pytest.raises(StudyError, match=f"tracking store {dead_uri} does not answer"):
        tracking.check_reachable(dead_uri)


def test_the_pages_refuse_a_home_without_studies_and_a_taken_port(tmp_path, home, uri, folder):
    with pytest.raises(StudyError, match=r"there is no .*mlflow.db yet: run a study first"):
        tracking.serve(tmp_path, 5000)
    sync(folder, uri, "FINISHED", "", {})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StudyError, match=f"port {port} is not free"):
            tracking.serve(home, port)


def test_the_pages_of_every_experiment_are_told_as_addresses_that_open_at_its_runs(
    home, uri, folder, monkeypatch, capsys
):
    sync(folder, uri, "FINISHED", "", {})
    client = mlflow_store.connect(uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == LOCK["definition"]["name"]]
    client.delete_experiment_tag(experiment.experiment_id, mlflow_store.KIND_TAG)  # as an older version has left it
    client.delete_experiment(experiment.experiment_id)  # and somebody has deleted it in MLflow's pages
    sync(folder, uri, "FINISHED", "", {})
    assert client.get_experiment(experiment.experiment_id).lifecycle_stage == "active"
    started = []
    monkeypatch.setattr(tracking.os, "execv", lambda *arguments: started.append(arguments))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tracking.serve(home, port)
    assert len(started) == 1
    page = f"http://127.0.0.1:{port}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    assert f"{experiment.name}: {page}" in capsys.readouterr().err.splitlines()


def test_a_trial_of_a_fold_is_named_by_it_and_can_be_filtered_by_it(uri, folder):
    trial = {"trial": "softmax-seed0-fold3", "arm": "softmax", "seed": 0, "fold": 3}
    folder.write_text(folder.lock, json.dumps({**LOCK, "trials": [trial]}))
    run_trial(folder, trial["trial"])
    sync(folder, uri, "FINISHED", "", {})
    run = runs_of(uri, folder)[1]["softmax-seed0-fold3"]
    assert run.info.run_name == "softmax · seed 0 · fold 3"
    assert run.data.params["fold"] == run.data.tags["fold"] == "3"


def test_a_database_that_a_kill_left_half_made_is_made_anew(tmp_path, monkeypatch):
    import mlflow

    from study.mlflow_store import connect

    class Killed(BaseException):
        pass

    def die(client, **options):
        raise Killed

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "search_experiments", die)
        with pytest.raises(Killed):
            connect(uri)
    assert not (tmp_path / "mlflow.db").exists()
    (tmp_path / ".mlflow.db.half-1").write_bytes(b"torn")
    client = connect(uri)
    assert (tmp_path / "mlflow.db").exists()
    assert not list(tmp_path.glob(".mlflow.db.half*"))
    experiment = client.create_experiment("mine")
    assert [each.name for each in connect(uri).search_experiments()] == ["mine", "Default"]
    client.delete_experiment(experiment)
