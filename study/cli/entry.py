"""Where a command begins and ends: argv in, exit code out."""

import errno
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn

import typer

from strategies.errors import UserError
from strategies.text import shortened
from study import interrupt
from study.cli.apps import app
from study.cli.failures import EXIT_INTERRUPTED, complain, interrupted, usage_error


def main() -> NoReturn:
    """Run the command line."""
    interrupt.heed()
    try:
        code = exit_code(sys.argv[1:])
    except KeyboardInterrupt:  # another one, while the first was being told
        interrupt.heard()
        code = EXIT_INTERRUPTED
    if (ray_start := _begun()) is not None and not ray_start.abandon(at_once=True):
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main_with(arguments: list[str]) -> NoReturn:
    """Run one command as ``main`` does, in a process that goes on."""
    code = exit_code(arguments)
    if (ray_start := _begun()) is not None:
        ray_start.abandon()
    sys.exit(code)


def _begun() -> Any:  # noqa: ANN401  (a module, if it was imported: else nothing was begun)
    return sys.modules.get("study.ray_start")


def _told(failure: OSError) -> str:
    if failure.errno == errno.ENAMETOOLONG:
        return f"no file can have so long a name: {shortened(str(failure.filename))}"
    where = f" ({failure.filename})" if failure.filename else ""
    return f"the disk is full{where}: make room, and the same command goes on; what was finished is kept"


def exit_code(arguments: list[str]) -> int:
    """Run one command and return its exit code; a mistake of the user is one line on standard error and code 2."""
    try:
        code = app(arguments, standalone_mode=False)
    except UserError as mistake:
        code = complain(str(mistake))
    except typer.Exit as end:
        code = end.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as failure:
        if failure.errno not in (errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG):
            raise
        code = complain(_told(failure))
    except Exception as failure:  # an interruption too, where a library in C has made it one of its own
        code = interrupted() if interrupt.unheard() else usage_error(failure)
    return code if isinstance(code, int) else 0
