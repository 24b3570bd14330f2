"""Train again what a study has recorded, and say whether the same numbers come out.

On a CPU with the same versions they are the same bit for bit: initialisation, data order and dropout are functions of
the seed alone, and a study trains every trial with the number of threads that its definition gives it. A GPU adds up in
an order of its own, so there numbers are compared within a tolerance.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from strategies.errors import suggestion
from strategies.text import shortened
from study import corpus_job, provenance, waves
from study.arms import Arm
from study.definition import Definition, load
from study.errors import StudyError
from study.plan import Plan, make_plan
from study.records import StudyFolder
from trainables import corpora

if TYPE_CHECKING:
    from study.progress import Display
    from trainables.corpora import Store
    from trainables.predictions import Predictions
    from trainables.rows import Row
    from trainables.specification import TrialSpecification

MEASURED = ("time/", "memory/")
"""Numbers that no repetition gives again."""
GPU_TOLERANCE = 1e-2
"""Largest difference on a GPU that counts as the same, relative to the number where it is above 1.

Sums in another order differ by 1e-7 in one step; a few hundred steps of training carry that to the third digit.
"""
_LABELS = ("kind", "trial", "time")
MOST_LINES = 10


@dataclass(frozen=True)
class Difference:
    """A number that came out otherwise.

    Attributes:
        row: ``epoch 3`` or ``final row``.
        name: what the number is called, see ``docs/rows.md``; ``(row)`` where one of the two is missing.
        recorded: as the study has it; NaN where it has none.
        repeated: as it came out now; NaN where it did not.
    """

    row: str
    name: str
    recorded: float
    repeated: float

    def __str__(self) -> str:
        return f"{self.row}, {self.name}: recorded {self.recorded:.9g}, now {self.repeated:.9g}"


@dataclass(frozen=True)
class Verification:
    """How a trial did when it was trained again.

    Attributes:
        trial: its name.
        device: where it was trained now: ``cpu`` or ``cuda``.
        tolerance: what counts as the same; 0 is bit for bit.
        rows: rows that were compared.
        numbers: numbers that were compared, those of the predictions included.
        differences: those that are not the same.
        circumstances: what is not as it was when the study was run, one line each.
        added: numbers that are reported now and were not recorded, as by an earlier version.
    """

    trial: str
    device: str
    tolerance: float
    rows: int
    numbers: int
    differences: tuple[Difference, ...]
    circumstances: tuple[str, ...]
    added: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The verdict, and the first of the numbers that differ."""
        how = "bit for bit" if self.tolerance == 0 else f"within {self.tolerance:g}"
        amount = f"{self.rows} rows, {self.numbers} numbers"
        new = [f"not recorded, and reported now: {', '.join(self.added)}"] if self.added else []
        if not self.differences:
            return [f"{self.trial}: {amount}, the same {how} ({self.device})", *new]
        head = f"{self.trial}: {len(self.differences)} of {self.numbers} numbers are not the same {how} ({self.device})"
        told = [str(difference) for difference in self.differences[:MOST_LINES]]
        left = len(self.differences) - len(told)
        return [head, *told, *([f"and {left} more"] if left else []), *new]


