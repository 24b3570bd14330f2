"""The report of a study as sections, in the order in which they are read; no format yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strategies.text import printable
from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.report import curves, evidence, protocol, sections
from study.report.blocks import Block, Section
from study.report.tuning import tuning


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: the study's title.
        study: its name.
        opening: what stands before the first heading.
        sections: those that have something to say.
    """

    title: str
    study: str
    opening: tuple[Block, ...]
    sections: tuple[Section, ...]


def page(results: Results, comparison: Comparison, drawn: Sequence[str]) -> Page:
    """Return the report; ``drawn`` are the stems of the figures that exist."""
    found = (
        sections.verdicts(comparison),
        sections.arms(comparison),
        sections.differences(comparison, drawn),
        sections.static_grid(comparison, drawn),
        evidence.distances(comparison),
        evidence.delta(results, comparison),
        tuning(results, comparison, drawn),
        curves.weights(comparison, drawn),
        evidence.controls(results, comparison),
        sections.rescored(comparison),
        sections.gradients(comparison),
        curves.training(comparison, drawn),
        sections.diagnosis(comparison),
        sections.cost(comparison),
        evidence.budgets(results, comparison),
        evidence.ranks(comparison),
        sections.failed(comparison),
        protocol.protocol(results, comparison),
        protocol.how_to_read(comparison, results.num_folds),
        protocol.reproducibility(results),
    )
    title = " ".join(printable(results.title).split())
    opening = tuple(sections.compared(results, comparison))
    return Page(title, results.study, opening, tuple(part for part in found if part.blocks))
