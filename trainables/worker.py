"""Imported by the processes that Ray starts on this machine, before Ray gives them anything to do: all a trial needs.

Each then leaves a file named after itself in the folder ``STUDY_WORKERS``. For a trial that is asked for earlier Ray
would start one more process, which imports all of it once more.
"""

import contextlib
import os
from pathlib import Path

import trainables.trial  # noqa: F401

with contextlib.suppress(KeyError, OSError):  # nobody waits, or no longer
    (Path(os.environ["STUDY_WORKERS"]) / str(os.getpid())).touch()
