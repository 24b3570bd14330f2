"""Two studies of the same task: what each arm gains or loses from one to the other, seed by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from strategies.errors import unknown
from study.analysis.differences import paired_difference
from study.analysis.results import Results
from study.analysis.statistics import holm
from study.analysis.summary import arm_ids, final_rows, labels, seed_values
from study.errors import StudyError

_COLUMNS = ["arm", "label", "first", "second", "difference", "low", "high", "num_seeds", "t_p", "t_holm_p"]


@dataclass(frozen=True)
class TwoStudies:
    """How the arms of a second study stand to those of a first.

    Attributes:
        first: name of the first study.
        second: name of the second.
        metric: what is compared, such as ``test/joint_nll``.
        table: one row per arm that both have: ``arm, label``, ``first`` and ``second`` (means over the common seeds),
            ``difference`` (second minus first, seed by seed) with its 95 % interval ``low, high``, ``num_seeds``, and
            ``t_p, t_holm_p`` of the paired t-test, Holm's correction over the arms.
        only_first: labels of arms that the second study lacks.
        only_second: labels of arms that the first study lacks.
        seeds: those that both studies have planned.
    """

    first: str
    second: str
    metric: str
    table: pd.DataFrame
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    seeds: tuple[int, ...]


def compare_studies(first: Results, second: Results, metric: str = "test/joint_nll") -> TwoStudies:
    """Compare the arms that two studies have in common on the seeds that they have in common.

    Trials of one seed share initialisation and data order across studies as they do across arms, as far as what else
    differs lets them: the differences are paired.

    Raises:
        StudyError: no seed or no arm in common, or no finished trial has the metric.
    """
    seeds = [seed for seed in first.seeds if seed in set(second.seeds)]
    if not seeds:
        raise StudyError(
            f"{first.study} (seeds {_listed(first.seeds)}) and {second.study} (seeds {_listed(second.seeds)}) have no "
            "seed in common: run one with the seeds of the other"
        )
    before, after = (_values(results, metric, seeds) for results in (first, second))
    common = [arm for arm in arm_ids(first) if arm in set(arm_ids(second))]
    if not common:
        raise StudyError(f"{first.study} and {second.study} have no arm in common")
    rows = [_row(arm, labels(first)[arm], before, after) for arm in common]
    table = pd.DataFrame(rows, columns=_COLUMNS[:-1])
    table["t_holm_p"] = _corrected(table["t_p"])
    return TwoStudies(
        first.study,
        second.study,
        metric,
        table,
        tuple(label for arm, label in labels(first).items() if arm not in common),
        tuple(label for arm, label in labels(second).items() if arm not in common),
        tuple(seeds),
    )


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds[:10])) + (", ..." if len(seeds) > 10 else "")


def _values(results: Results, metric: str, seeds: Sequence[int]) -> pd.DataFrame:
    finals = final_rows(results)
    known = [column for column in finals.columns if "/" in column and finals[column].notna().any()]
    if metric not in known:
        raise StudyError(f"{results.study}: {unknown('metric of a finished trial', metric, known)}")
    return seed_values(results, metric)[list(seeds)]


def _row(arm: str, label: str, before: pd.DataFrame, after: pd.DataFrame) -> list[Any]:
    """Return a row of the table; the means are over the seeds that the arm has in both studies."""
    pair = pd.DataFrame({"after": after.loc[arm], "before": before.loc[arm]}).T
    common = pair.dropna(axis=1)
    means = [
        float(common.loc[name].to_numpy().mean()) if len(common.columns) else np.nan for name in ("before", "after")
    ]
    difference = paired_difference(pair, "after", "before")
    ends = (difference.interval.low, difference.interval.high) if difference.interval else (np.nan, np.nan)
    mean, p = (np.nan if value is None else value for value in (difference.mean, difference.t_p))
    return [arm, label, *means, mean, *ends, len(difference.values), p]


def _corrected(p_values: pd.Series) -> pd.Series:
    values = p_values.to_numpy(dtype=float, copy=True)
    known = np.isfinite(values)
    values[known] = holm(values[known].tolist())
    return pd.Series(values, index=p_values.index)


def settings_that_differ(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return what is not the same in two nested mappings, as ``name: first -> second``.

    >>> settings_that_differ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}})
    ['a.b: 1 -> 3']
    """
    found = []
    for name in dict.fromkeys([*first, *second]):
        one, other = first.get(name), second.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += settings_that_differ(one, other, f"{prefix}{name}.")
        elif one != other:
            found.append(f"{prefix}{name}: {_shown(one)} -> {_shown(other)}")
    return found


def _shown(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