def verify(folder: StudyFolder, trial: str, display: Display, tolerance: float | None = None) -> Verification:
    """Train one trial of a study again, in memory, and compare every number it reports with what was recorded.

    Args:
        folder: the study; nothing in it is changed.
        trial: name of the trial.
        display: told of every epoch.
        tolerance: what counts as the same; None is 0 on a CPU and ``GPU_TOLERANCE`` on a GPU.

    Raises:
        UserError: the trial has no rows, or the study cannot be built again: other data, an edited definition.
    """
    lock = folder.read_lock()
    known = [str(entry["trial"]) for entry in lock["trials"]]
    if trial not in known:
        raise StudyError(
            f"study {folder.name} has no trial '{shortened(trial)}' (its {len(known)} are named as {known[0]})"
            f"{suggestion(trial, known)}"
        )
    record = folder.record(trial)
    if not record.rows:
        raise StudyError(f"trial {trial} is {record.status} and has no rows to verify")
    specification, plan = _specification(folder, lock, trial, display)
    circumstances = differences_of(lock)
    for line in circumstances:
        display.warn(line)
    device, rows, predictions = _repeated(specification, plan, len(record.rows), display)
    allowed = (0.0 if device == "cpu" else GPU_TOLERANCE) if tolerance is None else tolerance
    found = list(row_differences(record.rows, rows, allowed))
    numbers = sum(len(numbers_of(row)) for row in record.rows)
    if record.status == "finished" and predictions is not None:
        before = folder.read_predictions(trial)
        found += _prediction_differences(before, predictions, allowed)
        numbers += sum(array.size for array in _arrays(before).values())
    recorded = {name for row in record.rows for name in row}
    added = dict.fromkeys(name for row in rows for name in numbers_of(row) if name not in recorded)
    return Verification(
        trial, device, allowed, len(record.rows), numbers, tuple(found), tuple(circumstances), tuple(added)
    )


def _specification(
    folder: StudyFolder, lock: Mapping[str, Any], trial: str, display: Display
) -> tuple[TrialSpecification, Plan]:
    """Return what a trial was made from, with the corpus as it is prepared here."""
    definition = _frozen(folder, lock)
    plan, store = prepared(definition, lock, display)
    entry = next(entry for entry in lock["trials"] if entry["trial"] == trial)
    arm = arm_of(next(arm for arm in lock["arms"] if arm["arm"] == entry["arm"]))
    specification = plan.trial(arm, entry["seed"], entry.get("fold"), str(store.path), None)
    if arm.role not in waves.DERIVED:
        return specification, plan
    made = waves.second_wave([specification], [arm], folder).trials
    if not made:
        raise StudyError(f"trial {trial} is made of a trial of {arm.of}, which has not finished")
    return made[0], plan


def _frozen(folder: StudyFolder, lock: Mapping[str, Any]) -> Definition:
    definition = load(str(folder.definition))
    if definition.identity != lock["identity"]:
        raise StudyError(f"{folder.definition} was edited: it is not what study {folder.name} was run with")
    return definition


def prepared(definition: Definition, lock: Mapping[str, Any], display: Display) -> tuple[Plan, Store]:
    """Return the plan of a study and its corpus.

    Raises:
        StudyError: the corpus is not the one that the study was run on.
    """
    corpus = corpora.create(definition.corpus.name, **definition.corpus.options)
    plan = make_plan(definition, corpus)
    store = corpus_job.prepare_store(definition, corpus, display)
    recorded = str(lock["corpus"]["content_hash"])
    if recorded != store.content_hash:
        raise StudyError(
            f"the corpus is another one than the study was run on (hash {recorded[:12]}, here "
            f"{store.content_hash[:12]}): nothing can be compared"
        )
    return plan.with_table(store.table), store


def arm_of(entry: Mapping[str, Any]) -> Arm:
    """Return an arm as a lock describes it."""
    values = {field.name: entry[field.name] for field in fields(Arm) if entry.get(field.name) is not None}
    for name in ("static_weights", "changes"):
        if name in values:
            values[name] = tuple(values[name])
    return Arm(**{"static_weights": None, **values})


def _repeated(
    specification: TrialSpecification, plan: Plan, count: int, display: Display
) -> tuple[str, list[Row], Predictions | None]:
    """Train a trial in this process as a study's worker does; return where, its first rows, and its predictions."""
    import torch

    from trainables import memory
    from trainables.session import Session

    threads = torch.get_num_threads()
    torch.set_num_threads(plan.definition.resources.cpus)
    try:
        session = Session(specification)
        rows: list[Row] = []
        for row in session.run():
            rows.append(row)
            display.say(f"{specification.trial}: {_row_name(row)} of {count} rows is trained again")
            if len(rows) == count:
                break
    finally:
        torch.set_num_threads(threads)
        memory.release()
    return session.device.type, rows, session.predictions


