import pytest

from study.definition import Resources
from study.errors import StudyError
from study.runner import available_cpus, concurrency, ray_started


def test_as_many_trials_run_as_fit():
    assert concurrency(Resources(), {"CPU": 2.0}) == 2
    assert concurrency(Resources(cpus=2), {"CPU": 5.0}) == 2
    assert concurrency(Resources(gpus=0.25), {"CPU": 16.0, "GPU": 1.0}) == 4
    assert concurrency(Resources(gpus=0.1), {"CPU": 16.0, "GPU": 1.0}) == 10
    assert concurrency(Resources(max_concurrent=3), {"CPU": 16.0}) == 3


def test_a_trial_that_can_never_be_placed_is_an_error_and_not_a_wait():
    with pytest.raises(StudyError, match=r"a trial asks for 1 CPUs and 1 GPUs, but Ray has 2 CPUs and 0 GPUs"):
        concurrency(Resources(gpus=1), {"CPU": 2.0})
    with pytest.raises(StudyError, match=r"a trial asks for 4 CPUs and 0 GPUs, but Ray has 2 CPUs"):
        concurrency(Resources(cpus=4), {"CPU": 2.0})


def test_this_process_may_use_at_least_one_cpu():
    assert available_cpus() >= 1


def test_ray_is_started_here_even_where_another_cluster_runs(tmp_path, monkeypatch):
    import ray

    asked = {}
    monkeypatch.setattr(ray, "init", lambda **settings: asked.update(settings))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr("study.runner._token_exists", lambda: False)
    with ray_started(None, tmp_path / "log") as resources:
        assert resources == {"CPU": 2.0}
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
    monkeypatch.setattr("study.runner._token_exists", lambda: False)
    message = r"the Ray cluster at 10\.0\.0\.1:6379 cannot be joined: nobody answers; is it up, and is this user's"
    with pytest.raises(StudyError, match=message), ray_started("10.0.0.1:6379", tmp_path / "log"):
        pass
