"""What the files of a study must hold, whoever wrote them: a study may have been sent by somebody else.

Names become names of files, rows and filters of MLflow, cells of tables: they hold nothing that has a meaning there.
"""

import re
from collections.abc import Mapping
from typing import Any

from study.errors import StudyError

LARGEST_LOCK = 64 * 2**20
"""Bytes; a study of 10,000 trials takes about one hundredth of it."""
NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,199}", re.ASCII)
"""Names of studies, trials, arms and tasks."""
_LABEL = re.compile(r"[A-Za-z0-9][\w./+ -]{0,199}", re.ASCII)
_NEEDED = ("title", "arms", "tasks", "trials", "control", "reference_weights", "facts")
_KINDS: Mapping[str, type] = {
    "title": str,
    "definition": dict,
    "seeds": list,
    "arms": list,
    "tasks": list,
    "trials": list,
    "control": str,
    "reference_weights": dict,
    "corpus": dict,
    "versions": dict,
    "facts": dict,
    "git_commit": str,
}
_ENTRIES: Mapping[str, Mapping[str, re.Pattern[str]]] = {
    "arms": {"arm": NAME, "label": _LABEL, "strategy": NAME, "family": _LABEL, "role": NAME, "of": NAME},
    "tasks": {"name": NAME, "kind": NAME},
    "trials": {"trial": NAME, "arm": NAME},
}
_SELDOM = ("strategy", "family", "kind", "role", "of")
"""What older locks, or those of arms of their own, do not say."""
_NUMBERS = (int, float)
_IN_A_ROW = {int, float, str}


def checked_lock(content: object, study: str) -> dict[str, Any]:
    """Return the content of a ``lock.json``, checked to be one.

    Raises:
        StudyError: a part lacks, is of another kind, or has a name that is none.
    """
    fault = _lock_fault(content)
    if fault:
        raise StudyError(f"study {study} has a lock.json that is none: {fault}")
    return dict(content) if isinstance(content, dict) else {}


def is_event(event: object) -> bool:
    """Return whether a line of a trial's rows is one: a start, a row or an end, with its time."""
    if not isinstance(event, dict) or not _is_number(event.get("time")):
        return False
    if event.get("event") == "row":
        return _is_row(event.get("row"))
    told = [event.get(name) for name in ("error", "traceback")]
    return all(text is None or isinstance(text, str) for text in told)


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or row.get("kind") not in ("epoch", "final"):
        return False
    if not isinstance(row.get("epoch"), int):
        return False
    kinds = list(map(type, row.values()))  # a study may have a hundred thousand rows of fifty values
    return kinds.count(str) == 1 and set(kinds) <= _IN_A_ROW


def _is_number(value: object) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def _lock_fault(content: object) -> str:
    if not isinstance(content, dict):
        return "it holds no table of names and values"
    for part, kind in _KINDS.items():
        if not isinstance(content.get(part, kind()), kind) or (part in _NEEDED and part not in content):
            return f"it has no {part}"
    for part, names in _ENTRIES.items():
        if fault := next(filter(None, (_entry_fault(part, entry, names) for entry in content[part])), ""):
            return fault
    arms = {arm["arm"] for arm in content["arms"]}
    if stranger := next((trial["arm"] for trial in content["trials"] if trial["arm"] not in arms), None):
        return f"a trial belongs to the arm {stranger!r}, which is not there"
    if not all(isinstance(trial.get("seed"), int) for trial in content["trials"]):
        return "a trial has no seed"
    folds = [trial.get("fold") for trial in content["trials"]]
    if any(fold is not None for fold in folds) and not all(isinstance(fold, int) for fold in folds):
        return "some trials have a fold and others have none"
    if not all(isinstance(fact, str) for fact in content["facts"].values()):
        return "facts holds something else than text"
    return _name_fault("control", content["control"], NAME)


def _entry_fault(part: str, entry: object, names: Mapping[str, re.Pattern[str]]) -> str:
    if not isinstance(entry, dict):
        return f"{part} holds something else than tables"
    given = {name: rule for name, rule in names.items() if name in entry or name not in _SELDOM}
    faults = (_name_fault(f"{name} in {part}", entry.get(name), rule) for name, rule in given.items())
    return next(filter(None, [*faults, _list_fault(part, entry)]), "")


def _list_fault(part: str, entry: Mapping[str, Any]) -> str:
    """Return what is wrong with the lists of an arm or a task: its fixed weights, or its classes."""
    if part == "arms":
        weights = entry.get("static_weights")
        if not (weights is None or (isinstance(weights, list) and all(map(_is_number, weights)))):
            return "static_weights in arms are no numbers"
        scales = entry.get("loss_scales", {})
        good = isinstance(scales, dict) and all(map(NAME.fullmatch, scales)) and all(map(_is_number, scales.values()))
        return "" if good else "loss_scales in arms are no numbers"
    if part == "tasks":
        classes = entry.get("classes", [])
        good = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        return "" if good else "classes in tasks are no names"
    return ""


def _name_fault(what: str, value: object, rule: re.Pattern[str]) -> str:
    if isinstance(value, str) and rule.fullmatch(value):
        return ""
    return f"{what} is {str(value)[:60]!r}, which is no name"
