"""What is wrong with a corpus on disk, and what is in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from trainables.batch import SAMPLE_RATE, InputSettings
from trainables.corpora.base import Corpus, read_table, table_faults
from trainables.errors import CorpusError, MediaError


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: ``corpus``, ``name``, ``media``, ``label`` or ``count``.
        subject: the file or utterance.
        message: what is wrong with it.
    """

    kind: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


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
    media = [finding for row in rows if (finding := _media(corpus, place, row)) is not None]
    return [*names, *media, *_labels(corpus, table), *_counts(corpus, table)]


def _media(corpus: Corpus, root: Path, utterance: Mapping[str, object]) -> Finding | None:
    try:
        if "audio" in corpus.modalities:
            corpus.load_audio(root, utterance)
        if "video" in corpus.modalities:
            corpus.load_video(root, utterance, InputSettings().frame_size)
    except MediaError as problem:
        return Finding("media", str(utterance["utterance"]), str(problem))
    return None


def _labels(corpus: Corpus, table: pd.DataFrame) -> list[Finding]:
    findings = []
    for label, classes in corpus.classes.items():
        for name in sorted(set(table[label].dropna()) - set(classes)):
            findings.append(Finding("label", label, f"{label} '{name}' is none of {', '.join(classes)}"))
    return findings


def _counts(corpus: Corpus, table: pd.DataFrame) -> list[Finding]:
    """Compare with what was published: utterances in all, and of each speaker."""
    expected = corpus.published_counts
    if not expected:
        return []
    counts = table["speaker"].value_counts()
    findings = [
        Finding("count", speaker, f"speaker {speaker} has {counts.get(speaker, 0)} utterances, published are {wanted}")
        for speaker, wanted in expected.items()
        if counts.get(speaker, 0) != wanted
    ]
    total = sum(expected.values())
    if len(table) != total:
        findings.append(Finding("count", corpus.name, f"{len(table)} utterances in all, published are {total}"))
    return findings


def stats(corpus: Corpus, root: Path | None) -> dict[str, pd.DataFrame]:
    """Return counts of utterances by each label and gender, by speaker, and their durations in seconds."""
    place = root if root is not None else Path()
    table = read_table(corpus, place)
    tables = {label: _by_gender(table, label) for label in corpus.classes if label != "gender"}
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


def _durations(corpus: Corpus, root: Path, table: pd.DataFrame) -> pd.DataFrame:
    seconds: list[float] = []
    for row in table.to_dict("records"):
        try:
            sound = corpus.load_audio(root, {str(name): value for name, value in row.items()})
        except MediaError:
            continue
        seconds.append(len(sound) / SAMPLE_RATE)
    values = pd.Series(seconds, dtype=float)
    summary = {"utterances": len(values), "total_s": values.sum(), "mean_s": values.mean(), "min_s": values.min()}
    return pd.DataFrame([summary | {"median_s": values.median(), "max_s": values.max()}])
