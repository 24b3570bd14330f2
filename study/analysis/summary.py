"""One number per arm and seed, and what the seeds of an arm say together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strategies.errors import unknown
from strategies.text import shortened
from study.analysis.resampling import mean_interval
from study.analysis.results import Results, cells
from study.analysis.statistics import ALPHA, Interval
from study.definition import GRID_FAMILY
from study.errors import StudyError
from trainables import multilabel

METRICS = {
    "classification": ("nll", "uar", "accuracy", "macro_f1"),
    "regression": ("nll", "ccc", "mse"),
    "multilabel": multilabel.METRICS + multilabel.SEARCHED,
}
"""Kind of task -> names of its metrics; the ``nll`` of a regression task is its loss, 1 - CCC."""
HEADLINE = {"classification": "uar", "regression": "ccc", "multilabel": "macro_f1"}
"""Kind of task -> the metric people read, between 0 (or -1) and 1, larger is better."""
SPLITS = ("test", "valid", "train")


@dataclass(frozen=True)
class Summary:
    """One metric of one arm over its seeds.

    Attributes:
        arm: the arm's id.
        metric: the column, such as ``"test/joint_nll"``.
        values: seed -> value, finite ones only.
        missing: planned seeds without a finite value.
        mean: mean over the seeds that have one; None without any.
        deviation: standard deviation over the seeds (n - 1); None for fewer than 2.
        interval: of the mean (see ``resampling.mean_interval``); None for fewer than 2 seeds.
    """

    arm: str
    metric: str
    values: dict[int, float]
    missing: tuple[int, ...]
    mean: float | None
    deviation: float | None
    interval: Interval | None


def final_rows(results: Results) -> pd.DataFrame:
    """Return the final row of every trial that has one; the newest, should a resumed trial have left two."""
    return results.finals


def epoch_rows(results: Results) -> pd.DataFrame:
    """Return one row per trial and epoch; the newest, should a resumed trial have reported an epoch twice."""
    return results.epochs


def arm_epochs(results: Results, arm: str) -> pd.DataFrame:
    """Return the epoch rows of one arm; those of another study's arm, which has none, are an empty table."""
    found = results.epochs_of_arms.get(arm)
    return results.epochs.iloc[:0] if found is None else found


def arm_ids(results: Results) -> list[str]:
    """Return the ids of the arms in the order of the plan."""
    return [str(arm) for arm in results.arms["arm"]]


def labels(results: Results) -> dict[str, str]:
    """Return arm id -> label."""
    return results.labels


def roles(results: Results) -> dict[str, str]:
    """Return arm id -> what it is there for; empty for an arm that is compared for its own sake."""
    return results.roles


def control_arms(results: Results) -> list[str]:
    """Return the ids of the arms that are there to judge others by: single tasks, frozen means, scaled losses."""
    return [arm for arm, role in roles(results).items() if role]


def static_arms(results: Results) -> list[str]:
    """Return the ids of the arms compared whose weights stay fixed, in the order of the plan."""
    fixed = results.arms.loc[results.arms["is_static"].astype(bool), "arm"]
    return [str(arm) for arm in fixed if not roles(results)[str(arm)]]


def grid_arms(results: Results) -> list[str]:
    """Return the ids of the arms that count as the static grid: fixed weights, and no network of their own."""
    return [str(arm) for arm in results.arms.loc[results.arms["family"] == GRID_FAMILY, "arm"]]


def single_arms(results: Results) -> list[str]:
    """Return the ids of the arms that are a method each: moving weights, or a network of their own."""
    others = {*grid_arms(results), *control_arms(results)}
    return [arm for arm in arm_ids(results) if arm not in others]


def dynamic_arms(results: Results) -> list[str]:
    """Return the ids of the arms compared whose weights move, in the order of the plan."""
    others = {*static_arms(results), *control_arms(results)}
    return [arm for arm in arm_ids(results) if arm not in others]


def planned_seeds(results: Results) -> list[int]:
    """Return every seed of the plan, ascending."""
    return results.seeds


def task_metrics(results: Results, task: str) -> tuple[str, ...]:
    """Return the names of the metrics that a task has, such as ``("nll", "uar", "accuracy", "macro_f1")``."""
    return METRICS[results.task_kinds[task]]


def metric_columns(results: Results, split: str) -> list[str]:
    """Return the metric columns of a split that the final rows have, task by task, then the joint losses."""
    wanted = [f"{split}/{metric}/{task}" for task in results.tasks for metric in task_metrics(results, task)]
    wanted += [f"{split}/joint_nll", f"{split}/weighted_nll"]
    return [column for column in wanted if column in results.rows.columns]


