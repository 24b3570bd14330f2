"""Ctrl-C and SIGTERM end a command in the same order, whatever it is doing."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_AGAIN_S = 0.1
"""Until an interruption that was dropped comes again: the process may be in the midst of an import."""


class Interruption(KeyboardInterrupt):
    """Comes again where it was dropped: only who says so with ``heard`` has dealt with it.

    Python drops it in the callback of a lock of imports. Libraries in C drop it wherever they take any exception for
    the answer "no", or put one of their own in its place, as Matplotlib's drawing does, and Ray, which makes it a new
    ``KeyboardInterrupt``. Whoever drops it lets go of the exception itself, which is how we know.
    """

    num_raised = 0
    num_heard = 0

    def __init__(self) -> None:
        super().__init__()
        Interruption.num_raised += 1
        self._number = Interruption.num_raised

    def __del__(self) -> None:
        if self._number > Interruption.num_heard and not sys.is_finalizing():
            _come_again()


def _come_again() -> None:
    timer = threading.Timer(_AGAIN_S, _again)
    timer.daemon = True
    timer.start()


def _again() -> None:
    """Interrupt again, unless that was heard of meanwhile; not while another interruption is on its way out."""
    if not unheard():
        return
    if _is_on_its_way():
        _come_again()
    else:
        os.kill(os.getpid(), signal.SIGINT)


def _is_on_its_way() -> bool:
    """Whether the main thread tidies up after an interruption, or is in the midst of a handler of one."""
    found: Any = sys._current_exceptions().get(threading.main_thread().ident or 0)
    failure = found[1] if isinstance(found, tuple) else found  # a tuple in Python 3.11
    while failure is not None and not isinstance(failure, KeyboardInterrupt):
        failure = failure.__context__
    return failure is not None


def heed() -> None:
    """Let SIGINT interrupt this process, and SIGTERM do what SIGINT does.

    A shell tells what a script starts in the background to ignore SIGINT; `study stop` would not be heard then.
    """
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _as_sigint)
    sys.unraisablehook = _dropped


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (what a handler is given)
    raise Interruption


def _as_sigint(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    handler = signal.getsignal(signal.SIGINT)  # Tune has one of its own while trials run
    if callable(handler):
        handler(signal.SIGINT, frame)


def _dropped(what: "sys.UnraisableHookArgs") -> None:
    """Say nothing of an interruption that Python has nobody to hand to: it comes again."""
    if not issubclass(what.exc_type, Interruption):
        sys.__unraisablehook__(what)


def heard() -> None:
    """Say that the interruptions there were have been dealt with: they do not come again."""
    Interruption.num_heard = Interruption.num_raised


def unheard() -> bool:
    """Whether somebody has interrupted this process and nobody has dealt with it yet."""
    return Interruption.num_heard < Interruption.num_raised


def take_back() -> None:
    """Have this process's signals go to Python again: what Ray has in C++ for SIGTERM prints a stack first.

    Does nothing outside the main thread.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _NUMBERS:
            if (handler := signal.getsignal(number)) is not None:
                signal.signal(number, handler)


@contextmanager
def kept() -> Iterator[None]:
    """Put back afterwards how this process takes SIGINT and SIGTERM: Ray and Tune leave handlers of their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
