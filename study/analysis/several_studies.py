"""Studies of the same methods on several corpora: where each method stands on all of them together.

A corpus is one block: the mean over its seeds is its one number for a method (Demšar 2006, section 3). Seeds of a
corpus are no blocks; what a corpus shows by itself is in the report of its study.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from strategies.errors import unknown
from study.analysis.front import static_reference
from study.analysis.ranks import CriticalDifference, Friedman, critical_difference, friedman, nemenyi_distance
from study.analysis.results import Results
from study.analysis.statistics import holm, wilcoxon_p
from study.analysis.summary import final_rows, grid_arms, labels, require_split, roles, seed_values, single_arms
from study.errors import StudyError

LEAST = 3
"""Corpora below which there is nothing to rank over."""
GRID = "static grid"
"""What the grid is called as the one method it is, by its arm that validation chose on each corpus."""
_SMALLER = ("nll", "joint_nll", "mse")
"""Metrics of which less is better; of all others more is."""


@dataclass(frozen=True)
class SeveralStudies:
    """How methods stand over corpora.

    Attributes:
        metric: what is compared, such as ``test/joint_nll``.
        studies: their names.
        corpora: what each block is called: the corpus, with the study where two corpora have one name.
        control: label of the control.
        num_seeds: seeds that went into the mean of each corpus: those that all its methods have.
        grid: label of the arm that stands for the static grid on each corpus; empty without a grid.
        table: one row per method, best mean rank first: ``method, rank`` (mean over corpora), ``value/{corpus}`` (mean
            over seeds), ``rank/{corpus}``, ``better`` (corpora on which it beats the control), ``p, holm_p`` (exact
            Wilcoxon against the control over corpora, Holm's correction over all other methods).
        friedman: whether any method differs.
        nemenyi: Nemenyi's critical difference in mean ranks, for readers of other papers; nothing rests on it.
        diagram: mean ranks and what cannot be told apart.
    """

    metric: str
    studies: tuple[str, ...]
    corpora: tuple[str, ...]
    control: str
    num_seeds: tuple[int, ...]
    grid: tuple[str, ...]
    table: pd.DataFrame
    friedman: Friedman
    nemenyi: float
    diagram: CriticalDifference


def rank_studies(studies: Sequence[Results], corpora: Sequence[str], metric: str = "test/joint_nll") -> SeveralStudies:
    """Rank the methods of studies that were run on a corpus each.

    Methods are the control, every arm with moving weights or a network of its own, and the static grid as one, by its
    arm best on validation. Arms that judge others are left out.

    Args:
        studies: at least ``LEAST`` of them.
        corpora: what each is called, all different.
        metric: column of the final rows; not a loss at a strategy's own weights.

    Raises:
        StudyError: too few studies, other methods or another control in one of them, or no finished trial has the
            metric.
    """
    if len(studies) < LEAST:
        raise StudyError(f"methods are ranked over {LEAST} corpora or more, got {len(studies)}")
    for results in studies:
        require_split(results, "test")
    _refuse_other_methods(studies)
    found = [_values(results, metric) for results in studies]
    values = pd.DataFrame({corpus: means for corpus, (means, _) in zip(corpora, found, strict=True)})
    control = labels(studies[0])[studies[0].control]
    losses = values if metric.split("/")[1] in _SMALLER else -values
    diagram = critical_difference(losses, "corpora")
    return SeveralStudies(
        metric,
        tuple(results.study for results in studies),
        tuple(corpora),
        control,
        tuple(count for _, count in found),
        tuple(arm for results in studies if (arm := _grid_label(results)) is not None),
        _table(values, losses, diagram.ranks, control),
        friedman(losses),
        nemenyi_distance(len(losses), len(corpora)),
        diagram,
    )


def methods(results: Results) -> dict[str, str]:
    """Return label -> arm of the methods of a study, the control first, the static grid last."""
    names, best = labels(results), _grid_arm(results)
    arms = dict.fromkeys([results.control, *single_arms(results)])
    found = {names[arm]: arm for arm in arms if not roles(results)[arm]}
    return found | ({GRID: best} if best is not None else {})


def _grid_arm(results: Results) -> str | None:
    """Return the arm that stands for the grid; None where the grid is no more than the control."""
    if set(grid_arms(results)) <= {results.control}:
        return None
    static = static_reference(results, "test")
    return None if static is None else static.best


def _grid_label(results: Results) -> str | None:
    arm = _grid_arm(results)
    return None if arm is None else labels(results)[arm]


def _refuse_other_methods(studies: Sequence[Results]) -> None:
    first, known = studies[0], methods(studies[0])
    for other in studies[1:]:
        theirs = methods(other)
        told = [
            f"{here.study} lacks {', '.join(lacking)}"
            for here, has, others in ((first, known, theirs), (other, theirs, known))
            if (lacking := [name for name in others if name not in has])
        ]
        if told:
            raise StudyError(
                f"{first.study} and {other.study} cannot be ranked together, as ranks depend on who is ranked: "
                f"{'; '.join(told)}; run the same arms on every corpus"
            )
        if first.control != other.control:
            raise StudyError(
                f"{first.study} and {other.study} have different controls, {first.control} and {other.control}: run "
                "them with the same one"
            )


def _values(results: Results, metric: str) -> tuple[pd.Series, int]:
    """Return the mean of every method over the seeds that all of them have, and how many these are."""
    finals = final_rows(results)
    known = [column for column in finals.columns if _can_rank(column) and finals[column].notna().any()]
    if metric not in known:
        raise StudyError(f"{results.study}: {unknown('metric that methods can be ranked by', metric, known)}")
    arms = methods(results)
    values = seed_values(results, metric).loc[list(arms.values())]
    complete = values.dropna(axis=1)
    if not len(complete.columns):
        lacking = [label for label, arm in arms.items() if values.loc[arm].isna().any()]
        raise StudyError(
            f"{results.study} has no seed with a finite {metric} of every method (seeds are missing of "
            f"{', '.join(lacking)}): see study show {results.study}"
        )
    return pd.Series(complete.to_numpy(dtype=float).mean(axis=1), index=list(arms)), len(complete.columns)


def _can_rank(column: str) -> bool:
    """Whether a column is a score of test or validation that does not depend on a strategy's own weights."""
    return column.startswith(("test/", "valid/")) and "weighted_nll" not in column


def _table(values: pd.DataFrame, losses: pd.DataFrame, ranks: pd.Series, control: str) -> pd.DataFrame:
    table = pd.DataFrame({"method": ranks.index, "rank": ranks.to_numpy()})
    by_corpus = losses.rank(axis=0, method="average")
    for corpus in values.columns:
        table[f"value/{corpus}"] = values.loc[ranks.index, corpus].to_numpy()
        table[f"rank/{corpus}"] = by_corpus.loc[ranks.index, corpus].to_numpy()
    differences = losses.loc[ranks.index].sub(losses.loc[control], axis=1)
    table["better"] = (differences.to_numpy() < 0).sum(axis=1)
    others = [str(name) for name in ranks.index if name != control]
    found = [wilcoxon_p([float(one) for one in differences.loc[name].to_numpy()]) for name in others]
    plain = dict(zip(others, (np.nan if p is None else p for p in found), strict=True))
    corrected = dict(zip(others, holm(list(plain.values())), strict=True))
    table["p"] = [plain.get(str(name), np.nan) for name in ranks.index]
    table["holm_p"] = [corrected.get(str(name), np.nan) for name in ranks.index]
    return table
