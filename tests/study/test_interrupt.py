"""Ctrl-C and SIGTERM end a run in the same order in every phase, also where a shell has set SIGINT to be ignored."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study import cli, interrupt

REPOSITORY = Path(__file__).resolve().parent.parent.parent
STUDY = [
    *("--set", "corpus.options={num_speakers: 12, utterances_per_speaker: 8}"),
    *("--set", "arms=[{strategy: equal}]"),
    *("--set", "seeds=1"),
]
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)


@pytest.fixture
def handlers(monkeypatch):
    """Put the handlers of this process back afterwards."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with interrupt.kept():
        yield


@contextlib.contextmanager
def interrupted():
    """Expect an interruption, and deal with it before it is let go of: it would come again, to whatever runs then."""
    with pytest.raises(KeyboardInterrupt) as caught:
        yield
    interrupt.heard()
    del caught


@SIGNALS
def test_either_signal_is_an_interruption(handlers, number):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a script
    interrupt.heed()
    with interrupted():
        os.kill(os.getpid(), number)


def test_a_termination_goes_where_ctrl_c_goes_at_that_moment(handlers):
    told = []
    interrupt.heed()
    signal.signal(signal.SIGINT, lambda number, frame: told.append(number))
    os.kill(os.getpid(), signal.SIGTERM)
    assert told == [signal.SIGINT]


def test_a_signal_that_a_library_in_c_has_taken_is_taken_back(handlers):
    interrupt.heed()
    ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(signal.SIG_IGN))  # Python does not see it
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0)
    interrupt.take_back()
    with interrupted():
        os.kill(os.getpid(), signal.SIGTERM)


def test_handlers_that_somebody_leaves_behind_are_replaced(handlers):
    interrupt.heed()
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interrupt.kept():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


class Falling:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)  # where the interruption is raised, and dropped


def dropped_by_a_handler():
    with contextlib.suppress(BaseException):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)


@pytest.mark.parametrize("drop", [lambda: Falling() and None, dropped_by_a_handler], ids=["python", "a handler"])
def test_an_interruption_that_is_dropped_comes_again(handlers, capfd, drop):
    interrupt.heed()
    drop()
    assert interrupt.unheard()
    with interrupted():
        time.sleep(30)
    time.sleep(3 * interrupt._AGAIN_S)  # and no third time
    assert capfd.readouterr() == ("", "")


def test_an_interruption_in_the_place_of_one_is_not_interrupted(handlers):
    def replaced():  # as Ray does
        try:
            dropped_by_a_handler()
            raise KeyboardInterrupt
        finally:
            time.sleep(5 * interrupt._AGAIN_S)
            tidied.append(True)

    tidied = []
    interrupt.heed()
    with interrupted():
        replaced()
    assert tidied == [True]


def test_an_interruption_that_a_library_makes_its_own_ends_in_order(handlers, monkeypatch, capsys):
    def draw(_, standalone_mode):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)
        raise ValueError("Invalid affine transformation matrix")

    monkeypatch.setattr("study.cli.entry.app", draw)
    with pytest.raises(SystemExit, match="130"):
        cli.main()
    assert capsys.readouterr().err == "study: interrupted; what was finished is kept, and the same command goes on\n"


OUT_OF_A_TEXT = """
import os, sys
from study import interrupt
interrupt.heed()
try:
    exec("os.kill(os.getpid(), 15); [None for _ in range(10**9)]")
except KeyboardInterrupt:
    interrupt.heard()
    sys.exit(130)
"""


def test_the_exit_code_is_ours_where_an_interruption_came_out_of_a_text(tmp_path):
    (tmp_path / "text.py").write_text(OUT_OF_A_TEXT)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "text"]  # as ``python -m study.cli``
    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False, timeout=60).returncode == 130


def test_a_second_interruption_while_the_first_is_told_is_no_traceback(handlers, monkeypatch):
    def told(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("study.cli.entry.exit_code", told)
    with pytest.raises(SystemExit, match="130"):
        cli.main()


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("phase", "number"),
    [("1 of 1 trials to run", signal.SIGINT), ("comparing and writing the report", signal.SIGTERM)],
    ids=["Ray starts", "a report is written"],
)
def test_a_run_in_the_background_of_a_script_ends_in_order(tmp_path, phase, number):
    script = f'trap "" INT; exec {sys.executable} -m study.cli run weighting "$@" 2>said'
    command = ["sh", "-c", script, "sh", *STUDY, "--set", "training.epochs=1", "--home", str(tmp_path)]
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, start_new_session=True)
    said = tmp_path / "said"
    while not (said.exists() and phase in said.read_text()):
        assert process.poll() is None, said.read_text()
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 130, said.read_text()
    assert said.read_text().splitlines()[-1] == (
        "study: interrupted; what was finished is kept, and the same command goes on"
    )


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_ctrl_c_while_libraries_are_imported_and_ray_starts_ends_all_at_once(tmp_path, seconds):
    command = [sys.executable, "-m", "study.cli", "run", "weighting", "--home", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as study:
        time.sleep(seconds)
        study.send_signal(signal.SIGINT)
        _, told = study.communicate(timeout=60)  # an interrupted import may hold a lock that Ray's start waits for
    assert study.returncode == 130, told
    assert told == "study: interrupted; what was finished is kept, and the same command goes on\n"
    over = time.monotonic() + 60  # helpers of Ray that have lost it may take long to leave
    while members(study.pid) and time.monotonic() < over:
        time.sleep(0.1)
    assert members(study.pid) == []


def members(group):
    """The processes of a group that live."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = status.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(status.parent.name)
    return found
