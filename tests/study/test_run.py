"""The main job as a user runs it, in processes of its own: real Ray, real MLflow, real signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TINY = [
    *("--set", "corpus.options={num_speakers: 12, utterances_per_speaker: 8}"),
    *("--set", "seeds=2"),
    *("--set", "arms=[{strategy: equal}, {strategy: softmax}]"),
]
TIMED = ("time", "memory/peak_mb", "time/step_ms", "time/epoch_s", "time/diagnostics_s")


class Home:
    """A study home and the command line that uses it."""

    def __init__(self, folder: Path, cache: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "STUDY_HOME": str(folder), "STUDY_CACHE": cache, "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "study.cli", "run", "weighting", *TINY, *arguments]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=self.environment, text=True, start_new_session=True, **pipes)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=200)
        return process.returncode, out, err

    @property
    def study(self) -> Path:
        (found,) = self.folder.glob("weighting-*")
        return found

    def events(self, trial: str) -> list[dict]:
        return [json.loads(line) for line in (self.study / "rows" / f"{trial}.jsonl").read_text().splitlines()]

    def all_events(self, trial: str) -> list[dict]:
        """The lines of a trial that are whole."""
        lines = (self.study / "rows" / f"{trial}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def rows(self, trial: str) -> list[dict]:
        """The rows of a trial without what depends on the machine's load."""
        rows = [event["row"] for event in self.all_events(trial) if event["event"] == "row"]
        return [{name: value for name, value in row.items() if name not in TIMED} for row in rows]

    def ended(self) -> set[str]:
        trials = [path.stem for path in self.folder.glob("weighting-*/rows/*.jsonl")]
        return {trial for trial in trials if self.events(trial)[-1]["event"] == "end"}

    def mlflow_runs(self) -> dict[str, str]:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("weighting")
        runs = client.search_runs([experiment.experiment_id])
        return {run.data.tags.get("study.trial", "parent"): run.info.status for run in runs}


@pytest.fixture
def home(tmp_path, tmp_path_factory):
    return Home(tmp_path / "studies", str(tmp_path_factory.getbasetemp() / "cache"))


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("waited in vain")
        time.sleep(0.1)


ALL = {f"{arm}-seed{seed}" for arm in ("equal", "softmax") for seed in (0, 1)}


def test_a_study_runs_is_recorded_compared_reported_and_is_not_run_twice(home):
    code, out, err = home.run("--set", "training.epochs=2")
    assert code == 0, err
    assert home.ended() == ALL
    assert {path.name for path in (home.study / "predictions").iterdir()} == {f"{trial}.npz" for trial in ALL}
    assert home.mlflow_runs() == dict.fromkeys(ALL | {"parent"}, "FINISHED")
    assert re.search(r"softmax +2 ", out)
    for part in ("report.md", "figures/weights.png", "figures/task_plane.png", "figures/joint_loss.png"):
        assert (home.study / "report" / part).stat().st_size > 500
    assert len([line for line in err.splitlines() if re.match(r"\[\d/4\] ", line)]) == 4
    assert "study ui" in err
    assert not re.search(r"ray|INFO|WARNING|Traceback", err.replace(str(home.folder), ""))

    before = home.rows("softmax-seed0")
    code, again, err = home.run("--set", "training.epochs=2")
    assert code == 0
    assert "0 of 4 trials to run" in err
    assert again == out
    assert home.rows("softmax-seed0") == before

    code, _, err = home.run("--set", "training.epochs=2", "--set", "seeds=3", "--quiet")
    assert code == 0
    assert err.count("\n") <= 2
    assert home.ended() == ALL | {"equal-seed2", "softmax-seed2"}
    assert home.rows("softmax-seed0") == before

    code, out, err = home.run("--set", "training.epochs=2", "--set", "seeds=1")
    assert code == 0
    assert "0 of 2 trials to run" in err
    assert re.search(r"softmax +3 ", out)


def test_quiet_and_the_same_study_elsewhere_give_bit_identical_rows(home, tmp_path):
    other = Home(tmp_path / "other", home.environment["STUDY_CACHE"])
    for each in (home, other):
        assert each.run("--set", "training.epochs=1", "--set", "seeds=1", "--quiet")[0] == 0
    for trial in ("equal-seed0", "softmax-seed0"):
        assert home.rows(trial) == other.rows(trial)


