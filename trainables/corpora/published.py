"""Splits as others published them; those whose names begin with ``replication_`` have speakers in two parts."""

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from strategies.errors import unknown
from trainables.corpora.splits import PARTS, Indices, Split, by_rows, check_ratios, complete
from trainables.errors import CorpusError

CHAE_SEED = 123
"""The seed of Python's generator in the published code of Chae et al. 2018."""
PUBLISHED_PARTS: Mapping[str, str] = MappingProxyType(
    {"train": "train", "dev": "valid", "valid": "valid", "validation": "valid", "test": "test"}
)
"""What published splits call their parts -> what they are called here."""


def published(table: pd.DataFrame, *, column: str = "domain", labels: Sequence[str] = ()) -> Split:
    """Take the split that the corpus was published with, if it keeps speakers apart.

    Args:
        table: utterances.
        column: where each utterance says its part: train, dev (or valid, validation) or test.
        labels: columns of which every class must be in every part.

    Raises:
        CorpusError: there is no such split, or it has a speaker in two parts.
    """
    if column not in table:
        raise CorpusError(unknown("column of the published split", column, map(str, table)))
    parts = table[column].astype(object).map(lambda name: PUBLISHED_PARTS.get(str(name)))
    if parts.isna().any():
        found = table.loc[parts.isna(), column].iloc[0]
        raise CorpusError(
            f"there is no published split in column '{column}': it holds '{found}', expected one of "
            f"{', '.join(PUBLISHED_PARTS)}"
        )
    return complete(table, by_rows({part: (parts == part).to_numpy(bool) for part in PARTS}), labels)


def replication_published(table: pd.DataFrame, *, column: str = "domain", labels: Sequence[str] = ()) -> Split:
    """Take the split that the corpus was published with, though it has speakers in two parts (MELD: the six leads).

    Args and errors are those of ``published``.
    """
    return published(table, column=column, labels=labels)


def replication_random(
    table: pd.DataFrame, *, ratios: Sequence[float] = (6, 2, 2), seed: int = 0, labels: Sequence[str] = ()
) -> Split:
    """Divide the utterances at random, whoever speaks them.

    Args:
        table: utterances.
        ratios: relative numbers of utterances to train, validate and test on; 6:2:2 is what the paper of Chae et al.
            2018 says, 7:1:2 are the files of MESM (Dai et al. 2021).
        seed: decides which utterance goes where.
        labels: columns of which every class must be in every part.

    Raises:
        CorpusError: ratios that are none, or a part that lacks a class.
    """
    check_ratios(ratios)
    order = np.random.default_rng(seed).permutation(len(table))
    bounds = np.cumsum(ratios)[:-1] / sum(ratios)
    pieces = np.split(order, np.floor(bounds * len(table) + 1e-9).astype(int))
    train, valid, test = (np.sort(piece) for piece in pieces)
    return complete(table, Split(train, valid, test), labels)


def replication_chae2018(table: pd.DataFrame, *, seed: int = CHAE_SEED, labels: Sequence[str] = ()) -> Split:
    """Divide as the published code of Chae et al. 2018 does, where parts share not only speakers but utterances.

    It shuffles the utterances anew for each part and then takes 0-60, 60-80 and 80-100 % of them, so that 60 % of what
    is validated and tested on is trained on. With its seed the shares of validation are 57.7, 61.1 and 60.4 % for the
    2943, 4784 and 10039 utterances of the three settings. Which utterances these are depends on the order of the table.

    Args:
        table: utterances.
        seed: of Python's own generator, 123 in the published code.
        labels: columns of which every class must be in every part.

    Raises:
        CorpusError: a part lacks a class.
    """
    shuffler, size = random.Random(seed), len(table)
    first, second = int(size * 0.6), int(size * 0.8)

    def shuffled(piece: slice) -> Indices:
        order = list(range(size))
        shuffler.shuffle(order)
        return np.sort(np.asarray(order[piece], dtype=np.int64))

    split = Split(shuffled(slice(first)), shuffled(slice(first, second)), shuffled(slice(second, None)))
    return complete(table, split, labels)
