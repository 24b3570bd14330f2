"""Ranks of the methods: told, but never what a verdict rests on, as they depend on who else is compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from study.analysis.results import Results
from study.analysis.statistics import ALPHA, holm, wilcoxon_p
from study.analysis.summary import HEADLINE, labels, seed_values
from study.errors import StudyError

WARNING = (
    "A mean rank depends on which other arms are compared: leaving one out may turn two others round. Read the paired "
    "differences; the ranks only sum them up."
)
"""What is said beside every mean rank (Benavoli et al. 2016)."""


@dataclass(frozen=True)
class CriticalDifference:
    """What a critical-difference diagram shows.

    Attributes:
        ranks: method -> mean rank over the blocks, best first; 1 is best.
        p_values: p of every pair, exact Wilcoxon over the blocks with Holm's correction over all pairs.
        groups: largest sets of methods, neighbours in rank, of which no pair differs: the bars of the diagram.
        num_blocks: blocks with a value of every method.
        blocks: what a block is: ``"corpora"``, or ``"seeds of one corpus"``, which must be said beside the diagram.
    """

    ranks: pd.Series
    p_values: pd.DataFrame
    groups: tuple[tuple[str, ...], ...]
    num_blocks: int
    blocks: str


def rank_table(results: Results, split: str, arms: Sequence[str]) -> pd.DataFrame:
    """Return the mean rank of arms over the seeds that all of them have, by every metric people read.

    Returns:
        Columns ``arm, label, num_seeds, joint_nll`` and ``{headline}/{task}``: mean ranks, 1 is best, ties shared.
    """
    table = pd.DataFrame({"arm": list(arms), "label": [labels(results)[arm] for arm in arms]})
    table["num_seeds"] = 0
    metrics = [("joint_nll", 1)] + [(f"{HEADLINE[results.task_kinds[task]]}/{task}", -1) for task in results.tasks]
    for name, sign in metrics:
        values = sign * seed_values(results, f"{split}/{name}").loc[list(arms)].dropna(axis=1)
        table[name] = mean_ranks(values).to_numpy() if len(values.columns) else np.nan
        if name == "joint_nll":
            table["num_seeds"] = len(values.columns)
    return table


def mean_ranks(values: pd.DataFrame) -> pd.Series:
    """Return the mean rank of each row over the columns, smaller values first, ties shared.

    >>> mean_ranks(pd.DataFrame({"a": [1.0, 2.0, 2.0], "b": [3.0, 1.0, 2.0]})).tolist()
    [2.0, 1.75, 2.25]
    """
    return values.rank(axis=0, method="average").mean(axis=1)


@dataclass(frozen=True)
class Friedman:
    """Whether any of several methods is placed otherwise than by chance over the blocks.

    Attributes:
        statistic: Friedman's chi-square, corrected for ties.
        freedom: its degrees of freedom, k - 1 for k methods.
        p: from chi-square, which is close for more than about 10 blocks and 5 methods.
        f: Iman and Davenport's F; infinite where all blocks agree in full.
        f_freedom: its degrees of freedom, k - 1 and (k - 1)(N - 1).
        f_p: from F.
        shuffled_p: share of random orders within the blocks that place the methods as far apart, good for few blocks.
    """

    statistic: float
    freedom: int
    p: float
    f: float
    f_freedom: tuple[int, int]
    f_p: float
    shuffled_p: float


_SHUFFLES = 20_000
"""Random orders; a p of .05 is then off by .0015 (its standard error)."""


def friedman(values: pd.DataFrame) -> Friedman:
    r"""Test whether methods differ at all, by their ranks within blocks.

    .. math:: \chi^2 = \frac{12 N}{k(k+1)} \Big[\sum_j \bar R_j^2 - \frac{k(k+1)^2}{4}\Big] \Big/ c,
        \qquad F = \frac{(N - 1)\chi^2}{N(k - 1) - \chi^2}

    with :math:`c = 1 - \sum (t^3 - t) / (N k (k^2 - 1))` over groups of t ties.

    Args:
        values: a loss, one row per method (k) and one column per block (N), all finite.

    Raises:
        StudyError: fewer than 2 methods or blocks, or a value that is missing.

    Reference:
        Friedman, "The use of ranks to avoid the assumption of normality", JASA 32, 1937.
        https://doi.org/10.2307/2279372; Iman and Davenport, "Approximations of the critical region of the Friedman
        statistic", Communications in Statistics A 9, 1980. https://doi.org/10.1080/03610928008827904
    """
    ranks = values.rank(axis=0, method="average").to_numpy().T
    num_blocks, num_methods = ranks.shape
    if num_blocks < 2 or num_methods < 2 or np.isnan(ranks).any():
        raise StudyError(
            f"Friedman's test needs 2 methods and 2 blocks without gaps, got {num_methods} methods and {num_blocks}"
        )
    spread = ((ranks.mean(axis=0) - (num_methods + 1) / 2) ** 2).sum()
    variance = ranks.var(axis=1, ddof=1).mean()  # k(k+1)/12 less what ties take from it
    if variance == 0:
        return Friedman(0.0, num_methods - 1, 1.0, 0.0, (num_methods - 1, 1), 1.0, 1.0)
    statistic, freedom = float(num_blocks * spread / variance), num_methods - 1
    of_f = (freedom, freedom * (num_blocks - 1))
    left = num_blocks * freedom - statistic
    f = (num_blocks - 1) * statistic / left if left > _ROUNDING else np.inf
    f_p = float(special.fdtrc(*of_f, f)) if np.isfinite(f) else 0.0
    p = float(special.chdtrc(freedom, statistic))
    return Friedman(statistic, freedom, p, float(f), of_f, f_p, _shuffled_p(ranks, spread))


_ROUNDING = 1e-9


def _shuffled_p(ranks: NDArray[np.float64], spread: float) -> float:
    """Return the share of random orders within the blocks, the given one among them, with at least that spread."""
    generator, found = np.random.default_rng(0), 1
    for _ in range(_SHUFFLES // 1000):  # a thousand at a time: memory stays small for many methods
        drawn = generator.permuted(np.broadcast_to(ranks, (1000, *ranks.shape)), axis=2).mean(axis=1)
        found += int((((drawn - (ranks.shape[1] + 1) / 2) ** 2).sum(axis=1) >= spread - _ROUNDING).sum())
    return found / (_SHUFFLES + 1)


def nemenyi_distance(num_methods: int, num_blocks: int, alpha: float = ALPHA) -> float:
    r"""Return Nemenyi's critical difference of mean ranks, :math:`q_\alpha \sqrt{k(k+1) / 6N}`.

    >>> round(nemenyi_distance(4, 14), 2)
    1.25

    Reference:
        Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006, section 3.2.2 and
        table 5. https://jmlr.org/papers/v7/demsar06a.html
    """
    from scipy.stats import studentized_range

    critical = float(studentized_range.ppf(1 - alpha, num_methods, np.inf)) / np.sqrt(2)
    return float(critical * np.sqrt(num_methods * (num_methods + 1) / (6 * num_blocks)))


def critical_difference(values: pd.DataFrame, blocks: str, alpha: float = ALPHA) -> CriticalDifference:
    """Return mean ranks and which methods cannot be told apart.

    Pairs are compared by themselves, not by the distance of their mean ranks, which moves with the pool.

    Args:
        values: a loss, one row per method and one column per block (a corpus); blocks that lack a method are left out.
        blocks: what a block is, such as ``"corpora"``.
        alpha: error rate over all pairs together.

    Raises:
        StudyError: fewer than 2 methods or 2 complete blocks.

    Reference:
        Benavoli et al., "Should We Really Use Post-Hoc Tests Based on Mean-Ranks?", JMLR 17(5), 2016.
        https://jmlr.org/papers/v17/benavoli16a.html
        Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006 (the diagram).
        https://jmlr.org/papers/v7/demsar06a.html
    """
    complete = values.dropna(axis=1)
    if len(complete) < 2 or len(complete.columns) < 2:
        raise StudyError(
            f"a critical-difference diagram needs 2 methods and 2 {blocks} that have all of them, got {len(complete)} "
            f"and {len(complete.columns)}"
        )
    ranks = mean_ranks(complete).sort_values(kind="stable")
    pairs = list(combinations(ranks.index, 2))
    found = [wilcoxon_p((complete.loc[a] - complete.loc[b]).tolist()) for a, b in pairs]
    table = pd.DataFrame(1.0, index=ranks.index, columns=ranks.index)
    for (first, second), p in zip(pairs, holm([p for p in found if p is not None]), strict=True):
        table.loc[first, second] = table.loc[second, first] = p
    return CriticalDifference(ranks, table, _groups(table, alpha), len(complete.columns), blocks)


def _groups(p_values: pd.DataFrame, alpha: float) -> tuple[tuple[str, ...], ...]:
    """Return the largest runs of methods, in order of rank, of which every pair has a p above alpha."""
    names, alike = [str(name) for name in p_values.index], p_values.to_numpy() > alpha
    ends = [
        max(end for end in range(start + 1, len(names) + 1) if alike[start:end, start:end].all())
        for start in range(len(names))
    ]
    runs = [(start, end) for start, end in enumerate(ends) if end - start > 1]
    largest = [run for index, run in enumerate(runs) if not index or run[1] > runs[index - 1][1]]
    return tuple(tuple(names[start:end]) for start, end in largest)
