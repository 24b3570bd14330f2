"""What is wrong with a corpus on disk, and what is in it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.batch import SAMPLE_RATE, InputSettings
from trainables.corpora.base import Corpus, read_table, table_faults
from trainables.corpora.decoding import decode, each
from trainables.corpora.finding import Finding, few
from trainables.errors import CorpusError, MediaError


def check(corpus: Corpus, root: Path | None) -> list[Finding]:
    """Return everything that is wrong: file names, unreadable or silent media, labels that are no class, counts.

    Reads every file; an empty list means the corpus is as published.
    """
    place = root if root is not None else Path()
    try:
        names = [Finding("name", corpus.name, line) for line in corpus.misnamed(place)]
        table = corpus.read(place)
    except CorpusError as problem:
        return [Finding("corpus", str(place), str(problem))]
    if faults := table_faults(corpus, table):
        return [*names, *(Finding("corpus", corpus.name, fault) for fault in faults)]
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    named = [row for row in rows if not _nameless(corpus, row)]
    media = [finding for finding in each(_Read(corpus, place), named) if finding is not None]
    missing = _missing(corpus, rows)
    return [*names, *corpus.remarks(place), *missing, *media, *_labels(corpus, table), *_counts(corpus, table)]


def _nameless(corpus: Corpus, utterance: Mapping[str, Any]) -> list[str]:
    """Return the modalities of which the table names no file, though the corpus consists of files."""
    return [name for name in corpus.modalities if corpus.needs_root and pd.isna(utterance[name])]


def _missing(corpus: Corpus, rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return one line for each session and modality whose files are not all there."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for modality in _nameless(corpus, row):
            lacking.setdefault((_session(corpus, row), modality), []).append(str(row["utterance"]))
    totals = Counter(_session(corpus, row) for row in rows)
    return [
        Finding(
            "media",
            session,
            f"{len(names)} of {totals[session]} utterances of {session} have no {modality}: {few(names)}",
        )
        for (session, modality), names in lacking.items()
    ]


def _session(corpus: Corpus, utterance: Mapping[str, Any]) -> str:
    return corpus.name if pd.isna(utterance["session"]) else str(utterance["session"])


@dataclass(frozen=True)
class _Read:
    """Reads the media of one utterance and finds what is wrong with them."""

    corpus: Corpus
    root: Path

    def __call__(self, utterance: Mapping[str, Any]) -> Finding | None:
        problem = decode(self.corpus, self.root, InputSettings(), utterance).problem
        return None if problem is None else Finding("media", str(utterance["utterance"]), problem)


def _labels(corpus: Corpus, table: pd.DataFrame) -> list[Finding]:
    findings = []
    for label, classes in corpus.classes.items():
        for name in sorted(set(table[label].dropna()) - set(classes)):
            findings.append(Finding("label", label, f"{label} '{name}' is none of {', '.join(classes)}"))
    return [*findings, *(finding for label in corpus.values for finding in _numbers(table, label))]


def _numbers(table: pd.DataFrame, label: str) -> list[Finding]:
    """Find what is no number in a label that is one; missing ones are masked and no fault, unless all are."""
    values = pd.to_numeric(table[label], errors="coerce")
    strange = table.loc[table[label].notna() & ~np.isfinite(values), "utterance"].tolist()
    if strange:
        return [Finding("label", label, f"{len(strange)} utterances have a {label} that is no number: {few(strange)}")]
    return [] if values.notna().any() else [Finding("label", label, f"no utterance has a {label}")]


def _counts(corpus: Corpus, table: pd.DataFrame) -> list[Finding]:
    """Compare with what was published: utterances of each speaker, in all, and of each class."""
    findings = _differences("speaker", table["speaker"].value_counts(), corpus.published_counts)
    total = sum(corpus.published_counts.values())
    if total and len(table) != total:
        findings.append(Finding("count", corpus.name, f"{len(table)} utterances in all, published are {total}"))
    for label, published in corpus.published_classes.items():
        findings += _differences(label, table[label].value_counts(), published)
    return findings


def _differences(column: str, counts: "pd.Series[int]", published: Mapping[str, int]) -> list[Finding]:
    return [
        Finding("count", name, f"{column} {name} has {counts.get(name, 0)} utterances, published are {wanted}")
        for name, wanted in published.items()
        if counts.get(name, 0) != wanted
    ]


def stats(corpus: Corpus, root: Path | None) -> dict[str, pd.DataFrame]:
    """Return counts of utterances by each label and gender, by speaker, and their durations in seconds."""
    place = root if root is not None else Path()
    table = read_table(corpus, place)
    tables = {label: _by_gender(table, label) for label in corpus.classes if label != "gender"}
    tables |= {label: _spread(table[label]) for label in corpus.values}
    tables["speaker"] = (
        table.groupby(["speaker", "gender"], sort=True, dropna=False).size().reset_index(name="utterances")
    )
    if "audio" in corpus.modalities:
        tables["duration"] = _durations(corpus, place, table)
    return tables


def _by_gender(table: pd.DataFrame, label: str) -> pd.DataFrame:
    counts = pd.crosstab(table[label].fillna("missing"), table["gender"].fillna("unknown"))
    counts["all"] = counts.sum(axis=1)
    return counts.reset_index().rename_axis(columns=None)


def _spread(values: pd.Series) -> pd.DataFrame:
    """Return how the numbers of a label are spread, in one row."""
    counts = {"utterances": int(values.notna().sum()), "missing": int(values.isna().sum())}
    spread = {"mean": values.mean(), "deviation": values.std(), "min": values.min(), "max": values.max()}
    return pd.DataFrame([counts | spread])


def _durations(corpus: Corpus, root: Path, table: pd.DataFrame) -> pd.DataFrame:
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    lengths = [seconds for seconds in each(_Seconds(corpus, root), rows) if seconds is not None]
    values = pd.Series(lengths, dtype=float)
    summary = {"utterances": len(values), "total_s": values.sum(), "mean_s": values.mean(), "min_s": values.min()}
    return pd.DataFrame([summary | {"median_s": values.median(), "max_s": values.max()}])


@dataclass(frozen=True)
class _Seconds:
    """Measures the sound of one utterance; None if it cannot be read."""

    corpus: Corpus
    root: Path

    def __call__(self, utterance: Mapping[str, Any]) -> float | None:
        try:
            return len(self.corpus.load_audio(self.root, utterance)) / SAMPLE_RATE
        except (MediaError, OSError):
            return None
