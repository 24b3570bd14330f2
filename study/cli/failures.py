"""How a command ends that could not do what it was asked for: one line and an exit code."""

import sys

from strategies.text import shown
from study import interrupt

EXIT_PROBLEMS = 1
"""Some trials failed, or a check found problems."""
EXIT_USAGE = 2
"""The command or the definition says something it may not say."""
EXIT_INTERRUPTED = 130


def interrupted() -> int:
    """Tell what becomes of a command that was interrupted, and return its exit code."""
    interrupt.heard()
    complain("interrupted; what was finished is kept, and the same command goes on")
    return EXIT_INTERRUPTED


def complain(message: str) -> int:
    """Tell what is wrong, and return the exit code of a mistake."""
    print(f"study: {shown(message)}", file=sys.stderr)
    return EXIT_USAGE


def usage_error(failure: Exception) -> int:
    """Show the parser's own complaint; anything else is our bug and keeps its traceback."""
    show = getattr(failure, "show", None)
    if show is None:
        raise failure
    show()
    return int(getattr(failure, "exit_code", EXIT_USAGE))
