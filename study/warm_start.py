"""Configurations of earlier studies that a search tries first: from their folders, or else from MLflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from study import mlflow_writer, records
from study.errors import StudyError
from study.records import StudyFolder
from study.search.campaign import Method
from study.tracking import default_uri

POINTS = "points.json"
"""File in the folder of the tuning phase: what earlier studies gave when it began, whatever became of them since."""


def with_points(methods: Sequence[Method], names: Sequence[str], folder: StudyFolder) -> tuple[Method, ...]:
    """Return the methods with the configurations that earlier studies have chosen for them.

    Args:
        methods: of the search.
        names: of the studies, or the beginnings of their names.
        folder: of the study that searches; what was found is kept in it.

    Raises:
        StudyError: a study cannot be found, has not come to a choice, or has tuned none of these methods.
    """
    kept = folder.tuning.path / POINTS
    if kept.exists():
        points = json.loads(kept.read_text(encoding="utf-8"))
    else:
        points = _collected([method.name for method in methods], names, folder)
        folder.tuning.create()
        folder.write_text(kept, json.dumps(points, indent=1))
    return tuple(replace(method, points=tuple(points.get(method.name, ()))) for method in methods)


def _collected(methods: Sequence[str], names: Sequence[str], folder: StudyFolder) -> dict[str, list[dict[str, Any]]]:
    points: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        chosen = {method: values for method, values in _chosen(folder, name).items() if method in methods}
        if not chosen:
            raise StudyError(f"search.start_from: study {name} has chosen nothing for {', '.join(methods)}")
        for method, values in chosen.items():
            if values not in points.setdefault(method, []):
                points[method].append(dict(values))
    return points


def _chosen(folder: StudyFolder, name: str) -> Mapping[str, Mapping[str, Any]]:
    """Return method -> the values that a study, another one than that of the folder, has chosen for it."""
    home = folder.path.parent
    others = [study for study in records.names(home) if study != folder.name]
    here = [study for study in others if study == name or study.startswith(f"{name}-")]
    if not here:
        return _chosen_in_mlflow(home, name)
    if len(here) > 1 and name not in here:
        raise StudyError(f"search.start_from: '{name}' may be any of {', '.join(here)}: name one of them")
    tuning = records.load_tuning(StudyFolder(home / (name if name in here else here[0])))
    if tuning is None:
        raise StudyError(f"search.start_from: study {name} in {home} has searched nothing")
    return {method.method: method.best.values for method in tuning.methods if method.best is not None}


def _chosen_in_mlflow(home: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the same from the runs that are tagged as chosen."""
    uri = default_uri(home)
    try:
        found = mlflow_writer.chosen_runs(uri, name)
    except Exception as failure:
        reason = mlflow_writer.reason_of(failure)
        raise StudyError(f"search.start_from: study {name} is not in {home}, and MLflow says: {reason}") from failure
    if not found:
        known = ", ".join(records.names(home)) or "none"
        raise StudyError(f"search.start_from: no study {name} with a finished search in {home} ({known}) or in MLflow")
    return {method: {knob: _value(text) for knob, text in values.items()} for method, values in found.items()}


def _value(text: str) -> Any:  # noqa: ANN401  (whatever a hyperparameter takes)
    try:
        return json.loads(text)
    except ValueError:
        return text
