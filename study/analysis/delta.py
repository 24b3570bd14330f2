"""What training the tasks together gains over training each alone, measured with the same seeds: Delta-m."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.analysis.resampling import mean_interval
from study.analysis.results import Results
from study.analysis.summary import HEADLINE, labels, roles, seed_values

SINGLE_TASK = "single_task"
"""Role of an arm that trains one task alone and whose network is chosen by that task's loss."""
SMALLEST = 0.05
"""A score below this is no base for a percentage: a concordance near zero would make any gain look boundless."""


@dataclass(frozen=True)
class Delta:
    """Gains over single tasks.

    Attributes:
        table: one row per arm compared: ``arm, label, num_seeds``, ``delta, low, high`` (percent, of the metric people
            read) and ``delta_nll, delta_nll/low, delta_nll/high`` (percent, of the losses); positive is better than
            alone. No rows where ``lacking`` names a task.
        baselines: task -> arm that trains it alone.
        lacking: tasks that no arm with results trains alone.
        by_joint: whether the networks of the baselines were chosen by the joint loss and not by their own, which
            flatters every other arm.
    """

    table: pd.DataFrame
    baselines: dict[str, str]
    lacking: tuple[str, ...]
    by_joint: bool


def delta(results: Results, split: str) -> Delta:
    r"""Return the mean relative gain of every arm over single-task networks of the same seed.

    :math:`\Delta_m = \frac{100}{T} \sum_i (-1)^{l_i} (M_i - S_i) / S_i` with the metric :math:`M_i` of the arm,
    :math:`S_i` of the network that trains task i alone with the same seed, and :math:`l_i = 1` where smaller is better;
    computed seed by seed, so that its interval holds what the baselines vary by as well.

    Reference:
        Maninis et al., "Attentive Single-Tasking of Multiple Tasks", 2019, eq. 4 (there against one published run).
        https://arxiv.org/abs/1904.08918
    """
    baselines = single_task_arms(results)
    found = {task: arm for task, arm in baselines.items() if _values(results, split, "nll", task, arm).any()}
    lacking = tuple(task for task in results.tasks if task not in found)
    by_joint = any(roles(results)[arm] != SINGLE_TASK for arm in found.values())
    rows = [] if lacking else [_row(results, split, arm, found) for arm in _compared(results)]
    return Delta(pd.DataFrame(rows, columns=_COLUMNS), found, lacking, by_joint)


_COLUMNS = ["arm", "label", "num_seeds", "delta", "low", "high", "delta_nll", "delta_nll/low", "delta_nll/high"]


def single_task_arms(results: Results) -> dict[str, str]:
    """Return task -> arm that trains it alone: one made for that, or else one with all its fixed weight on the task."""
    arms = results.arms.to_dict("records")
    of = {str(arm.get("of")): str(arm["arm"]) for arm in arms if arm.get("role") == SINGLE_TASK}
    for arm in arms:
        weights = arm["static_weights"]
        if isinstance(weights, tuple | list) and max(weights) == sum(weights) and len(weights) == len(results.tasks):
            of.setdefault(results.tasks[int(np.argmax(weights))], str(arm["arm"]))
    return {task: of[task] for task in results.tasks if task in of}


def _compared(results: Results) -> list[str]:
    return [arm for arm, role in roles(results).items() if not role]


def _row(results: Results, split: str, arm: str, baselines: dict[str, str]) -> list[object]:
    headline = _relative(results, split, arm, baselines, HEADLINE, sign=1)
    losses = _relative(results, split, arm, baselines, dict.fromkeys(HEADLINE, "nll"), sign=-1)
    return [arm, labels(results)[arm], int(np.isfinite(headline).sum()), *_summary(headline), *_summary(losses)]


def _relative(
    results: Results, split: str, arm: str, baselines: dict[str, str], metrics: dict[str, str], sign: int
) -> NDArray[np.float64]:
    """Return the gain in percent for every planned seed, ``(S,)``; NaN where one of the networks lacks."""
    gains = []
    for task, single in baselines.items():
        metric = metrics[results.task_kinds[task]]
        values = seed_values(results, f"{split}/{metric}/{task}")
        own, base = values.loc[arm].to_numpy(dtype=float), values.loc[single].to_numpy(dtype=float)
        base = np.where(base >= SMALLEST, base, np.nan)
        gains.append(sign * 100 * (own - base) / base)
    return np.asarray(np.mean(gains, axis=0))


def _summary(values: NDArray[np.float64]) -> list[float]:
    known = values[np.isfinite(values)]
    interval = mean_interval(known.tolist())
    if interval is None:
        return [float(known.mean()) if len(known) else np.nan, np.nan, np.nan]
    return [interval.mean, interval.low, interval.high]


def _values(results: Results, split: str, metric: str, task: str, arm: str) -> NDArray[np.bool_]:
    return seed_values(results, f"{split}/{metric}/{task}").loc[arm].notna().to_numpy()
