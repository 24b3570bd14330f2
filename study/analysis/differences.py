"""Differences between arms, seed by seed: all arms share their seeds, so what a seed does to both cancels out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.analysis.effects import Share, hedges_g, improvement
from study.analysis.resampling import mean_interval
from study.analysis.statistics import Interval, holm, smallest_p, t_test_p, wilcoxon_p


@dataclass(frozen=True)
class PairedDifference:
    """One arm minus another on the seeds both have.

    Attributes:
        arm: the arm.
        other: what it is compared with.
        values: common seed -> difference ``arm - other``; negative is better for a loss.
        missing: planned seeds that one of the two lacks.
        mean: mean difference; None without a common seed.
        interval: 95 % interval of the mean difference, see ``resampling.mean_interval``; None for fewer than 2 common
            seeds.
        p: exact two-sided Wilcoxon signed-rank p; None for fewer than 2 common seeds.
        t_p: two-sided p of the paired t-test; None for fewer than 2 common seeds.
        smallest_p: the smallest Wilcoxon p that many common seeds can reach.
        effect: Hedges' g of the differences; None for fewer than 2 common seeds.
        improvement: share of the common seeds in which the arm is lower; None without any.
    """

    arm: str
    other: str
    values: dict[int, float]
    missing: tuple[int, ...]
    mean: float | None
    interval: Interval | None
    p: float | None
    t_p: float | None
    smallest_p: float
    effect: float | None = None
    improvement: Share | None = None


def paired_difference(values: pd.DataFrame, arm: str, other: str) -> PairedDifference:
    """Compare two arms on their common seeds.

    Args:
        values: one row per arm, one column per seed, NaN where missing (see ``summary.seed_values``).
        arm: row that is compared.
        other: row it is compared with.
    """
    numbers_of = values.loc[arm].to_numpy(dtype=float) - values.loc[other].to_numpy(dtype=float)
    pairs = zip(values.columns, numbers_of, strict=True)
    common = {int(str(seed)): float(value) for seed, value in pairs if np.isfinite(value)}
    missing = tuple(int(str(seed)) for seed in values.columns if int(str(seed)) not in common)
    numbers = list(common.values())
    return PairedDifference(
        arm,
        other,
        common,
        missing,
        float(np.mean(numbers)) if numbers else None,
        mean_interval(numbers),
        wilcoxon_p(numbers),
        t_test_p(numbers),
        smallest_p(len(numbers)),
        hedges_g(numbers),
        improvement(numbers),
    )


def differences(values: pd.DataFrame, arms: Sequence[str], other: str, tested: Sequence[str]) -> pd.DataFrame:
    """Return the paired difference of each arm to ``other``, one row per arm.

    Holm's correction runs over ``tested`` only; the p-values of the remaining arms are left as they are and must not
    be read as tests.

    Returns:
        Columns ``arm, other, num_seeds, seeds, missing, mean, low, high, deviation`` (of the differences), ``p, holm_p,
        t_p, t_holm_p, smallest_p, hedges_g, improved`` (share of seeds in which the arm is lower), ``improved/low,
        improved/high``.
    """
    pairs = [paired_difference(values, arm, other) for arm in arms]
    table = pd.DataFrame([_row(pair) for pair in pairs], columns=_COLUMNS)
    for plain, adjusted in (("p", "holm_p"), ("t_p", "t_holm_p")):
        testable = table["arm"].isin(list(tested)) & table[plain].notna()
        table[adjusted] = np.nan
        table.loc[testable, adjusted] = holm(table.loc[testable, plain].tolist())
    return table


_COLUMNS = [
    *["arm", "other", "num_seeds", "seeds", "missing", "mean", "low", "high", "deviation"],
    *["p", "holm_p", "t_p", "t_holm_p", "smallest_p", "hedges_g", "improved", "improved/low", "improved/high"],
]


def _row(pair: PairedDifference) -> dict[str, object]:
    def number(value: float | None) -> float:
        return np.nan if value is None else value

    share = pair.improvement
    return {
        "arm": pair.arm,
        "other": pair.other,
        "num_seeds": len(pair.values),
        "seeds": " ".join(str(seed) for seed in pair.values),
        "missing": " ".join(str(seed) for seed in pair.missing),
        "mean": number(pair.mean),
        "low": number(pair.interval.low if pair.interval else None),
        "high": number(pair.interval.high if pair.interval else None),
        "deviation": float(np.std(list(pair.values.values()), ddof=1)) if len(pair.values) > 1 else np.nan,
        "p": number(pair.p),
        "t_p": number(pair.t_p),
        "smallest_p": pair.smallest_p,
        "hedges_g": number(pair.effect),
        "improved": number(share.value if share else None),
        "improved/low": number(share.low if share else None),
        "improved/high": number(share.high if share else None),
    }
