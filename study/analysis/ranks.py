"""Ranks of the methods: told, but never what a verdict rests on, as they depend on who else is compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

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
