import pytest

from study.definition import Resources
from study.errors import StudyError
from study.runner import available_cpus, concurrency


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