def install_plugin(folder: Path) -> str:
    """Put a distribution on a path with two strategies: one breaks at its fifth step, one meets a full disk once."""
    (folder / "breaking.py").write_text(
        "import errno\n"
        "from pathlib import Path\n"
        "from strategies import Strategy\n"
        "from strategies.static import EqualWeighting\n"
        "class Breaking(Strategy):\n"
        "    steps = 0\n"
        "    def weights(self, losses):\n"
        "        self.steps += 1\n"
        "        return losses.detach() * (float('nan') if self.steps == 5 else 1.0)\n"
        "class Unlucky(EqualWeighting):\n"
        "    def after_epoch(self, losses):\n"
        f"        was_here = Path({str(folder / 'was-here')!r})\n"
        "        if not was_here.exists():\n"
        "            was_here.touch()\n"
        "            raise OSError(errno.ENOSPC, 'No space left on device')\n"
    )
    metadata = folder / "breaking-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: breaking\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[study.strategies]\nbreaking = breaking:Breaking\nunlucky = breaking:Unlucky\n"
    )
    return str(folder)


def test_a_failing_arm_is_a_row_with_its_traceback_and_the_others_go_on(home, tmp_path):
    path = install_plugin(tmp_path)
    home.environment["PYTHONPATH"] = os.pathsep.join([path, os.environ.get("PYTHONPATH", "")])
    arms = "arms=[{strategy: equal}, {strategy: breaking}, {strategy: unlucky}]"
    code, out, err = home.run("--set", arms, "--set", "training.epochs=2")
    assert code == 1
    assert home.ended() == {f"{arm}-seed{seed}" for arm in ("equal", "breaking", "unlucky") for seed in (0, 1)}
    postponed = [event for event in home.events("unlucky-seed0") if event["event"] == "postponed"]
    assert [event["error"] for event in postponed] == ["OSError: [Errno 28] No space left on device"]
    assert "unlucky-seed0 is tried again later: OSError: [Errno 28] No space left on device" in err
    assert home.rows("unlucky-seed0") == home.rows("equal-seed0")  # tried again, and no number differs
    assert home.mlflow_runs()["unlucky-seed0"] == "FINISHED"
    end = home.events("breaking-seed0")[-1]
    assert end["status"] == "failed"
    assert re.match(r"not a finite number at step 5: losses emotion .*weights \(nan, nan\)", end["error"])
    assert "TrainingError" in end["traceback"]
    assert "breaking-seed0: failed: not a finite number at step 5" in err
    assert "2 trials failed" in err
    assert "--retry-failed" in err
    assert "breaking" in out
    assert home.mlflow_runs()["breaking-seed0"] == "FAILED"
    assert home.mlflow_runs()["equal-seed0"] == "FINISHED"
    assert "not a finite number at step 5" in (home.study / "report" / "report.md").read_text()


def test_ctrl_c_keeps_finished_trials_and_prints_the_command_to_go_on(home):
    process = home.start("--set", "training.epochs=12")
    wait_for(lambda: len(home.ended()) >= 1)
    os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the whole group, Ray's processes included
    _, err = process.communicate(timeout=60)
    kept = home.ended()
    assert process.returncode == 130, err
    assert 1 <= len(kept) < 4
    assert re.search(r"interrupted with \d trials to go; finished trials are kept. To go on: study run weighting", err)
    assert "RUNNING" not in home.mlflow_runs().values()
    before = {trial: home.rows(trial) for trial in kept}
    code, _, err = home.run("--set", "training.epochs=12")
    assert code == 0, err
    assert f"{4 - len(kept)} of 4 trials to run" in err
    assert home.ended() == ALL
    assert {trial: home.rows(trial) for trial in kept} == before
    assert home.mlflow_runs() == dict.fromkeys(ALL | {"parent"}, "FINISHED")


