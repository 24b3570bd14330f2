"""Bring the MLflow runs of a study's tuning phase up to what is on disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from study.mlflow_writer import Writer
from study.records import StudyFolder, TrialRecord


@dataclass
class TuningWriter(Writer):
    """Brings the MLflow runs of a study's tuning phase up to what is on disk; they lie below the study's own run.

    Attributes:
        rows: the folder of the tuning phase.
        describe: name of a trial -> its ``method``, ``configuration``, ``seed`` and ``values``; None for no trial.
        chosen: trials of the configurations that are confirmed.
        endings: trial -> how its configuration ended, in words, once that is known.
    """

    rows: StudyFolder = field(kw_only=True)
    describe: Callable[[str], Mapping[str, Any] | None] = field(kw_only=True)
    chosen: set[str] = field(default_factory=set, kw_only=True)
    endings: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    def write_parent(self, status: str, note: str, metrics: Mapping[str, float]) -> None:  # noqa: ARG002
        """Mark what was chosen and how each configuration ended; the study itself is written when that is confirmed."""
        self.open()
        for name, run in self._runs.items():
            wanted = {"ending": self.endings.get(name), "chosen": "yes" if name in self.chosen else None}
            for tag, value in wanted.items():
                if value is not None and run.tags.get(tag) != value:
                    self._connected.set_tag(run.run_id, tag, value)
                elif value is None and tag in run.tags and self.endings:  # chosen before others were tried again
                    self._connected.delete_tag(run.run_id, tag)

    def _record(self, name: str) -> TrialRecord:
        return self.rows.record(name)

    def _knows(self, name: str) -> bool:
        return self.describe(name) is not None

    def _told(self, name: str) -> Mapping[str, Any]:
        return self.describe(name) or {}

    def _labels(self, name: str) -> dict[str, str]:
        told = self._told(name)
        labels = {part: str(told[part]) for part in ("method", "configuration", "seed")}
        return {"study": self.folder.name, "phase": "tuning", **labels}

    def _run_name(self, name: str) -> str:
        told = self._told(name)
        return f"tuning · {told['method']} {told['configuration']} · seed {told['seed']}"

    def _family(self, name: str) -> str:
        return str(self._told(name)["method"])

    def _settings(self, name: str) -> dict[str, object]:
        return dict(self._told(name)["values"])
