"""Configurations of earlier studies that a search tries first: from their folders, or else from MLflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from strategies.errors import unknown
from study import mlflow_store, records
from study.errors import StudyError
from study.plan import Plan
from study.records import StudyFolder
from study.search.campaign import Method
from study.tracking import default_uri

POINTS = "points.json"
"""File in the folder of the tuning phase: what earlier studies gave when it began, whatever became of them since."""


def with_points(plan: Plan, folder: StudyFolder, *, fresh: bool = False) -> Plan:
    """Return the plan of a search with the configurations that earlier studies have chosen for its methods.

    Nothing is written, so that it can be asked before anything is begun.

    Args:
        plan: of the study.
        folder: of the study that searches, which may not be there yet.
        fresh: look at the earlier studies even where the folder holds what they gave.

    Raises:
        UserError: a study cannot be found, has not come to a choice, has tuned none of these methods, or has searched
            another space.
    """
    search = plan.definition.search
    if search is None or not search.start_from:
        return plan
    kept = folder.tuning.path / POINTS
    if kept.exists() and not fresh:
        points = json.loads(kept.read_text(encoding="utf-8"))
    else:
        points = _collected(plan.methods, search.start_from, folder)
    return replace(plan, methods=tuple(replace(each, points=tuple(points.get(each.name, ()))) for each in plan.methods))


def keep_points(plan: Plan, folder: StudyFolder) -> None:
    """Write what earlier studies gave into the folder of the tuning phase, unless it is there."""
    kept = folder.tuning.path / POINTS
    search = plan.definition.search
    if search is None or not search.start_from or kept.exists():
        return
    folder.tuning.create()
    points = {method.name: [dict(point) for point in method.points] for method in plan.methods}
    folder.write_text(kept, json.dumps(points, indent=1))


def _collected(methods: Sequence[Method], names: Sequence[str], folder: StudyFolder) -> dict[str, list[dict[str, Any]]]:
    points: dict[str, list[dict[str, Any]]] = {}
    spaces = {method.name: method.space for method in methods}
    for name in names:
        every = _chosen(folder, name)
        chosen = {method: values for method, values in every.items() if method in spaces}
        if not chosen:
            raise StudyError(
                f"search.start_from: study {name} has tuned {', '.join(every)}, and none of the methods that are "
                f"searched here: {', '.join(spaces)}"
            )
        for method, values in chosen.items():
            spaces[method].check(values, f"search.start_from: what study {name} has chosen for method '{method}'")
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
        raise StudyError(f"search.start_from: study {name} in {home} has searched nothing, or not begun to")
    chosen = {method.method: method.best.values for method in tuning.methods if method.best is not None}
    if not chosen:
        raise StudyError(f"search.start_from: study {name} in {home} has finished no trial of its search")
    return chosen


def _chosen_in_mlflow(home: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the same from the runs that are tagged as chosen."""
    uri = default_uri(home)
    database = Path(uri.removeprefix("sqlite:///"))
    try:
        found = {} if uri.startswith("sqlite:") and not database.exists() else mlflow_store.chosen_runs(uri, name)
    except Exception as failure:
        reason = mlflow_store.reason_of(failure)
        raise StudyError(f"search.start_from: study {name} is not in {home}, and MLflow says: {reason}") from failure
    if not found:
        wrong = unknown("study", name, records.names(home))
        raise StudyError(f"search.start_from: {wrong} in {home}; MLflow has no search of that name either")
    return {method: {knob: _value(text) for knob, text in values.items()} for method, values in found.items()}


def _value(text: str) -> Any:  # noqa: ANN401  (whatever a hyperparameter takes)
    try:
        return json.loads(text)
    except ValueError:
        return text
