"""A tracking store of MLflow: how it is reached, what it holds, what it complains of."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strategies.text import redacted

KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
"""What says that an experiment trains models. MLflow 3.17 keeps it and goes by what a browser last chose, or by the
``workflowType`` of an address: see ``tracking.runs_page``."""
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # the writer retries by itself and must not wait for MLflow's four minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # it tells of every step in which it makes the tables of a new database
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # whoever wrote to the store could run code here
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for results
}
_PAGE = 200
"""Runs that are asked for at a time: 2 MB, which a slow server sends within the time a request may take."""
_KNOBS = ("training.", "strategy.", "network.")
"""What the names of hyperparameters begin with."""


def connect(uri: str) -> Any:  # noqa: ANN401  (mlflow is imported late)
    """Return a client of a tracking store that has answered; a database that is new gets its tables here, once."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for library in ("alembic", "mlflow"):  # somebody may have imported MLflow before
        logging.getLogger(library).setLevel(logging.WARNING)
    with _alone(uri):
        _make_whole(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def _make_whole(uri: str) -> None:
    """Make a database that is not there, whole or not at all: MLflow refuses one that a kill has left half made."""
    from mlflow import MlflowClient

    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    for left in path.parent.glob(f".{path.name}.half-*"):
        left.unlink()
    half = path.with_name(f".{path.name}.half-{time.time_ns()}")  # MLflow remembers what it has made, by its name
    MlflowClient(tracking_uri=f"sqlite:///{half}").search_experiments(max_results=1)
    half.replace(path)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keep other studies of the same home out: two that make the tables of one new database break it."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    with Path(f"{uri.removeprefix('sqlite:///')}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def experiments(uri: str) -> dict[str, str]:
    """Return name -> id of the experiments of a tracking store that studies have made, the latest first."""
    found = connect(uri).search_experiments(
        filter_string=f"tags.`{KIND_TAG}` = '{KIND}'", order_by=["last_update_time DESC"]
    )
    return {experiment.name: str(experiment.experiment_id) for experiment in found}


def chosen_runs(uri: str, study: str) -> dict[str, dict[str, str]]:
    """Return method -> the values that a study has chosen for it, as text: what its tuning runs say."""
    client = connect(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = "tags.`phase` = 'tuning' and tags.`chosen` = 'yes'"
    found: dict[str, dict[str, str]] = {}
    for run in found_runs(client, experiments, query):
        name = run.data.tags.get("study", "")
        if name == study or name.startswith(f"{study}-"):
            knobs = {knob: text for knob, text in run.data.params.items() if knob.startswith(_KNOBS)}
            found.setdefault(run.data.tags["method"], knobs)
    return found


def found_runs(client: Any, experiments: Sequence[str], query: str) -> Iterator[Any]:  # noqa: ANN401
    """Yield all runs that a query finds, page by page."""
    token = None
    while True:
        page = client.search_runs(experiments, query, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def reason_of(failure: Exception) -> str:
    """Return what went wrong in one line, without passwords."""
    return redacted(" ".join(str(failure).split()))[:200] or type(failure).__name__


def concerns_one_run(failure: Exception) -> bool:
    """Whether the tracking store refused, or a row is not as it should be, so that other runs may still be written."""
    status = getattr(failure, "get_http_status_code", None)
    return isinstance(failure, KeyError | ValueError) if status is None else status() < 500
