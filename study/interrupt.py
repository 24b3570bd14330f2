"""Ctrl-C and SIGTERM end a command in the same order, whatever it is doing."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_AGAIN_S = 0.1
"""Until an interruption that Python has dropped is tried again: it may be in the midst of an import."""


def heed() -> None:
    """Let SIGINT interrupt this process, and SIGTERM do what SIGINT does.

    A shell tells what a script starts in the background to ignore SIGINT; `study stop` would not be heard then.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _as_sigint)
    sys.unraisablehook = _dropped


def _as_sigint(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (what a handler is given)
    handler = signal.getsignal(signal.SIGINT)  # Tune has one of its own while trials run
    if callable(handler):
        handler(signal.SIGINT, frame)


def _dropped(what: "sys.UnraisableHookArgs") -> None:
    """Interrupt again where Python has nobody to hand an interruption to, as in the callback of a lock of imports."""
    if not issubclass(what.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(what)
        return
    timer = threading.Timer(_AGAIN_S, os.kill, [os.getpid(), signal.SIGINT])
    timer.daemon = True
    timer.start()


def heard() -> None:
    """Tell Python that an interruption was dealt with, so that the process ends with its own exit code.

    One that came out of ``exec`` of a text, as in the imports of libraries, is remembered until the next ``exec``: the
    process would end itself by SIGINT at last.
    """
    exec("pass")


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
