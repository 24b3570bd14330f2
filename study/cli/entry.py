"""Where a command begins and ends: argv in, exit code out."""

import errno
import os
import sys
from typing import NoReturn

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
        main_with(sys.argv[1:])
    except KeyboardInterrupt:  # another one, while the first was being told
        interrupt.heard()
        sys.exit(EXIT_INTERRUPTED)


def _told(failure: OSError) -> str:
    if failure.errno == errno.ENAMETOOLONG:
        return f"no file can have so long a name: {shortened(str(failure.filename))}"
    where = f" ({failure.filename})" if failure.filename else ""
    return f"the disk is full{where}: make room, and the same command goes on; what was finished is kept"


def main_with(arguments: list[str]) -> NoReturn:
    """Run one command and exit; a mistake of the user is one line on standard error and exit code 2."""
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
    except Exception as failure:
        code = usage_error(failure)
    if (ray_start := sys.modules.get("study.ray_start")) is not None:  # else nothing was begun
        ray_start.abandon()
    sys.exit(code if isinstance(code, int) else 0)
