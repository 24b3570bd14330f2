"""Dividing a corpus by speaker. Pure functions of the table of utterances."""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strategies.errors import unknown
from trainables.errors import CorpusError
from trainables.tasks import Task

Indices = NDArray[np.int64]
GENDERS = ("female", "male")
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
    table: pd.DataFrame, *, ratios: Sequence[float] = (6, 2, 2), seed: int = 0, labels: Sequence[str] = ()
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
    return _as_split(table, _complete(table, labels, lambda draws: _deal(by_gender, ratios, draws), seed, len(PARTS)))


def k_fold(
    table: pd.DataFrame, *, num_folds: int = 5, fold: int = 0, seed: int = 0, labels: Sequence[str] = ()
) -> Split:
    """Divide the speakers into folds with both genders in each; test on one, validate on the next, train on the rest.

    Args:
        table: utterances.
        num_folds: number of folds, at least 3.
        fold: the fold to test on, from 0.
        seed: decides who is in which fold.
        labels: columns of which every class must be in every fold.

    Raises:
        CorpusError: it cannot be done; says what is lacking.
    """
    if num_folds < len(PARTS) or not 0 <= fold < num_folds:
        raise CorpusError(f"fold {fold} of {num_folds}: expected at least 3 folds and a fold from 0 to num_folds - 1")
    by_gender = _speakers_by_gender(table, num_folds)
    folds = _complete(table, labels, lambda draws: _deal_folds(by_gender, num_folds, draws), seed, num_folds)
    test, valid = f"fold {fold}", f"fold {(fold + 1) % num_folds}"
    train = [name for number, names in folds.items() if number not in (test, valid) for name in names]
    return _as_split(table, {"train": train, "valid": folds[valid], "test": folds[test]})


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
    try:
        return PROTOCOLS[protocol](table, **options)
    except (TypeError, ValueError) as mismatch:
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise CorpusError(f"split protocol '{protocol}' cannot be used with {given}: {mismatch}") from mismatch


def split_for_tasks(
    protocol: str, table: pd.DataFrame, tasks: Sequence[Task], options: Mapping[str, object] = MappingProxyType({})
) -> Split:
    """Divide a corpus so that every class of every task is in every part; the option ``labels`` asks for others.

    Raises:
        CorpusError: see ``make_split``.
    """
    labels = [task.name for task in tasks if task.kind == "classification"]
    return make_split(protocol, table, **{"labels": labels, **options})


def _speakers_by_gender(table: pd.DataFrame, at_least: int = len(PARTS)) -> dict[str, list[str]]:
    """Return gender -> speakers, checked to be enough for every part to have both genders; ``""`` are the unknown."""
    genders = table.groupby("speaker")["gender"]
    if (changing := genders.nunique() > 1).any():
        raise CorpusError(f"speaker {changing.index[changing][0]} has utterances of both genders")
    known = genders.first()
    if strange := sorted(set(known.dropna()) - set(GENDERS)):
        raise CorpusError(f"gender '{strange[0]}' is none of {', '.join(GENDERS)}")
    found = {gender: sorted(known.index[known == gender]) for gender in GENDERS}
    counts = ", ".join(f"{len(names)} {gender}" for gender, names in found.items())
    if min(map(len, found.values())) < at_least:
        raise CorpusError(
            f"a speaker-disjoint split with both genders in each of {at_least} parts needs {at_least} speakers of each "
            f"gender, but there are {counts}"
        )
    return found | {"": sorted(known.index[known.isna()])}


def _complete(
    table: pd.DataFrame,
    labels: Sequence[str],
    deal: Callable[[np.random.Generator], dict[str, list[str]]],
    seed: int,
    num_parts: int,
) -> dict[str, list[str]]:
    """Deal the speakers until every part has every class of each label."""
    spoken = {label: _classes_by_speaker(table, label) for label in _listed(labels)}
    _check_enough(spoken, num_parts)
    lacking = ""
    for attempt in range(_ATTEMPTS):
        parts = deal(np.random.default_rng([seed, attempt]))
        lacking = _lacking(spoken, parts)
        if not lacking:
            return parts
    raise CorpusError(f"no speaker-disjoint split has every class in every part: {lacking} (tried {_ATTEMPTS})")


def _deal(
    by_gender: Mapping[str, Sequence[str]], ratios: Sequence[float], draws: np.random.Generator
) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for gender, names in by_gender.items():
        shuffled = _shuffled(names, draws)
        start = 0
        for part, count in zip(PARTS, _counts(len(names), ratios, at_least=1 if gender else 0), strict=True):
            parts[part] += shuffled[start : start + count]
            start += count
    return parts


def _deal_folds(
    by_gender: Mapping[str, Sequence[str]], num_folds: int, draws: np.random.Generator
) -> dict[str, list[str]]:
    dealt = [_shuffled(names, draws) for names in by_gender.values()]
    return {
        f"fold {start}": [name for names in dealt for name in names[start::num_folds]] for start in range(num_folds)
    }


def _shuffled(names: Sequence[str], draws: np.random.Generator) -> list[str]:
    return list(draws.permutation(np.asarray(names, dtype=object)))


def _counts(total: int, ratios: Sequence[float], at_least: int) -> list[int]:
    """Return how many of ``total`` speakers each part gets: at least so many, the rest by largest remainder."""
    shares = [total * ratio / sum(ratios) for ratio in ratios]
    counts = [max(at_least, int(share)) for share in shares]
    while sum(counts) < total:
        remainders = [share - count for share, count in zip(shares, counts, strict=True)]
        counts[remainders.index(max(remainders))] += 1
    while sum(counts) > total:
        counts[counts.index(max(counts))] -= 1
    return counts


def _listed(labels: Sequence[str]) -> Sequence[str]:
    return [labels] if isinstance(labels, str) else labels


def _classes_by_speaker(table: pd.DataFrame, label: str) -> dict[str, set[str]]:
    """Return speaker -> the classes of a label that they speak."""
    if label not in table:
        raise CorpusError(unknown("label of the split", label, map(str, table)))
    classes: dict[str, set[str]] = {}
    for speaker, name in table[["speaker", label]].dropna().drop_duplicates().itertuples(index=False, name=None):
        classes.setdefault(speaker, set()).add(name)
    return classes


def _check_enough(spoken: Mapping[str, Mapping[str, set[str]]], num_parts: int) -> None:
    """Refuse a class that too few speakers have for any split."""
    for label, by_speaker in spoken.items():
        for name, count in sorted(Counter(name for names in by_speaker.values() for name in names).items()):
            if count < num_parts:
                raise CorpusError(
                    f"{label} '{name}' is spoken by {count} of the speakers: a speaker-disjoint split into {num_parts} "
                    f"parts that all have it needs {num_parts}"
                )


def _lacking(spoken: Mapping[str, Mapping[str, set[str]]], parts: Mapping[str, Sequence[str]]) -> str:
    """Return what a part lacks in words, or an empty string."""
    for label, by_speaker in spoken.items():
        classes = set().union(*by_speaker.values())
        for part, speakers in parts.items():
            if missing := classes - set().union(*(by_speaker.get(speaker, set()) for speaker in speakers)):
                return f"{part} has no {label} {', '.join(sorted(missing))}"
    return ""


def _as_split(table: pd.DataFrame, parts: Mapping[str, Sequence[str]]) -> Split:
    indices = {part: np.flatnonzero(table["speaker"].isin(parts[part]).to_numpy()) for part in PARTS}
    return Split(**{part: index.astype(np.int64) for part, index in indices.items()})