def test_a_killed_driver_loses_no_finished_trial(home):
    process = home.start("--set", "training.epochs=6")
    wait_for(lambda: len(home.ended()) >= 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    kept = {trial: home.rows(trial) for trial in home.ended()}
    code, _, err = home.run("--set", "training.epochs=6")
    assert code == 0, err
    assert home.ended() == ALL
    assert {trial: home.rows(trial) for trial in kept} == kept
    assert home.mlflow_runs() == dict.fromkeys(ALL | {"parent"}, "FINISHED")


def workers_of(process: int) -> list[int]:
    """Process ids of the Ray workers that run trials below a driver, found by the title Ray gives them."""
    return in_session(process, "ray::.*(train|run_trial|Implicit)")


def in_session(process: int, pattern: str) -> list[int]:
    """Process ids of a session by a pattern of their titles."""
    listing = subprocess.run(["ps", "-ww", "-eo", "pid,sess,args"], check=True, capture_output=True, text=True).stdout
    lines = [line.split(maxsplit=2) for line in listing.splitlines()[1:]]
    return [int(pid) for pid, session, title in lines if int(session) == process and re.search(pattern, title)]


SHORT = ("--set", "training.epochs=6", "--set", "seeds=1")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A study that nothing happened to."""
    made = Home(tmp_path_factory.mktemp("undisturbed"), str(tmp_path_factory.getbasetemp() / "cache"))
    assert made.run(*SHORT, "--quiet")[0] == 0
    return made


def agrees(home, undisturbed):
    """Whether every trial ended once, with the numbers and predictions of the undisturbed study."""
    for trial in ("equal-seed0", "softmax-seed0"):
        ends = [event["status"] for event in home.all_events(trial) if event["event"] == "end"]
        last = {(row["kind"], row["epoch"]): row for row in home.rows(trial)}
        predictions = [each.study / "predictions" / f"{trial}.npz" for each in (home, undisturbed)]
        if ends != ["finished"] or [last[key] for key in sorted(last)] != undisturbed.rows(trial):
            return False
        if predictions[0].read_bytes() != predictions[1].read_bytes():
            return False
    return True


@pytest.mark.timeout(480)  # four starts of Ray
def test_a_dead_node_a_termination_and_torn_files_change_no_number(home, undisturbed):
    home.environment["STUDY_CHECKPOINT_SECONDS"] = "0"  # after every epoch
    process = home.start(*SHORT)
    wait_for(lambda: any(home.folder.glob("weighting-*/checkpoints/*/previous.pt")))
    raylet = next(iter(in_session(process.pid, "raylet/raylet ")), None)
    assert raylet is not None, process.communicate()
    os.kill(raylet, signal.SIGKILL)
    process.communicate(timeout=150)
    torn = sorted(home.folder.glob("weighting-*/checkpoints/*/last.pt"))[0]
    torn.write_bytes(torn.read_bytes()[:-10])
    trial = torn.parent.name
    rows = home.study / "rows" / f"{trial}.jsonl"
    rows.write_bytes(rows.read_bytes()[:-30])

    process = home.start(*SHORT)
    wait_for(lambda: "is damaged" in rows.read_text())
    os.kill(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "finished trials are kept. To go on: study run weighting" in said
    code, _, err = home.run(*SHORT)
    assert code == 0, err
    notes = [event["note"] for event in home.all_events(trial) if event.get("event") == "note"]
    assert re.search(r"last.pt is damaged.*the trial goes on after epoch \d, from the one before", notes[0])
    assert agrees(home, undisturbed)
    assert home.mlflow_runs() == dict.fromkeys(["equal-seed0", "softmax-seed0", "parent"], "FINISHED")


def test_a_killed_worker_costs_time_and_changes_no_number(home, undisturbed):
    process = home.start(*SHORT)
    wait_for(lambda: any(home.folder.glob("weighting-*/rows/*.jsonl")) and workers_of(process.pid))
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    assert "worker died" not in out + err
    assert "worker died" in (home.study / "study.log").read_text()
    assert agrees(home, undisturbed)


def test_a_tracking_server_that_is_away_stops_nothing_and_is_told(home):
    home.environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    code, out, err = home.run("--set", "training.epochs=1", "--set", "seeds=1")
    assert code == 1
    assert "softmax" in out
    assert "not recorded in MLflow (http://127.0.0.1:9)" in err
    assert f"nothing is lost; when it answers again: study sync {home.study.name}" in err
    del home.environment["MLFLOW_TRACKING_URI"]
    command = [sys.executable, "-m", "study.cli", "sync", home.study.name]
    done = subprocess.run(command, env=home.environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(home.mlflow_runs().values()) == {"FINISHED"}
