"""The rows of trials as columns of numbers, and a copy of them on disk that opens at once.

The rows themselves, a JSON line each, are what a study keeps. Reading a hundred megabytes of them takes seconds, so the
columns that they become are kept beside them::

    cache/rows.npz      values (values, rows) float64: every trial's rows one after the other, NaN where a row has none;
                        index: names of the values, trials, and of which state of their files they are, as JSON
    cache/pools.json    of a study over folds: the test scores of every arm and seed

A trial whose file has another size or time than the copy says is read again, the others are not. The folder may be
deleted at any time. It holds numbers and names only: reading that of a stranger runs no code.
"""

import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

VERSION = 1
"""Of the copy's form: one of another version is written anew."""
SMALLEST = 4 * 2**20
"""Bytes of rows from which a copy is worth its file: less is read in a tenth of a second."""
_INTEGERS = ("epoch", "step")


@dataclass(frozen=True)
class TrialColumns:
    """What is on disk of one trial.

    Attributes:
        stamp: size and time (ns) of its file of rows, and whether its predictions are there.
        status: see ``study.records.TrialRecord``.
        error: why it failed, in one line, or None.
        seconds: how long its last, completed attempt took, or None.
        names: of its values, in order of first appearance.
        values: ``(values, rows)``, NaN where a row has no value.
        num_final: rows at the end that are final rows; all before are of epochs.
    """

    stamp: tuple[int, int, bool]
    status: str
    error: str | None
    seconds: float | None
    names: tuple[str, ...]
    values: NDArray[np.float64]
    num_final: int


def columns_of(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], NDArray[np.float64], int]:
    """Return names, values ``(values, rows)`` and the number of final rows of a trial's rows, which come last.

    >>> names, values, num_final = columns_of([{"kind": "epoch", "epoch": 1}, {"kind": "final", "epoch": 1, "x": 2.0}])
    >>> names, values.tolist(), num_final
    (('epoch', 'x'), [[1.0, 1.0], [nan, 2.0]], 1)
    """
    places: dict[str, int] = {}
    for shape in _by_shape(rows):
        for name in shape:
            if name not in ("kind", "time"):
                places.setdefault(name, len(places))
    values = np.full((len(places), len(rows)), np.nan)
    for shape, indices in _by_shape(rows).items():
        names = [name for name in shape if name in places]
        if names:
            values[np.ix_([places[name] for name in names], indices)] = _numbers([rows[i] for i in indices], names).T
    return tuple(places), values, sum(row["kind"] == "final" for row in rows)


def _by_shape(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], list[int]]:
    """Return names of a row's values -> the rows that have just those."""
    found: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(tuple(row), []).append(index)
    return found


