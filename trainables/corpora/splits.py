"""Dividing a corpus by speaker. Pure functions of the table of utterances."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strategies.errors import unknown
from trainables.errors import CorpusError

Indices = NDArray[np.int64]
PARTS = ("train", "valid", "test")
_ATTEMPTS = 1000
"""Shuffles tried until every class is in every part; corpora that are balanced by speaker need one."""


@dataclass(frozen=True)
class Split:
    """Row numbers of the utterances to train on, to select on, and to test on."""

    train: Indices
    valid: Indices
    test: Indices


def speaker_disjoint(
    table: pd.DataFrame, *, ratios: Sequence[float] = (6, 2, 2), seed: int = 0, labels: Sequence[str] = ("emotion",)
) -> Split:
    """Divide the speakers into three parts, each with both genders in equal proportion and every class of each label.

    Args:
        table: utterances, see ``trainables.corpora.COLUMNS``.
        ratios: relative numbers of speakers to train, validate and test on; 6:2:2 as in Chae et al. 2018.
        seed: decides who goes where.
        labels: columns of which every class must be in every part.

    Raises:
        CorpusError: it cannot be done; says what is lacking.
    """
    if len(ratios) != len(PARTS) or min(ratios) <= 0:
        raise CorpusError(f"ratios are {list(ratios)}: expected three positive numbers, such as [6, 2, 2]")
    by_gender = _speakers_by_gender(table)
    lacking = ""
    for attempt in range(_ATTEMPTS):
        parts = _deal(by_gender, ratios, np.random.default_rng([seed, attempt]))
        lacking = _lacking(table, parts, labels)
        if not lacking:
            return _as_split(table, parts)
    raise CorpusError(f"no speaker-disjoint split has every class in every part: {lacking} (tried {_ATTEMPTS})")


def k_fold(
    table: pd.DataFrame, *, num_folds: int = 5, fold: int = 0, seed: int = 0, labels: Sequence[str] = ("emotion",)
) -> Split:
    """Divide the speakers into folds with both genders in each; test on one, validate on the next, train on the rest.

    Args:
        table: utterances.
        num_folds: number of folds, at least 3.
        fold: the fold to test on, from 0.
        seed: decides who is in which fold.
        labels: columns of which every class must be in every part.

    Raises:
        CorpusError: it cannot be done; says what is lacking.
    """
    if num_folds < len(PARTS) or not 0 <= fold < num_folds:
        raise CorpusError(f"fold {fold} of {num_folds}: expected at least 3 folds and a fold from 0 to num_folds - 1")
    by_gender = _speakers_by_gender(table, num_folds)
    draws = np.random.default_rng(seed)
    dealt = [[str(name) for name in draws.permutation(names)] for names in by_gender.values()]
    folds = [[name for names in dealt for name in names[start::num_folds]] for start in range(num_folds)]
    valid = (fold + 1) % num_folds
    train = [name for number, names in enumerate(folds) if number not in (fold, valid) for name in names]
    parts = {"train": train, "valid": folds[valid], "test": folds[fold]}
    if lacking := _lacking(table, parts, labels):
        raise CorpusError(f"fold {fold} of {num_folds}: {lacking}")
    return _as_split(table, parts)


PROTOCOLS: Mapping[str, Callable[..., Split]] = MappingProxyType(
    {"speaker_disjoint": speaker_disjoint, "k_fold": k_fold}
)
"""The ways to divide a corpus, by name."""


def make_split(protocol: str, table: pd.DataFrame, **options: object) -> Split:
    """Divide a corpus by the protocol of that name.

    Raises:
        CorpusError: unknown protocol or option, or the corpus cannot be divided so.
    """
    if protocol not in PROTOCOLS:
        raise CorpusError(unknown("split protocol", protocol, PROTOCOLS))
    known = [name for name in inspect.signature(PROTOCOLS[protocol]).parameters if name != "table"]
    for name in options:
        if name not in known:
            raise CorpusError(unknown(f"option of split protocol '{protocol}'", name, known))
    return PROTOCOLS[protocol](table, **options)


def _speakers_by_gender(table: pd.DataFrame, at_least: int = len(PARTS)) -> dict[str, list[str]]:
    """Return gender -> speakers, checked to be enough for every part to have both genders."""
    genders = table.groupby("speaker")["gender"]
    if (changing := genders.nunique() > 1).any():
        raise CorpusError(f"speaker {changing.index[changing][0]} has utterances of both genders")
    known = genders.first().dropna()
    found = {gender: sorted(known.index[known == gender]) for gender in ("female", "male")}
    counts = ", ".join(f"{len(names)} {gender}" for gender, names in found.items())
    if min(map(len, found.values())) < at_least:
        raise CorpusError(
            f"a speaker-disjoint split with both genders in each of {at_least} parts needs {at_least} speakers of each "
            f"gender, but there are {counts}"
        )
    return found


def _deal(
    by_gender: Mapping[str, Sequence[str]], ratios: Sequence[float], draws: np.random.Generator
) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for names in by_gender.values():
        shuffled = [str(name) for name in draws.permutation(np.asarray(names, dtype=object))]
        start = 0
        for part, count in zip(PARTS, _counts(len(names), ratios), strict=True):
            parts[part] += shuffled[start : start + count]
            start += count
    return parts


def _counts(total: int, ratios: Sequence[float]) -> list[int]:
    """Return how many of ``total`` speakers each part gets: at least one, the rest by largest remainder."""
    shares = [total * ratio / sum(ratios) for ratio in ratios]
    counts = [max(1, int(share)) for share in shares]
    while sum(counts) < total:
        remainders = [share - count for share, count in zip(shares, counts, strict=True)]
        counts[remainders.index(max(remainders))] += 1
    while sum(counts) > total:
        counts[counts.index(max(counts))] -= 1
    return counts


def _lacking(table: pd.DataFrame, parts: Mapping[str, Sequence[str]], labels: Sequence[str]) -> str:
    """Return what a part lacks in words, or an empty string."""
    for label in labels:
        if label not in table:
            raise CorpusError(unknown("label of the split", label, list(table)))
        classes = set(table[label].dropna())
        for part, speakers in parts.items():
            missing = classes - set(table.loc[table["speaker"].isin(speakers), label].dropna())
            if missing:
                return f"{part} has no {label} {', '.join(sorted(missing))}"
    return ""


def _as_split(table: pd.DataFrame, parts: Mapping[str, Sequence[str]]) -> Split:
    indices = {part: np.flatnonzero(table["speaker"].isin(parts[part]).to_numpy()) for part in PARTS}
    return Split(**{part: index.astype(np.int64) for part, index in indices.items()})
