"""``study compare A B --side-by-side``: two studies whose numbers may not be subtracted, each by itself."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from study import records
from study.analysis import Comparison, compare
from study.analysis.rescored import Rescored, rescored, sentences
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

    @cached_property
    def rescored(self) -> Rescored | None:
        """The losses of its arms at their own weights and at those of the others; None where all weights agree."""
        return rescored(self.results)

    @property
    def own(self) -> dict[str, float]:
        """Arm -> NLL on validation at the arm's own end weights, as published tables have it; empty where all agree."""
        found = self.rescored
        return {} if found is None else dict(zip(found.table["arm"], found.table["own"], strict=True))

    @property
    def rows(self) -> dict[str, list[str]]:
        """Label of an arm -> its row of the comparison, with the loss at its own weights last."""
        arms = {label: arm for arm, label in labels(self.results).items()}
        own = self.own
        _, rows = console_table(self.comparison)
        return {row[0]: [*row, number(own.get(arms.get(row[0], ""), math.nan))] for row in rows}

    @property
    def told(self) -> list[str]:
        """What has to be said of this study beside another: that its split leaks, what of a gain is re-weighting."""
        found = self.rescored
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
        columns, _ = console_table(self.sides[0].comparison)
        controls = {side.comparison.labels[side.comparison.control] for side in self.sides}
        if len(controls) > 1:
            columns = ["vs control" if name.startswith("vs ") else name for name in columns]
        protocols = [side.split.split(" ")[0] for side in self.sides]
        names = protocols if protocols[0] != protocols[1] else [side.study for side in self.sides]
        each = list(zip(names, (side.rows for side in self.sides), strict=True))
        every = dict.fromkeys(label for side in self.sides for label in labels(side.results).values())
        rows = [[label, name, *rows[label][1:]] for label in every for name, rows in each if label in rows]
        return [columns[0], "study", *columns[1:], "validation NLL, own weights"], rows

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

    def lines(self) -> Iterator[str]:
        """Yield what differs, why no difference is computed, and what has to be said of each."""
        first, second = self.sides
        yield (
            f"{first.study} ({first.split}) and {second.study} ({second.split}), each by itself: intervals and "
            "differences are within a study, and a number of the one is not to be subtracted from that of the other"
        )
        if self.settings:
            yield f"settings that differ: {'; '.join(self.settings)}"
        for side in self.sides:
            yield from (f"{side.study}: {text}" for text in side.told)


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
