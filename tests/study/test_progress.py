import io
import re

import pytest
from rich.console import Console

from study.arms import Arm
from study.progress import Board, Display, LineDisplay, LiveDisplay, make_display
from trainables.specification import TrialSpecification

ARMS = [Arm(name, name, "softmax", {}, name, None) for name in ("a", "b")]


def trial(arm, seed):
    return TrialSpecification(f"{arm}-seed{seed}", arm, seed, "", {}, {}, {}, [], {}, {})


@pytest.fixture
def board():
    return Board(ARMS, [0, 1], epochs=2)


def play(board, *watchers):
    """Let one trial finish, one fail, one run."""
    for watcher in (board, *watchers):
        watcher.trial_started(trial("a", 0))
        watcher.trial_reported(trial("a", 0), {"epoch": 1, "valid/joint_nll": 0.75})
        watcher.trial_reported(trial("a", 0), {"epoch": 2, "valid/joint_nll": 0.5})
        watcher.trial_ended(trial("a", 0), None)
        watcher.trial_started(trial("b", 0))
        watcher.trial_ended(trial("b", 0), {"error": "loss is nan", "traceback": ""})
        watcher.trial_started(trial("a", 1))


def test_the_board_counts(board):
    play(board)
    assert [board.count(status) for status in ("finished", "failed", "running", "pending")] == [1, 1, 1, 1]
    assert board.ended == 2
    assert board.mean_joint_nll("a") == 0.5
    assert board.mean_joint_nll("b") is None


def test_the_time_left_is_the_pace_so_far_times_what_is_left(board, monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("study.progress.time.monotonic", lambda: next(clock))
    assert board.seconds_left() is None
    board.start_clock(2)
    board.trial_reported(trial("a", 0), {"epoch": 2, "valid/joint_nll": 0.5})
    assert board.seconds_left() == pytest.approx(10.0 / 2 * 6)


def test_trials_of_an_earlier_run_do_not_make_this_one_look_fast(board, monkeypatch):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr("study.progress.time.monotonic", lambda: next(clock))
    board.found_finished(trial("a", 0), 0.5)
    board.start_clock(2)
    assert board.seconds_left() is None
    board.trial_reported(trial("b", 0), {"epoch": 1, "valid/joint_nll": 0.5})
    assert board.seconds_left() == pytest.approx(10.0 * 5)


def test_without_a_terminal_there_is_one_line_per_ended_trial(board):
    stream = io.StringIO()
    display = LineDisplay(Console(file=stream))
    with display.showing(board):
        play(board, display)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "a-seed0: validation joint NLL 0.5000" in lines[0]
    assert "b-seed0: failed: loss is nan" in lines[1]


def test_on_a_terminal_there_is_a_table_of_arms_and_a_bar(board):
    stream = io.StringIO()
    display = LiveDisplay(Console(file=stream, force_terminal=True, width=100, color_system=None))
    with display.showing(board):
        play(board)
    shown = stream.getvalue()
    assert "validation joint NLL" in shown
    assert "0.5000" in shown
    assert "2/4, 1 failed, about" in shown


def test_quiet_says_nothing_but_warnings(board):
    stream = io.StringIO()
    display = Display(Console(file=stream))
    with display.counting("preparing") as progress, display.showing(board):
        progress(1, 2)
        play(board, display)
        display.say("nothing")
    display.warn("skipped a file")
    assert stream.getvalue() == "warning: skipped a file\n"


def test_the_display_fits_where_it_is_shown():
    assert type(make_display(quiet=True)) is Display
    assert type(make_display(quiet=False)) is LineDisplay


def of_fold(arm, fold):
    split = {"options": {"fold": fold}, "pooled": True}
    return TrialSpecification(f"{arm}-seed0-fold{fold}", arm, 0, "", split, {}, {}, [], {}, {})


def test_the_board_counts_every_fold_and_marks_a_seed_by_all_of_them():
    board = Board(ARMS, [0], epochs=2, folds=(1, 3))
    for fold, loss in ((1, 0.5), (3, 0.25)):
        board.trial_reported(of_fold("a", fold), {"epoch": 2, "valid/joint_nll": loss})
        board.trial_predicted(of_fold("a", fold), b"")
        board.trial_ended(of_fold("a", fold), None)
    board.trial_ended(of_fold("b", 1), {"error": "loss is nan", "traceback": ""})
    assert (board.ended, len(board.trials)) == (3, 4)
    assert board.mean_joint_nll("a") == 0.375
    stream = io.StringIO()
    display = LiveDisplay(Console(file=stream, force_terminal=True, width=100, color_system=None))
    with display.showing(board):
        pass
    shown = stream.getvalue()
    assert re.search(r"arm +seeds +folds +epoch", shown)
    assert re.search(r"a +● +2/2", shown)
    assert re.search(r"b +✗ +1/2", shown)
