"""The Ray adapter of a trial: the only module of this package that knows Ray."""

import traceback
from typing import Any

import torch
from ray import tune

from strategies import UserError
from trainables import memory
from trainables.session import Session, TrialSpecification


def run_trial(config: dict[str, Any]) -> None:
    """Run one trial inside a Ray worker and report its rows to Tune.

    A failure is data: it is reported with its traceback and the worker goes on to the next trial. Only what Python
    cannot catch (a killed process, a lost machine) reaches Tune as an error, and Tune starts the trial again; it then
    goes on from its last checkpoint.

    Args:
        config: ``{"trial": <fields of TrialSpecification>, "threads": <CPU threads of this trial>}``.
    """
    torch.set_num_threads(config["threads"])
    try:
        for row in Session(TrialSpecification(**config["trial"])).run():
            tune.report({"row": row})
    except Exception as failure:
        tune.report({"failure": describe_failure(failure)})
    finally:
        memory.release()


def describe_failure(failure: Exception) -> dict[str, str]:
    """Return a failure as one line and its traceback."""
    message = " ".join(str(failure).split())
    line = message if isinstance(failure, UserError) else f"{type(failure).__name__}: {message}"
    return {"error": line, "traceback": "".join(traceback.format_exception(failure))}