def seed_values(results: Results, metric: str, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a metric of the final rows, one row per arm and one column per planned seed.

    NaN stands where a trial has no final row or its value is not finite; ``non_finite`` tells the two apart.

    Args:
        results: the study.
        metric: column of the rows; one that no row has gives NaN everywhere.
        rows: rows with one line per trial to read from; the final rows by default.
    """
    if rows is None and metric in results.known_values:
        return results.known_values[metric]
    arms, seeds = arm_ids(results), planned_seeds(results)
    source = final_rows(results) if rows is None else rows
    values = np.full((len(arms), len(seeds)), np.nan)
    if metric in source.columns and len(source):
        found = source[metric].to_numpy(dtype=float, na_value=np.nan)
        of_arm, of_seed = results.cells if rows is None else cells(source, arms, seeds)
        planned = (of_arm >= 0) & (of_seed >= 0) & np.isfinite(found)
        values[of_arm[planned], of_seed[planned]] = found[planned]
    table = pd.DataFrame(values, index=pd.Index(arms), columns=pd.Index(seeds))
    return table if rows is not None else results.known_values.setdefault(metric, table)


def summarise(results: Results, metric: str) -> dict[str, Summary]:
    """Return arm id -> mean, deviation and 95 % interval of one metric over the arm's seeds, in plan order."""
    table = seed_values(results, metric)
    return {str(arm): summary_of(str(arm), metric, values) for arm, values in table.iterrows()}


def metric_table(results: Results, metric: str) -> pd.DataFrame:
    """Return one metric with a column per seed: ``arm, mean, half_width, seed 0, seed 1, ...``; half a 95 % interval.

    Raises:
        StudyError: no final row has that metric; names those there are.
    """
    known = [column for column in results.rows.columns if "/" in column and final_rows(results)[column].notna().any()]
    if metric not in known:
        raise StudyError(unknown("metric", metric, known))
    values, names = seed_values(results, metric), labels(results)
    summaries = summarise(results, metric).values()
    table = pd.DataFrame(
        {
            "arm": [names[summary.arm] for summary in summaries],
            "mean": [summary.mean for summary in summaries],
            "half_width": [summary.interval.half_width if summary.interval else None for summary in summaries],
        }
    )
    return table.join(values.rename(columns=lambda seed: f"seed {seed}").reset_index(drop=True))


def summary_of(arm: str, metric: str, values: pd.Series) -> Summary:
    """Summarise the values of one arm; the index of ``values`` are the planned seeds, NaN means missing."""
    present = {int(str(seed)): float(value) for seed, value in values.items() if np.isfinite(value)}
    missing = tuple(int(str(seed)) for seed in values.index if int(str(seed)) not in present)
    numbers = list(present.values())
    deviation = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    mean = float(np.mean(numbers)) if numbers else None
    return Summary(arm, metric, present, missing, mean, deviation, mean_interval(numbers, 1 - ALPHA))


def non_finite(results: Results, columns: Sequence[str]) -> pd.DataFrame:
    """Return the values of finished trials that are not finite: ``arm, seed, metric, value``, in plan order."""
    finals = final_rows(results)
    order = {arm: position for position, arm in enumerate(arm_ids(results))}
    found = [
        {"arm": str(arm), "seed": int(seed), "metric": column, "value": float(value)}
        for column in columns
        if column in finals.columns
        for arm, seed, value in zip(finals["arm"], finals["seed"], finals[column].astype(float), strict=True)
        if not np.isfinite(value)
    ]
    found.sort(key=lambda row: (order[str(row["arm"])], row["seed"]))
    return pd.DataFrame(found, columns=["arm", "seed", "metric", "value"])


def failures(results: Results) -> pd.DataFrame:
    """Return every trial that did not finish: ``trial, arm, label, seed, status, error``, in the order of the plan."""
    unfinished = results.trials[results.trials["status"] != "finished"].copy()
    unfinished["label"] = unfinished["arm"].map(labels(results))
    columns = ["trial", "arm", "label", "seed", "status", "error"]
    return unfinished.reindex(columns=columns).reset_index(drop=True)


def require_split(results: Results, split: str) -> None:
    """Refuse a split that is unknown or that no finished trial has rows of.

    Raises:
        StudyError: with what is missing and how far the study got.
    """
    if split not in SPLITS:
        raise StudyError(f"unknown split '{split}' (known: {', '.join(SPLITS)})")
    column = f"{split}/joint_nll"
    finals = final_rows(results)
    if column not in finals.columns or finals.empty or not finals[column].notna().any():
        counts = results.trials["status"].value_counts()
        told = ", ".join(f"{counts[status]} {status}" for status in sorted(counts.index))
        raise StudyError(
            f"study '{results.study}' has no {split} rows to compare: no trial has reported {column} "
            f"({len(results.trials)} trials: {told or 'none planned'}){_remedy(results)}"
        )
    if results.control not in set(arm_ids(results)):
        raise StudyError(f"control '{results.control}' is not an arm of study '{results.study}'")


def _remedy(results: Results) -> str:
    """Say what can be done about a study without a result: go on, or mend what made its trials fail."""
    failed = results.trials[results.trials["status"] == "failed"]
    if len(failed):
        first = failed.iloc[0]
        again = f"when that is mended: study resume {results.study} --retry-failed"
        return f"; {first['trial']} failed ({shortened(str(first['error']), 200)}); {again}"
    waiting = results.trials["status"].isin(["pending", "interrupted"]).any()
    return f"; to go on: study resume {results.study}" if waiting else ""


def trajectories(results: Results, column: str, arm: str) -> pd.DataFrame:
    """Return a column of the epoch rows of one arm, one row per epoch and one column per seed."""
    chosen = arm_epochs(results, arm)
    if column not in chosen.columns:
        return pd.DataFrame(dtype=float)
    epochs, row = np.unique(chosen["epoch"].to_numpy(dtype=np.int64), return_inverse=True)
    seeds, place = np.unique(chosen["seed"].to_numpy(dtype=np.int64), return_inverse=True)
    values = np.full(
        (len(epochs), len(seeds)), np.nan
    )  # a tenth of the time of a pivot, which studies of many arms feel
    values[row, place] = chosen[column].to_numpy(dtype=float, na_value=np.nan)
    return pd.DataFrame(values, index=pd.Index(epochs, name="epoch"), columns=pd.Index(seeds, name="seed"))


def mean_trajectory(table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return epochs and the mean over the seeds that have a finite value in every epoch, shapes ``(E,), (E,)``.

    A seed that stopped early would bend the mean where it stops; NaN everywhere if no seed is complete.
    """
    epochs = table.index.to_numpy(dtype=float)
    values = table.to_numpy(dtype=float)
    complete = values[:, np.isfinite(values).all(axis=0)]
    return epochs, complete.mean(axis=1) if complete.size else np.full(epochs.shape, np.nan)
