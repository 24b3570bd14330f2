import subprocess
import sys

import pytest

from study import driver, ray_start
from study.definition import Resources
from study.errors import StudyError
from study.nodes import Machine
from study.ray_start import available_cpus, ray_started


def test_this_process_may_use_at_least_one_cpu():
    assert available_cpus() >= 1


def test_ray_is_started_here_even_where_another_cluster_runs(tmp_path, monkeypatch):
    import ray

    asked = {}
    monkeypatch.setattr(ray, "init", lambda **settings: asked.update(settings))
    monkeypatch.setattr("study.ray_start.machines", lambda: [Machine(2)])
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr("study.ray_start._token_exists", lambda: False)
    with ray_started(None, tmp_path / "log") as machines:
        assert machines == [Machine(2)]
    assert asked["address"] == "local"
    assert asked["num_cpus"] == available_cpus()
    with ray_started("10.0.0.1:6379", tmp_path / "log"):
        pass
    assert asked["address"] == "10.0.0.1:6379"


def test_a_cluster_that_is_not_there_is_one_clear_line(tmp_path, monkeypatch):
    import ray

    def refuse(**settings):
        raise ConnectionError("nobody\nanswers")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr("study.ray_start._token_exists", lambda: False)
    message = r"the Ray cluster at 10\.0\.0\.1:6379 cannot be joined: nobody answers; is it up, and is this user's"
    with pytest.raises(StudyError, match=message), ray_started("10.0.0.1:6379", tmp_path / "log"):
        pass


@pytest.fixture
def no_ray(monkeypatch):
    """Starts nothing; returns what was done to Ray, in order."""
    import ray

    done = []
    monkeypatch.setattr("study.ray_start._init_here", lambda **settings: done.append(("started", settings)))
    monkeypatch.setattr("study.ray_start._init_with_workers", lambda: done.append(("started", "with workers")))
    monkeypatch.setattr("study.ray_start.machines", lambda: [Machine(2)])
    monkeypatch.setattr(ray, "shutdown", lambda: done.append(("ended", None)))
    return done


def test_a_ray_that_was_begun_early_is_the_one_that_the_run_gets(no_ray, tmp_path):
    ray_start.begin(1000, Resources())
    early = ray_start._early
    with ray_started(None, tmp_path / "log") as machines:
        assert machines == [Machine(2)]
        assert early.is_alive()  # with the thread that has started them Ray's processes end
    assert no_ray == [("started", "with workers"), ("ended", None)]
    assert not early.is_alive()
    with ray_started(None, tmp_path / "log"):
        pass
    assert no_ray[2:] == [("started", {}), ("ended", None)]


@pytest.mark.parametrize(
    ("trials", "resources"), [(7, {}), (1000, {"cpus": 2}), (1000, {"max_concurrent": 7})], ids=str
)
def test_processes_that_no_trial_would_get_import_nothing(no_ray, tmp_path, monkeypatch, trials, resources):
    monkeypatch.setattr("study.ray_start.available_cpus", lambda: 8)
    ray_start.begin(trials, Resources(**resources))
    with ray_started(None, tmp_path / "log"):
        pass
    assert no_ray[0] == ("started", {})


def test_a_ray_that_nobody_took_is_ended_once(no_ray):
    ray_start.begin(1000, Resources())
    ray_start.abandon()
    ray_start.abandon()
    assert no_ray == [("started", "with workers"), ("ended", None)]


def test_what_keeps_an_early_ray_from_starting_is_told_where_it_is_needed(no_ray, tmp_path, monkeypatch):
    def fail():
        raise OSError("no space left")

    monkeypatch.setattr("study.ray_start._init_with_workers", fail)
    ray_start.begin(1000, Resources())
    with pytest.raises(StudyError, match="Ray cannot be started on this machine: no space left"):
        ray_started(None, tmp_path / "log").__enter__()
    ray_start.begin(1000, Resources())
    ray_start.abandon()  # nobody wants to know
    assert no_ray == []


def test_tune_is_left_as_it_was(no_ray, tmp_path):
    from ray.tune.execution import class_cache

    before = class_cache.DEFAULT_ENV_VARS
    assert before, "nothing to leave out: see ray_start._same_environment"
    with ray_started(None, tmp_path / "log"):
        assert class_cache.DEFAULT_ENV_VARS == {}
    assert class_cache.DEFAULT_ENV_VARS is before


def test_a_study_has_ended_when_its_last_run_left_nothing_to_do(tmp_path):
    assert not driver.has_ended(tmp_path)
    for content, ended in (('{"unfinished": 0}', True), ('{"unfinished": 3}', False), ("{", False), ("[]", False)):
        (tmp_path / driver.OUTCOME).write_text(content)
        assert driver.has_ended(tmp_path) == ended


TRIALS = """
import os, sys, time
from pathlib import Path
from study import ray_start
from study.definition import Resources

ray_start.begin(1000, Resources())
with ray_start.ray_started(None, Path(sys.argv[1]) / "log"):
    from ray import tune

    def trial(config):
        began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        tune.report({"began": began, "ready": "trainables.trial" in sys.modules})

    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    run = tune.RunConfig(verbose=0, storage_path=sys.argv[1])
    found = tune.Tuner(trial, run_config=run).fit()[0].metrics
    print(found["ready"], found["began"] < before, file=sys.stderr)
"""


def test_trials_run_in_the_processes_that_were_started_early(tmp_path):
    script = tmp_path / "trials.py"
    script.write_text(TRIALS)
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.stderr.splitlines()[-1] == "True True", done.stderr
