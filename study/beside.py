"""``study compare A B --side-by-side``: two studies whose numbers may not be subtracted, each by itself."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from study import records
from study.analysis import Comparison, compare
from study.analysis.rescored import rescored, sentences
from study.analysis.results import Results
from study.analysis.summary import labels
from study.analysis.two_studies import settings_that_differ
from study.pairing import different_settings, refuse_incomparable, split_of
from study.records import StudyFolder
from study.report import console_table
from study.report.text import number

_MUST_AGREE = ("corpus", "tasks", "reference weights")
_MOST_SENTENCES = 4


@dataclass(frozen=True)
class Side:
    """One of the two studies.

    Attributes:
        study: its name.
        split: the protocol of its split with its options.
        results: what its trials reported.
        comparison: how its arms stand to its control.
    """

    study: str
    split: str
    results: Results
    comparison: Comparison

    @property
    def own(self) -> dict[str, float]:
        """Arm -> NLL on validation at the arm's own end weights, as published tables have it; empty where all agree."""
        found = rescored(self.results)
        return {} if found is None else dict(zip(found.table["arm"], found.table["own"], strict=True))

    @property
    def told(self) -> list[str]:
        """What has to be said of this study beside another: that its split leaks, what of a gain is re-weighting."""
        found = rescored(self.results)
        gains = [] if found is None else [text for _, text in sentences(self.results, found, _MOST_SENTENCES)]
        warning = self.results.facts.get("warning")
        return [*([f"{warning}."] if warning else []), *gains]


@dataclass(frozen=True)
class Beside:
    """Two studies of the same tasks and corpus, whose data or split may differ.

    Attributes:
        sides: the first study and the second.
        settings: what of their definitions differs, beside the split.
    """

    sides: tuple[Side, Side]
    settings: tuple[str, ...]

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Return the columns and rows of a table: for each arm a row of each study that has it."""
        tables = [console_table(side.comparison) for side in self.sides]
        controls = {side.comparison.labels[side.comparison.control] for side in self.sides}
        columns = [name if not name.startswith("vs ") or len(controls) == 1 else "vs control" for name in tables[0][0]]
        found = []
        for label in self.labels():
            for side, (_, rows) in zip(self.sides, tables, strict=True):
                own = {labels(side.results)[arm]: value for arm, value in side.own.items()}
                last = number(own.get(label, math.nan))
                found += [[row[0], self._name(side), *row[1:], last] for row in rows if row[0] == label]
        return [columns[0], "study", *columns[1:], "validation NLL, own weights"], found

    def _name(self, side: Side) -> str:
        """Return what a row of a study begins with: the protocol, if that tells them apart."""
        protocols = [each.split.split(" ")[0] for each in self.sides]
        return side.split.split(" ")[0] if protocols[0] != protocols[1] else side.study

    def labels(self) -> list[str]:
        """Return the labels of the arms of both, in the order of the plans."""
        every = (label for side in self.sides for label in labels(side.results).values())
        return list(dict.fromkeys(every))

    def table(self) -> pd.DataFrame:
        """Return the comparisons of both, one below the other, with columns ``study, split`` and ``own_valid_nll``."""
        parts = []
        for side in self.sides:
            part = side.comparison.table
            part = part.assign(own_valid_nll=part["arm"].map(side.own).astype(float))
            part.insert(0, "split", side.split)
            part.insert(0, "study", side.study)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    @property
    def lines(self) -> list[str]:
        """What differs, why no difference is computed, and what has to be said of each."""
        return list(self._lines())

    def _lines(self) -> Iterator[str]:
        first, second = self.sides
        yield (
            f"{first.study} ({first.split}) and {second.study} ({second.split}), each by itself: intervals and "
            "differences are within a study, and a number of the one is not to be subtracted from that of the other"
        )
        if self.settings:
            yield f"settings that differ: {'; '.join(self.settings)}"
        for side in self.sides:
            yield from (f"{side.study}: {text}" for text in side.told)

    def as_dict(self) -> Mapping[str, Any]:
        """Return everything as plain values."""
        return {
            "studies": [{"study": side.study, "split": side.split} for side in self.sides],
            "arms": [{str(name): value for name, value in row.items()} for row in self.table().to_dict("records")],
            "lines": self.lines,
        }


def beside(first: StudyFolder, second: StudyFolder) -> Beside:
    """Set two studies beside each other.

    Raises:
        StudyError: corpus, tasks or reference weights are not the same.
    """
    locks = first.read_lock(), second.read_lock()
    refuse_incomparable(first.name, second.name, *locks, _MUST_AGREE)
    sides = tuple(_side(folder, lock) for folder, lock in zip((first, second), locks, strict=True))
    different = [*_corpus_options(*locks), *different_settings(*locks)]
    return Beside((sides[0], sides[1]), tuple(different))


def _side(folder: StudyFolder, lock: Mapping[str, Any]) -> Side:
    results = records.load_results(folder)
    return Side(folder.name, split_of(lock["definition"]["split"]), results, compare(results))


def _corpus_options(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return which options of the corpus differ: they are what may make its data another's."""
    before, after = (lock["definition"]["corpus"].get("options", {}) for lock in (one, other))
    return settings_that_differ(before, after, "corpus.options.")
