"""The static grid as the reference: its best point, its oracle, its Pareto front, and where dynamic arms lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.analysis.differences import differences
from study.analysis.pareto import pareto_front
from study.analysis.resampling import mean_interval
from study.analysis.results import Results
from study.analysis.summary import dynamic_arms, grid_arms, planned_seeds, roles, seed_values

MOST_SENTENCES = 5
"""Dynamic arms that are told of one by one; more of them are told of by place."""


@dataclass(frozen=True)
class StaticReference:
    """The static arms, taken as the one method they are.

    Attributes:
        best: the arm with the lowest mean validation joint NLL: what a user of the grid would have chosen.
        oracle: the arm with the lowest mean joint NLL on the compared split itself: a bound no user can reach.
        chosen_on: seeds that every static arm with results has; both choices average over these.
        best_value: the best arm's mean on the compared split over those seeds.
        oracle_value: the oracle's.
        to_best: paired differences of every dynamic arm to ``best``, see ``differences``.
        to_oracle: the same to ``oracle``; its intervals are optimistic for the grid.
    """

    best: str
    oracle: str
    chosen_on: tuple[int, ...]
    best_value: float
    oracle_value: float
    to_best: pd.DataFrame
    to_oracle: pd.DataFrame


def static_reference(results: Results, split: str) -> StaticReference | None:
    """Return the best static arm chosen on validation and the oracle on ``split``; None without static results."""
    chosen = seed_values(results, "valid/joint_nll").loc[grid_arms(results)].dropna(how="all")
    judged = seed_values(results, f"{split}/joint_nll")
    chosen = chosen[judged.loc[chosen.index].notna().any(axis=1)]
    if chosen.empty:
        return None
    seeds = _common_seeds(chosen, judged.loc[chosen.index])
    # without one seed that all have, each arm's own mean is the only thing left to choose by
    use = list(seeds) or [int(str(seed)) for seed in chosen.columns]
    candidates = judged.loc[chosen.index, use].mean(axis=1)
    best, oracle = str(chosen[use].mean(axis=1).idxmin()), str(candidates.idxmin())
    dynamic = dynamic_arms(results)
    return StaticReference(
        best,
        oracle,
        seeds,
        float(candidates[best]),
        float(candidates[oracle]),
        differences(judged, dynamic, best, tested=dynamic),
        differences(judged, dynamic, oracle, tested=[]),
    )


def position(point: NDArray[np.float64], static: NDArray[np.float64]) -> str:
    """Return where a point ``(T,)`` lies relative to the front of the static points ``(N, T)``, smaller being better.

    ``"behind"``: a static point is at least as good on every task and better on one. ``"beyond"``: the point is at
    least as good on every task, and better on one, than a point of the front. ``"between"``: neither, it lies in a gap
    of the front. ``"unknown"``: a value is missing.
    """
    return _position(point, static[pareto_front(static)])


def _position(point: NDArray[np.float64], front: NDArray[np.float64]) -> str:
    """Return the same of the front alone, found once for many points."""
    if np.isnan(point).any() or not front.size:
        return "unknown"
    if ((front <= point).all(axis=1) & (front < point).any(axis=1)).any():
        return "behind"
    if ((point <= front).all(axis=1) & (point < front).any(axis=1)).any():
        return "beyond"
    return "between"


def front_table(results: Results, split: str) -> pd.DataFrame:
    """Return the place in the plane of the per-task NLLs of each arm compared, in plan order.

    Returns:
        Columns ``arm, label, is_static``, ``{split}/nll/{task}`` (mean over seeds), ``on_front`` (static arms: part of
        the grid's Pareto front), ``position`` (dynamic arms: see ``position``, else empty), ``not_behind`` and
        ``num_seeds`` (dynamic arms: in how many seeds it is not behind the grid of that very seed).
    """
    columns = [f"{split}/nll/{task}" for task in results.tasks]
    compared = np.array([not role for role in roles(results).values()], dtype=bool)
    per_seed = np.stack([seed_values(results, column).to_numpy()[compared] for column in columns], axis=2)
    table = results.arms.loc[compared, ["arm", "label", "is_static"]].reset_index(drop=True)
    table["is_static"] = table["is_static"].astype(bool)
    for column in columns:
        table[column] = seed_values(results, column).mean(axis=1).to_numpy()[compared]
    static = table["is_static"].to_numpy(dtype=bool)
    means = table[columns].to_numpy(dtype=float)
    table["on_front"] = False
    table.loc[static, "on_front"] = pareto_front(means[static])
    front = means[table["on_front"].to_numpy(dtype=bool)]
    fronts = [points[pareto_front(points)] for points in np.moveaxis(per_seed[static], 1, 0)]
    table["position"] = ["" if fixed else _position(point, front) for fixed, point in zip(static, means, strict=True)]
    counts = [(0, 0) if fixed else _not_behind(seeds, fronts) for fixed, seeds in zip(static, per_seed, strict=True)]
    table["not_behind"], table["num_seeds"] = [count[0] for count in counts], [count[1] for count in counts]
    return table


def front_sentences(results: Results, table: pd.DataFrame, split: str) -> list[str]:
    """Say where the dynamic arms lie, and whether that is more than the noise of the seeds.

    One sentence an arm, or one for all arms in the same place where there are more than ``MOST_SENTENCES``.
    """
    if not table["on_front"].any():
        return []
    columns = [f"{split}/nll/{task}" for task in results.tasks]
    front, dynamic = table[table["on_front"]], table[~table["is_static"]].to_dict("records")
    places = [_placed(results, arm, front, columns) for arm in dynamic]
    if len(dynamic) > MOST_SENTENCES:
        return _grouped(places)
    return [
        f"{place.label} {_place(place.where, place.rivals)}{place.noise}{_seed_count(arm)}."
        for place, arm in zip(places, dynamic, strict=True)
    ]


@dataclass(frozen=True)
class _Placed:
    """Where an arm lies, the static arms that make it so, and what to say of the noise."""

    label: str
    where: str
    rivals: list[str]
    noise: str


def _placed(results: Results, arm: Mapping[Any, Any], front: pd.DataFrame, columns: list[str]) -> _Placed:
    where = str(arm["position"])
    rivals = _rivals(front, np.array([arm[column] for column in columns]), columns, where)
    clear = any(_resolved(results, columns, str(arm["arm"]), str(rival)) for rival in rivals["arm"])
    within = ", but within the noise" if len(planned_seeds(results)) > 1 else ", with one seed, which tells no noise"
    noise = "" if rivals.empty else (", by more than the noise on every task" if clear else within)
    return _Placed(str(arm["label"]), where, [str(label) for label in rivals["label"]], noise)


def _grouped(places: Sequence[_Placed]) -> list[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for place in places:
        groups.setdefault((place.where, place.noise), []).append(place.label)
    meanings = {
        "beyond": "Beyond the static front (no static arm is as good on every task)",
        "between": "Between points of the static front (neither better nor worse than it on every task)",
        "behind": "Behind the static front (a static arm is at least as good on every task)",
    }
    meanings["unknown"] = "Without a place in the plane (a task has no finite loss)"
    return [
        f"{meaning}{noise}: {_some(labels, _MOST_NAMES)}."
        for where, meaning in meanings.items()
        for (place, noise), labels in groups.items()
        if place == where
    ]


def _rivals(front: pd.DataFrame, point: NDArray[np.float64], columns: list[str], where: str) -> pd.DataFrame:
    """Return the points of the front that make a position what it is."""
    others = front[columns].to_numpy(dtype=float)
    if where == "behind":
        return front.iloc[np.flatnonzero((others <= point).all(axis=1))]
    return front.iloc[np.flatnonzero((point <= others).all(axis=1))] if where == "beyond" else front.iloc[:0]


def _resolved(results: Results, columns: list[str], arm: str, other: str) -> bool:
    """Whether the paired 95 % interval of the difference leaves out zero on every task."""
    for column in columns:
        values = seed_values(results, column)
        differences_of = (values.loc[arm] - values.loc[other]).to_numpy(dtype=float)
        interval = mean_interval([float(one) for one in differences_of[np.isfinite(differences_of)]])
        if interval is None or interval.contains(0.0):
            return False
    return True


def _place(where: str, names: list[str]) -> str:
    sentences = {
        "behind": f"lies behind the static front: {_some(names)} is at least as good on every task",
        "beyond": f"lies beyond the static front: it is at least as good on every task as {_some(names)}, and no "
        "static arm is as good as it",
        "between": "lies between points of the static front: no static arm beats it on every task, and it beats none "
        "of the front on every task",
    }
    return sentences.get(where, "has no place in the plane: a task has no finite loss")


_MOST_NAMES = 12
"""Arms that a sentence names; the table of the front has all."""


def _some(names: list[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _seed_count(arm: Mapping[Any, Any]) -> str:
    if arm["num_seeds"] < 2:
        return ""
    return f" (means over seeds; seed by seed it is not behind in {arm['not_behind']} of {arm['num_seeds']})"


def _not_behind(points: NDArray[np.float64], fronts: Sequence[NDArray[np.float64]]) -> tuple[int, int]:
    """Count seeds; shapes ``(S, T)`` and, for each seed, ``(N, T)``."""
    places = [_position(point, front) for point, front in zip(points, fronts, strict=True)]
    known = [place for place in places if place != "unknown"]
    return sum(place != "behind" for place in known), len(known)


def _common_seeds(*tables: pd.DataFrame) -> tuple[int, ...]:
    complete = [set(table.columns[table.notna().all(axis=0)]) for table in tables]
    return tuple(sorted(int(seed) for seed in set.intersection(*complete)))
