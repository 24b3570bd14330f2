import pytest

from study.definition import Resources
from study.errors import StudyError
from study.nodes import Machine
from study.runner import Idle, _reason_of, settled


def test_what_an_observer_said_is_told_and_not_the_traceback_that_tune_makes_of_it():
    def stopped():
        try:
            raise StudyError("rows cannot be written: No space left on device")
        except StudyError:
            raise RuntimeError("Traceback (most recent call last): ...")  # noqa: B904  (as Tune does it)

    with pytest.raises(RuntimeError) as caught:
        stopped()
    assert str(_reason_of(caught.value)) == "rows cannot be written: No space left on device"
    assert str(_reason_of(RuntimeError("no\nidea"))) == "Ray Tune stopped: no idea"


def test_nothing_that_runs_is_noticed_once(monkeypatch):
    now = iter([0.0, 200.0, 301.0, 400.0, 500.0, 900.0])
    monkeypatch.setattr("study.runner.time.monotonic", lambda: next(now))
    idle = Idle(patience_s=300.0)
    assert [idle.seconds(["PENDING", "TERMINATED"]) for _ in range(4)] == [None, None, 301.0, None]
    assert idle.seconds(["RUNNING", "PENDING"]) is None
    assert idle.seconds(["PENDING"]) is None
    assert idle.seconds(["PENDING"]) == 400.0
    assert idle.seconds(["TERMINATED"]) is None


def test_without_a_gpu_auto_means_none():
    assert settled(Resources(), [], [Machine(2)]).gpus == 0.0
    assert settled(Resources(gpus=0.5), [], [Machine(2, 1)]).gpus == 0.5


def test_the_share_of_a_gpu_comes_from_the_largest_strategy(monkeypatch):
    asked = []

    def measured(cpus, trials, address):
        asked.append((cpus, trials))
        return 0.25

    monkeypatch.setattr("study.runner._measured_share", measured)
    assert settled(Resources(cpus=2), ["one"], [Machine(8), Machine(8, 1, running=False)]).gpus == 0.25
    assert asked == [(2, ["one"])]
