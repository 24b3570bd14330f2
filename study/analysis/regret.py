"""How far each method is from the static grid: from its front, from its best point, from the point one would choose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.analysis.front import StaticReference
from study.analysis.pareto import MOST_OBJECTIVES, distance_behind, exclusive_volume, hypervolume
from study.analysis.resampling import jackknife_interval, mean_interval
from study.analysis.results import Results
from study.analysis.statistics import Interval
from study.analysis.summary import HEADLINE, grid_arms, labels, seed_values, single_arms

CHANCE = {"regression": 1.0, "multilabel": float(np.log(2))}
"""Kind of task -> loss of a network that knows nothing: a constant has CCC 0, a fair coin costs log 2 a class."""


@dataclass(frozen=True)
class FrontDistances:
    """Where the methods lie to the front of the static grid.

    Attributes:
        grid: hypervolume of the grid; None for fewer than 2 common seeds, or more than four tasks.
        reference: task -> loss that the volume is measured from: that of a network that knows nothing, whatever arms
            there are.
        table: one row per method: ``arm, label, num_seeds``, ``distance, low, high`` (see ``pareto.distance_behind``;
            positive is behind the front, in the unit of the losses), ``gain, gain/low, gain/high`` (hypervolume that
            the method adds to the grid's; never negative, and without interval where it is 0). Jackknife intervals over
            the seeds that the method and the grid have.
    """

    grid: Interval | None
    reference: dict[str, float]
    table: pd.DataFrame


def front_distances(results: Results, split: str) -> FrontDistances | None:
    """Measure every method against the front of the grid; None without a grid that has results."""
    losses = np.stack([seed_values(results, f"{split}/nll/{task}").to_numpy() for task in results.tasks], axis=2)
    of_arm = dict(zip(labels(results), losses, strict=True))
    grid = [of_arm[arm] for arm in grid_arms(results) if np.isfinite(of_arm[arm]).all(axis=1).any()]
    if not grid:
        return None
    points = np.stack(grid, axis=1)
    reference = chance_losses(results)
    rows = [_distance_row(results, arm, of_arm[arm], points, reference) for arm in single_arms(results)]
    alone = _complete(points)
    return FrontDistances(
        jackknife_interval(lambda mean: hypervolume(mean, reference), alone) if _has_volume(results) else None,
        dict(zip(results.tasks, reference.tolist(), strict=True)),
        pd.DataFrame(rows, columns=_COLUMNS),
    )


_COLUMNS = ["arm", "label", "num_seeds", "distance", "low", "high", "gain", "gain/low", "gain/high"]


def _distance_row(
    results: Results, arm: str, own: NDArray[np.float64], grid: NDArray[np.float64], reference: NDArray[np.float64]
) -> list[object]:
    """Measure one method; losses ``(S, T)`` of its own and ``(S, N, T)`` of the grid."""
    rows = _complete(np.concatenate([own[:, None], grid], axis=1))
    distance = jackknife_interval(lambda mean: distance_behind(mean[0], mean[1:]), rows)
    gain = None
    if _has_volume(results):
        gain = jackknife_interval(lambda mean: exclusive_volume(mean[0], mean[1:], reference), rows)
    values = [*_values(distance), *_values(gain)]
    if gain is not None:
        values[3:] = [gain.mean, *((max(gain.low, 0.0), gain.high) if gain.mean else (np.nan, np.nan))]
    if len(rows) == 1:
        values[0] = distance_behind(rows[0, 0], rows[0, 1:])
    return [arm, labels(results)[arm], len(rows), *values]


def _values(interval: Interval | None) -> list[float]:
    return [np.nan] * 3 if interval is None else [interval.mean, interval.low, interval.high]


def _complete(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the seeds for which every point is known, ``(S, N, T)``."""
    return rows[np.isfinite(rows).all(axis=(1, 2))]


def _has_volume(results: Results) -> bool:
    return len(results.tasks) <= MOST_OBJECTIVES


def chance_losses(results: Results) -> NDArray[np.float64]:
    """Return the loss of each task that a network has which knows nothing: log C, 1 - CCC = 1, or log 2; ``(T,)``."""
    return np.array(
        [
            CHANCE[kind] if (kind := results.task_kinds[task]) in CHANCE else np.log(results.num_classes[task])
            for task in results.tasks
        ]
    )


def regret_table(results: Results, split: str, static: StaticReference | None) -> pd.DataFrame:
    """Return how much worse each method is than the static grid, metric by metric; no rows without a grid.

    Against ``"chosen"``: the arm that a user of the grid would have taken, best on validation by the joint NLL. Against
    ``"oracle"``: for each metric the arm that turned out best on the split itself, which no user can know; with many
    points and few seeds it looks better than it is.

    Returns:
        Columns ``arm, label, metric, against`` (``chosen`` or ``oracle``), ``static`` (that arm), ``num_seeds``,
        ``regret, low, high``: positive is worse than the grid, whichever way the metric points.
    """
    columns = ["arm", "label", "metric", "against", "static", "num_seeds", "regret", "low", "high"]
    if static is None:
        return pd.DataFrame(columns=columns)
    return pd.DataFrame(
        [
            [arm, labels(results)[arm], metric, against, rival, *_regret(values, arm, rival, sign)]
            for metric, sign, values in _metrics(results, split)
            for against, rival in (("chosen", static.best), ("oracle", _oracle(results, values, sign)))
            if rival
            for arm in single_arms(results)
        ],
        columns=columns,
    )


def _metrics(results: Results, split: str) -> list[tuple[str, int, pd.DataFrame]]:
    """Return name, sign (1: smaller is better) and values of what regret is counted in."""
    tasks: Sequence[tuple[str, int]] = [
        (f"{metric}/{task}", sign)
        for task in results.tasks
        for metric, sign in (("nll", 1), (HEADLINE[results.task_kinds[task]], -1))
    ]
    return [(name, sign, seed_values(results, f"{split}/{name}")) for name, sign in [("joint_nll", 1), *tasks]]


def _oracle(results: Results, values: pd.DataFrame, sign: int) -> str | None:
    grid = (sign * values.loc[grid_arms(results)]).dropna(how="all")
    complete = grid.dropna(axis=1)
    means = (grid if complete.empty else complete).mean(axis=1)
    return str(means.idxmin()) if len(means) else None


def _regret(values: pd.DataFrame, arm: str, rival: str, sign: int) -> list[float]:
    difference = sign * (values.loc[arm] - values.loc[rival]).to_numpy(dtype=float)
    known = difference[np.isfinite(difference)]
    if not len(known):
        return [0, np.nan, np.nan, np.nan]
    interval = mean_interval(known.tolist())
    low, high = (interval.low, interval.high) if interval else (np.nan, np.nan)
    return [len(known), float(known.mean()), low, high]
