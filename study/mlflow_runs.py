"""Runs as MLflow has them, and rows in the words of MLflow."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from study.records import TrialRecord

PARENT_TAG = "study.parent"
TRIAL_TAG = "study.trial"
_MAX_METRICS = 1000
"""Metrics that MLflow takes in one request, which it writes in one transaction."""
_MEASURED = ("time/", "memory/")
"""Numbers that differ when an epoch is repeated."""


@dataclass
class Run:
    """What MLflow has of one run.

    Attributes:
        run_id: its id.
        status: in MLflow's words.
        params: names of its parameters, which never change.
        tags: its tags.
        metrics: the latest value of each.
        has_corpus: whether it says what it was trained on.
    """

    run_id: str
    status: str = "RUNNING"
    params: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    has_corpus: bool = False

    @property
    def step(self) -> float:
        """Optimizer steps at the last epoch that is there; -1 before the first."""
        return self.metrics.get("step", -1.0)

    def lacks(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has yet to be written."""
        return "best_epoch" not in self.metrics if row["kind"] == "final" else bool(row["step"] > self.step)

    def contradicts(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Whether what it has is of an attempt whose numbers were others: it failed, and the code was mended."""
        told = [metric for row in rows if not self.lacks(row) and row["step"] >= self.step for metric in _metrics(row)]
        return any(
            _differ(metric.value, self.metrics.get(metric.key, metric.value))
            for metric in told
            if not metric.key.startswith(_MEASURED)
        )


def as_run(found: Any) -> Run:  # noqa: ANN401  (a run of MLflow)
    """Return a run that MLflow has answered with."""
    return Run(
        str(found.info.run_id),
        found.info.status,
        frozenset(found.data.params),
        found.data.tags,
        dict(found.data.metrics),
        bool(found.inputs and found.inputs.dataset_inputs),
    )


def _differ(value: float, other: float) -> bool:
    return value != other and not (math.isnan(value) and math.isnan(other))


def batches(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """Yield metrics in requests that MLflow writes whole or not at all; a row is in one request if it fits."""
    batch: list[Any] = []
    for row in rows:
        metrics = _metrics(row)  # the last of them tells that the row is there
        if batch and len(batch) + len(metrics) > _MAX_METRICS:
            yield batch
            batch = []
        batch += metrics
        while len(batch) > _MAX_METRICS:
            yield batch[:_MAX_METRICS]
            batch = batch[_MAX_METRICS:]
    if batch:
        yield batch


def _metrics(row: Mapping[str, Any]) -> list[Any]:
    """Return a row as MLflow metrics at its epoch; of the final row only what the epochs' rows have not told yet."""
    from mlflow.entities import Metric

    final = row["kind"] == "final"
    stamp, epoch = int(1000 * float(row["time"])), int(row["epoch"])
    names = [name for name in row if name not in {"kind", "epoch", "time", "step"}]
    told = {name: float(row[name]) for name in names if not final or name.startswith("test/")}
    told |= {"best_epoch": float(epoch)} if final else {"step": float(row["step"])}
    return [Metric(name, value, stamp, epoch) for name, value in told.items() if not math.isinf(value)]


def ended(record: TrialRecord) -> int | None:
    """Return when a trial ended in milliseconds since 1970, or None: writing it again must not change it."""
    if record.started is None or record.seconds is None:
        return None
    return int(1000 * (record.started + record.seconds))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested settings as ``network.preset: small``; arms are runs of their own."""
    found: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif name != "arms":
            found[f"{prefix}{name}"] = value
    return found
