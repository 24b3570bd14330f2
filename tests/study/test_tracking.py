import json
import socket

import pytest

from study import tracking
from study.errors import StudyError
from study.records import StudyFolder
from study.tracking import Tracker, sync

LOCK = {
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
    return client, {run.data.tags.get(tracking.TRIAL_TAG, "parent"): run for run in found}


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