def _numbers(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> NDArray[np.float64]:
    """Return values of rows that have them all, ``(rows, values)``."""
    values = [[row[name] for name in names] for row in rows]
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # a whole number with more digits than anything measured
        return np.array([[_number(value) for value in row] for row in values])


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def frame(trials: Sequence[Mapping[str, Any]], found: Mapping[str, TrialColumns]) -> pd.DataFrame:
    """Return all rows as one table: ``trial, arm, seed, kind, epoch`` and the values in order of first appearance.

    Args:
        trials: entries of the lock, in order.
        found: trial -> its columns.
    """
    each = [found[trial["trial"]] for trial in trials]
    counts = [one.values.shape[1] for one in each]
    if not sum(counts):
        return pd.DataFrame(columns=["trial", "arm", "seed", "kind", "epoch"])
    matrix, names = _stacked(each, sum(counts))
    final = np.concatenate([np.arange(count) >= count - one.num_final for one, count in zip(each, counts, strict=True)])
    head = {key: np.repeat(np.array([trial[key] for trial in trials]), counts) for key in ("trial", "arm", "seed")}
    table = pd.DataFrame({**head, "kind": np.where(final, "final", "epoch")})
    values = pd.DataFrame(matrix.T, columns=names, copy=False)
    whole = [name for name in _INTEGERS if name in names and np.isfinite(matrix[names.index(name)]).all()]
    return pd.concat([table, values.astype(dict.fromkeys(whole, np.int64))], axis=1)


def _stacked(each: Sequence[TrialColumns], num_rows: int) -> tuple[NDArray[np.float64], list[str]]:
    """Return the values of trials side by side, ``(values, rows)``, and the names of the values."""
    names = list(dict.fromkeys(name for shape in dict.fromkeys(one.names for one in each) for name in shape))
    place = {name: index for index, name in enumerate(names)}
    places = {shape: [place[name] for name in shape] for shape in {one.names for one in each}}
    matrix, start = np.full((len(names), num_rows), np.nan), 0
    for one in each:
        end = start + one.values.shape[1]
        matrix[places[one.names], start:end] = one.values
        start = end
    return matrix, names


def read_copy(folder: Path) -> dict[str, TrialColumns]:
    """Return what a study's copy holds, trial by trial; nothing where there is none that can be read."""
    # opened here, as NumPy leaves a damaged file open
    with suppress(*_UNREADABLE), (folder / "rows.npz").open("rb") as it, np.load(it, allow_pickle=False) as file:
        content = json.loads(bytes(file["index"]))
        if content["version"] == VERSION:
            return _read_trials(content, np.asarray(file["values"], dtype=np.float64))
    return {}


_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, EOFError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What reading a file that somebody has damaged or made up may raise."""


def _read_trials(content: Mapping[str, Any], matrix: NDArray[np.float64]) -> dict[str, TrialColumns]:
    names = [str(name) for name in content["names"]]
    shapes = [[int(place) for place in shape] for shape in content["shapes"]]
    found, start = {}, 0
    for trial, size, time, predicted, status, error, seconds, shape, count, num_final in content["trials"]:
        places = shapes[shape]
        whole = places == list(range(len(names)))
        values = matrix[:, start : start + count] if whole else matrix[places, start : start + count]
        if values.shape[1] != count:
            return {}
        stamp = (int(size), int(time), bool(predicted))
        shown = tuple(names[place] for place in places)
        found[str(trial)] = TrialColumns(stamp, str(status), error, seconds, shown, values, int(num_final))
        start += count
    return found


def write_copy(folder: Path, found: Mapping[str, TrialColumns]) -> None:
    """Keep the columns of trials; where that cannot be written, the next reader reads the rows again."""
    if sum(one.stamp[0] for one in found.values()) < SMALLEST:
        return
    matrix, names = _stacked(list(found.values()), sum(one.values.shape[1] for one in found.values()))
    place = {name: index for index, name in enumerate(names)}
    shapes = {shape: index for index, shape in enumerate(dict.fromkeys(one.names for one in found.values()))}
    trials = [
        [trial, *one.stamp, one.status, one.error, one.seconds, shapes[one.names], one.values.shape[1], one.num_final]
        for trial, one in found.items()
    ]
    content = {"version": VERSION, "names": names, "shapes": [[place[n] for n in s] for s in shapes], "trials": trials}
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        temporary = folder / f".rows.{os.getpid()}.npz"
        np.savez(temporary, values=matrix, index=np.frombuffer(json.dumps(content).encode(), dtype=np.uint8))
        temporary.replace(folder / "rows.npz")


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def read_scores(folder: Path) -> dict[str, Any]:
    """Return the scores of pools that were computed before: what they are of -> their stamps and columns."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads((folder / "pools.json").read_bytes())
        if isinstance(content, dict):
            return content
    return {}


def known_scores(entry: object, files: list[list[int]], weights: Mapping[str, float]) -> dict[str, float] | None:
    """Return scores that were kept if they are those of files in that state, at those weights; else None."""
    if not isinstance(entry, dict) or entry.get("files") != files or entry.get("weights") != dict(weights):
        return None
    scores = entry.get("scores")
    good = isinstance(scores, dict) and all(type(value) is float for value in scores.values())
    return dict(scores) if good and isinstance(scores, dict) else None


def write_scores(folder: Path, scores: Mapping[str, Any]) -> None:
    """Keep the scores of pools; where that cannot be written, the next reader computes them again."""
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        _write_text(folder / "pools.json", json.dumps(scores))


def file_stamp(path: Path) -> tuple[int, int]:
    """Return size and time (ns) of a file; zeros where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
