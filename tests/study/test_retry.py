"""Which failed trials are tried again, and with what room."""

from types import SimpleNamespace

import pytest

from study.definition import Resources
from study.retry import Retries

ONE, TWO = SimpleNamespace(trial="one", until=None), SimpleNamespace(trial="two", until=None)
DISK = {"error": "disk full", "kind": "passing", "node": "a"}
MEMORY = {"error": "out of memory", "kind": "memory", "node": "a"}
BUG = {"error": "NaN", "kind": "lasting", "node": "a"}


def retries(**resources):
    return Retries([ONE, TWO], Resources(**resources), pauses_s=(1.0, 2.0))


def test_a_fault_that_may_pass_is_tried_again_and_a_bug_is_not():
    some = retries()
    assert some.admit(ONE, DISK, at_a_time=2)
    assert not some.admit(TWO, BUG, at_a_time=2)
    assert not some.admit(TWO, {"error": "of an older version"}, at_a_time=2)
    following = some.next_round(at_a_time=2)
    assert following.trials == (ONE,)
    assert following.avoid == {"one": frozenset("a")}
    assert some.current is following


def test_nothing_to_try_again_is_the_end():
    assert retries().next_round(at_a_time=2) is None


def test_pauses_grow_and_the_attempts_are_limited():
    some = retries(max_restarts=3)
    pauses = []
    while some.admit(ONE, DISK, at_a_time=2):
        pauses.append(some.next_round(at_a_time=2).pause_s)
    assert pauses == [1.0, 2.0, 2.0]
    assert not retries(max_restarts=0).admit(ONE, DISK, at_a_time=2)


def test_every_node_it_failed_on_is_avoided():
    some = retries()
    some.admit(ONE, DISK, at_a_time=2)
    some.next_round(at_a_time=2)
    some.admit(ONE, {**DISK, "node": "b"}, at_a_time=2)
    assert some.next_round(at_a_time=2).avoid == {"one": frozenset("ab")}


@pytest.mark.parametrize(("before", "after"), [(0.125, 0.25), (0.5, 1.0), (0.7, 1.0)])
def test_a_trial_that_lacked_memory_gets_twice_the_share_of_a_gpu(before, after):
    some = retries(gpus=before)
    assert some.admit(ONE, MEMORY, at_a_time=8)
    assert some.next_round(at_a_time=8).resources.gpus == after


def test_a_trial_that_had_a_gpu_to_itself_gets_no_more_room():
    assert not retries(gpus=1).admit(ONE, MEMORY, at_a_time=8)


def test_without_a_gpu_half_as_many_run_at_a_time():
    some = retries()
    assert some.admit(ONE, MEMORY, at_a_time=5)
    assert some.next_round(at_a_time=5).resources.max_concurrent == 2
    assert not some.admit(ONE, MEMORY, at_a_time=1)


def test_room_is_left_as_it_is_for_other_faults():
    some = retries(gpus=0.25)
    some.admit(ONE, DISK, at_a_time=4)
    assert some.next_round(at_a_time=4).resources.gpus == 0.25