def _row_name(row: Mapping[str, Any]) -> str:
    return "final row" if row["kind"] == "final" else f"epoch {row['epoch']}"


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what of a row must come out again: everything but times and memory."""
    return {name: float(value) for name, value in row.items() if name not in _LABELS and not name.startswith(MEASURED)}


def row_differences(
    recorded: Sequence[Mapping[str, Any]], repeated: Sequence[Mapping[str, Any]], tolerance: float
) -> Iterator[Difference]:
    """Yield the numbers of recorded rows that did not come out again."""
    now = {_row_name(row): numbers_of(row) for row in repeated}
    for row in recorded:
        name = _row_name(row)
        if name not in now:
            yield Difference(name, "(row)", float(row["epoch"]), math.nan)
            continue
        before = numbers_of(row)
        for column, value in before.items():
            other = now[name].get(column, math.nan)
            if column not in now[name] or not same(value, other, tolerance):
                yield Difference(name, column, value, other)


def same(recorded: float, repeated: float, tolerance: float) -> bool:
    """Whether two numbers count as the same; NaN is the same as NaN.

    >>> same(0.1, 0.1 + 1e-12, 0.0), same(float("nan"), float("nan"), 0.0), same(100.0, 100.5, 0.01)
    (False, True, True)
    """
    if math.isnan(recorded) or math.isnan(repeated):
        return math.isnan(recorded) and math.isnan(repeated)
    return recorded == repeated or abs(recorded - repeated) <= tolerance * max(1.0, abs(recorded))


def _prediction_differences(before: Predictions, now: Predictions, tolerance: float) -> list[Difference]:
    """Return the largest difference within every array of predictions that differs."""
    found = []
    others = _arrays(now)
    for name, array in _arrays(before).items():
        other = others.get(name)
        if other is None or other.shape != array.shape or not _alike(array, other, tolerance):
            found.append(Difference("predictions", name, *_widest(array, other)))
    return found


def _arrays(predictions: Predictions) -> dict[str, np.ndarray[Any, Any]]:
    """Return name -> array, as in the file of predictions."""
    with np.load(io.BytesIO(predictions.to_bytes()), allow_pickle=False) as file:
        return dict(file)


def _alike(array: np.ndarray[Any, Any], other: np.ndarray[Any, Any], tolerance: float) -> bool:
    if tolerance == 0 or array.dtype.kind not in "fc":
        return array.tobytes() == other.tobytes()
    return bool(np.allclose(array, other, rtol=tolerance, atol=tolerance, equal_nan=True))


def _widest(array: np.ndarray[Any, Any], other: np.ndarray[Any, Any] | None) -> tuple[float, float]:
    if other is None or other.shape != array.shape or array.dtype.kind not in "fciu":
        return math.nan, math.nan
    index = int(np.nanargmax(np.abs(array.astype(float) - other.astype(float)))) if array.size else 0
    return float(array.flat[index]), float(other.flat[index])


def differences_of(lock: Mapping[str, Any]) -> list[str]:
    """Return what is not as it was when a study was run, one line each: versions and the commit of this project."""
    now, before = provenance.versions(), lock["versions"]
    told = [
        f"{name} is {now.get(name, 'missing')} here, the study was run with {before[name]}"
        for name in before
        if before[name] != now.get(name)
    ]
    commit, recorded = provenance.git_commit(), lock["git_commit"]
    if commit != recorded:
        told.append(f"the project is at commit {_short(commit)} here, the study was run with {_short(recorded)}")
    elif commit.endswith("-dirty"):
        told.append("the study was run with files that were not committed: they may be others now")
    return told


def _short(commit: str) -> str:
    return f"{commit[:12]}{'-dirty' if commit.endswith('-dirty') else ''}" or "unknown"
