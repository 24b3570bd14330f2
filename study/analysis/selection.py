"""What choosing by validation costs, and what so few seeds can miss."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from study.analysis.diagnosis import Finding
from study.analysis.differences import paired_difference
from study.analysis.effects import POWER, detectable, power
from study.analysis.resampling import mean_interval
from study.analysis.results import Results
from study.analysis.statistics import ALPHA, seeds_needed, smallest_p
from study.analysis.summary import labels, planned_seeds, roles, seed_values

NOTABLE_GAP = 0.05
"""Share of the validation loss by which the test loss must differ, on average over arms, to be told of."""
_MOST_SEEDS = 1_000


def choices(results: Results, split: str) -> list[Finding]:
    """Say where the arm that is best on validation stands on the test split, if it is not best there too."""
    arms = [arm for arm, role in roles(results).items() if not role]
    chosen_by, judged_by = (seed_values(results, f"{part}/joint_nll").loc[arms] for part in ("valid", split))
    both = chosen_by.notna() & judged_by.notna()
    means = pd.DataFrame({"valid": chosen_by[both].mean(axis=1), "judged": judged_by[both].mean(axis=1)}).dropna()
    if split == "valid" or len(means) < 2:
        return []
    chosen, best = str(means["valid"].idxmin()), str(means["judged"].idxmin())
    if chosen == best:
        return []
    names, pair = labels(results), paired_difference(judged_by, chosen, best)
    rank = int(means["judged"].rank(method="min")[chosen])
    interval = f" ({pair.interval.low:+.3f} to {pair.interval.high:+.3f})" if pair.interval else ""
    cost = (
        "" if pair.mean is None else f"; choosing by validation costs {pair.mean:+.3f}{interval} against {names[best]}"
    )
    text = (
        f"{names[chosen]} is best on validation (joint NLL {float(means['valid'][chosen]):.3f}) and number {rank} of "
        f"{len(means)} on the {split} split ({float(means['judged'][chosen]):.3f}){cost}, which only that split shows."
    )
    return [Finding("choice", text, (chosen, best))]


def gaps(results: Results, split: str) -> list[Finding]:
    """Say that the losses of validation and test differ notably, for the arms on average."""
    if split == "valid":
        return []
    valid = seed_values(results, "valid/joint_nll")
    gap = (seed_values(results, f"{split}/joint_nll") - valid).mean(axis=0).dropna()
    interval = mean_interval(gap.tolist())
    level = float(valid[gap.index].to_numpy()[np.isfinite(valid[gap.index])].mean()) if len(gap) else math.nan
    if interval is None or interval.contains(0.0) or abs(interval.mean) < NOTABLE_GAP * level:
        return []
    text = (
        f"The joint NLL on the {split} split is {abs(interval.mean):.3f} {'above' if interval.mean > 0 else 'below'} "
        f"that on validation ({interval.mean / level:+.0%}; interval {interval.low:+.3f} to {interval.high:+.3f} over "
        "seeds), mean over all arms: networks are chosen on validation, and its speakers are others."
    )
    return [Finding("gap", text)]


def reachable(results: Results, tested: Sequence[str]) -> list[Finding]:
    """Say what an exact test cannot reach with so many seeds, whatever the rows show."""
    seeds, tests = len(planned_seeds(results)), max(len(tested), 1)
    if seeds < 2:
        return [Finding("power", "One seed gives no interval and no test: the differences below may all be noise.")]
    p = smallest_p(seeds)
    if p * tests <= ALPHA:
        return []
    corrected = f" ({min(1.0, p * tests):.4g} after Holm over {tests} tests)" if tests > 1 else ""
    text = (
        f"{seeds} seeds: the exact Wilcoxon test cannot give a two-sided p below {p:.4g}{corrected}, so it cannot "
        f"reach {ALPHA:g}; that takes {seeds_needed(tests)} seeds. Read the intervals."
    )
    return [Finding("power", text)]


def underpowered(against: pd.DataFrame, tested: Sequence[str], control: str) -> list[Finding]:
    """Say how large a difference to the control may have been missed, where some arms are not clearly different.

    Args:
        against: paired differences to the control, see ``differences.differences``.
        tested: arms in the family of tests.
        control: label of the control.
    """
    rows = against[against["arm"].isin(list(tested)) & (against["deviation"] > 0)]
    unclear = rows[rows["t_holm_p"] > ALPHA]
    if unclear.empty:
        return []
    alpha, deviation = ALPHA / len(tested), float(rows["deviation"].median())
    seeds = int(unclear["num_seeds"].median())
    smallest = detectable(seeds, alpha) * deviation
    widest = unclear.iloc[int(unclear["mean"].abs().to_numpy().argmax())]
    needed = seeds_for(abs(widest["mean"]) / widest["deviation"], alpha)
    more = f"about {needed} seeds" if needed <= _MOST_SEEDS else f"more than {_MOST_SEEDS} seeds"
    text = (
        f"{seeds} seeds whose differences to {control} vary by {deviation:.3f} (standard deviation, median over the "
        f"tested arms) find a true difference of {smallest:.3f} four times out of five; smaller ones are often missed. "
        f"To confirm the largest of those left unclear, {widest['mean']:+.3f}, would take {more} if it is true."
    )
    return [Finding("underpowered", text, tuple(str(arm) for arm in unclear["arm"]))]


def seeds_for(effect: float, alpha: float = ALPHA) -> int:
    """Return how many seeds find a mean difference, in standard deviations, four times out of five.

    >>> seeds_for(1.0)
    10

    One more than ``_MOST_SEEDS`` where not even those do.
    """
    low, high = 1, _MOST_SEEDS + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power(effect, middle, alpha) < POWER else (low, middle)
    return high
