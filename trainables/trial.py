"""The Ray adapter of a trial: with ``delivery`` the only module of this package that knows Ray."""

import errno
import traceback
from typing import Any

import ray
import torch
from ray import tune

from strategies import UserError
from trainables import footprint, memory
from trainables.delivery import Address, arranged
from trainables.errors import MachineError
from trainables.session import Session
from trainables.specification import TrialSpecification

MEMORY, PASSING, LASTING = "memory", "passing", "lasting"
"""Kinds of failure: too little memory beside the others; a fault of the machine that may pass; the trial's own."""

_PASSING_ERRORS = frozenset(
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EBUSY", "ECONNREFUSED", "ECONNRESET", "EDQUOT", "EHOSTUNREACH", "EIO", "EMFILE", "ENETUNREACH"),
        *("ENFILE", "ENOMEM", "ENOSPC", "ENOTCONN", "EREMOTEIO", "EROFS", "ESTALE", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
)


def run_trial(config: dict[str, Any], address: Address | None = None) -> None:
    """Run one trial inside a Ray worker and report its rows to Tune, and before the final row its predictions.

    A failure is data: it is reported with its traceback and its kind, and the worker goes on to the next trial. Only
    what Python cannot catch (a killed process, a lost machine) or what leaves the process useless (a fault of the GPU)
    reaches Tune as an error, and Tune starts the trial again; it then goes on from its last checkpoint.

    Args:
        config: ``{"trial": <fields of TrialSpecification>, "threads": <CPU threads of this trial>, "gpus": <GPUs of
            this trial>}``.
        address: where to ask for what this machine lacks; None on the driver's machine.
    """
    torch.set_num_threads(config["threads"])
    _limit_memory(config["gpus"])
    try:
        with arranged(TrialSpecification(**config["trial"]), address) as place:
            session = Session(place.specification, saved=place.saved)
            for row in session.run():
                if session.predictions is not None:
                    tune.report({"predictions": session.predictions.to_bytes()})
                for note in session.take_notes():
                    tune.report({"note": note})
                tune.report({"row": [row]})  # in a list: of numbers in a mapping Tune keeps statistics, for each trial
    except Exception as failure:
        if _process_is_lost(failure):
            raise
        tune.report({"failure": describe_failure(failure) | {"node": ray.get_runtime_context().get_node_id()}})
    finally:
        memory.release()


def measure_trial(specification: TrialSpecification, address: Address | None) -> footprint.Footprint:
    """Return what memory of a GPU a trial needs; runs on a machine that has one."""
    with arranged(specification, address) as place:
        return footprint.measure(place.specification)


def _limit_memory(gpus: float) -> None:
    """Keep a trial that shares a GPU within its share: one that needs more fails by itself, and not its neighbours."""
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpus) or 1.0)


def _process_is_lost(failure: Exception) -> bool:
    """Return whether the GPU refuses everything that this process may still ask of it."""
    broken = getattr(torch, "AcceleratorError", ())
    return isinstance(failure, broken) and not isinstance(failure, torch.OutOfMemoryError)


def describe_failure(failure: Exception) -> dict[str, str]:
    """Return a failure as one line, its traceback and its kind."""
    message = " ".join(str(failure).split())
    line = message if isinstance(failure, UserError) else f"{type(failure).__name__}: {message}"
    return {"error": line, "traceback": "".join(traceback.format_exception(failure)), "kind": kind_of(failure)}


def kind_of(failure: BaseException | None) -> str:
    """Return whether a failure comes of too little memory, of the machine, or of the trial itself.

    >>> kind_of(OSError(errno.ENOSPC, "No space left on device")), kind_of(ValueError("a bug"))
    ('passing', 'lasting')
    """
    while failure is not None:
        if isinstance(failure, torch.OutOfMemoryError | MemoryError):
            return MEMORY
        if isinstance(failure, MachineError) or (isinstance(failure, OSError) and failure.errno in _PASSING_ERRORS):
            return PASSING
        failure = failure.__cause__
    return LASTING
