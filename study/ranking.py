"""``study compare A B C ...``: whether studies of several corpora may be ranked together, and what ranks can show."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from study import pairing, records
from study.analysis.ranks import WARNING
from study.analysis.several_studies import LEAST, SeveralStudies, rank_studies
from study.analysis.statistics import ALPHA, seeds_needed, smallest_p
from study.errors import StudyError
from study.records import StudyFolder
from study.report.blocks import listed
from study.report.text import number, p_value, plural


@dataclass(frozen=True)
class Ranking:
    """Studies of several corpora, ranked together.

    Attributes:
        studies: how their methods stand.
        settings: what of their definitions differs and is neither the corpus, an arm nor a seed.
        arms: arms of one name that are not the same everywhere.
    """

    studies: SeveralStudies
    settings: tuple[str, ...]
    arms: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row per method, best mean rank first, see ``SeveralStudies``."""
        return self.studies.table

    @property
    def lines(self) -> list[str]:
        """What the ranks rest on and what they can show, in sentences."""
        found = self.studies
        lines = [_blocks(found), _friedman(found), _reachable(found), *_groups(found), WARNING]
        lines += [f"Settings that differ: {listed(self.settings, '; ')}."] if self.settings else []
        lines += [f"Not the same options or training on every corpus: {listed(self.arms)}."] if self.arms else []
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return the ranking as plain values: the table, the tests, the groups, and what is said of them."""
        found = self.studies
        return {
            "metric": found.metric,
            "studies": list(found.studies),
            "corpora": list(found.corpora),
            "control": found.control,
            "num_seeds": list(found.num_seeds),
            "table": [{str(name): value for name, value in row.items()} for row in found.table.to_dict("records")],
            "friedman": asdict(found.friedman),
            "groups": [list(group) for group in found.diagram.groups],
            "pairs": {str(name): dict(row) for name, row in found.diagram.p_values.iterrows()},
            "nemenyi": found.nemenyi,
            "settings": list(self.settings),
            "arms": list(self.arms),
            "summary": self.lines,
        }


def rank(folders: Sequence[StudyFolder], metric: str = "test/joint_nll") -> Ranking:
    """Rank the methods of studies, each on a corpus of its own.

    Raises:
        StudyError: fewer than three studies, two of the same data, or other tasks, methods or metrics in one of them.
    """
    if len(folders) < LEAST:
        raise StudyError(f"methods are ranked over {LEAST} corpora or more, got {plural(len(folders), 'study')}")
    twice = [folder.name for number, folder in enumerate(folders) if folder.path in {f.path for f in folders[:number]}]
    if twice:
        raise StudyError(f"{twice[0]} is named twice: name each study once, of a corpus of its own")
    locks = [folder.read_lock() for folder in folders]
    for (one, first), (other, second) in combinations(zip(folders, locks, strict=True), 2):
        _refuse(one.name, other.name, first, second)
    results = [records.load_results(folder) for folder in folders]
    studies = rank_studies(results, _names(folders, locks), metric)
    pairs = [(locks[0], lock) for lock in locks[1:]]
    settings = [told for pair in pairs for told in pairing.different_settings(*pair)]
    arms = [name for pair in pairs for name in pairing.changed_arms(*pair)]
    return Ranking(studies, tuple(dict.fromkeys(settings)), tuple(dict.fromkeys(arms)))


def _refuse(first: str, second: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    """Refuse two studies whose ranks do not add up: of the same data, or of other tasks."""
    if one["corpus"]["content_hash"] == other["corpus"]["content_hash"]:
        raise StudyError(
            f"{first} and {second} were run on the same data ({one['corpus']['name']}): to rank over corpora name one "
            f"study of each; to set these two side by side: study compare {first} {second}"
        )
    pairing.refuse_incomparable(first, second, one, other, ("tasks", "reference weights"))


def _names(folders: Sequence[StudyFolder], locks: Sequence[dict[str, Any]]) -> list[str]:
    """Return what each corpus is called; where two have one name, by their studies."""
    names = [str(lock["corpus"]["name"]) for lock in locks]
    return [
        name if names.count(name) == 1 else f"{name} ({folder.name})"
        for name, folder in zip(names, folders, strict=True)
    ]


def _blocks(found: SeveralStudies) -> str:
    seeds = sorted(set(found.num_seeds))
    told = plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    chosen = [f"{arm} on {count}" for arm, count in Counter(found.grid).most_common()]
    grid = f"; the static grid is one method, by the arm that validation chose: {listed(chosen)}"
    return (
        f"Mean rank by {found.metric} over {len(found.corpora)} corpora, 1 is best; one value for each corpus, the "
        f"mean over {told}{grid if found.grid else ''}."
    )


def _friedman(found: SeveralStudies) -> str:
    test = found.friedman
    return (
        f"Whether any method differs: Friedman chi-square({test.freedom}) = {number(test.statistic, 2)}, "
        f"{p_value(test.shuffled_p)} by shuffled ranks ({p_value(test.p)} by chi-square; Iman and Davenport "
        f"F({test.f_freedom[0]}, {test.f_freedom[1]}) = {number(test.f, 2)}, {p_value(test.f_p)})."
    )


def _reachable(found: SeveralStudies) -> str:
    """Say what so many corpora can show at all."""
    corpora, count = len(found.corpora), len(found.table)
    pairs, least = count * (count - 1) // 2, smallest_p(corpora)
    told = f"With {corpora} corpora the exact Wilcoxon test cannot give a two-sided p below {least:.3g}"
    if least * (count - 1) > ALPHA:
        return (
            f"{told}, so after Holm's correction no method can differ from {found.control}: that takes "
            f"{seeds_needed(count - 1)} corpora, and {seeds_needed(pairs)} to tell every pair apart. The ranks "
            "describe these corpora and prove nothing about others."
        )
    if least * pairs > ALPHA:
        return (
            f"{told}: enough for a method to differ from {found.control}, too little to tell every pair apart, which "
            f"takes {seeds_needed(pairs)} corpora."
        )
    return f"{told}, and {least * pairs:.3g} over all {pairs} pairs after Holm's correction."


def _groups(found: SeveralStudies) -> list[str]:
    groups = [f"{' = '.join(group)}" for group in found.diagram.groups]
    alike = f"Not told apart by pairwise exact Wilcoxon tests, Holm over all pairs: {listed(groups, '; ')}."
    nemenyi = (
        f"Nemenyi's critical difference, which moves with who is compared and groups nothing here, is "
        f"{number(found.nemenyi, 2)} of at most {len(found.table) - 1} ranks."
    )
    return [*([alike] if groups else ["Every pair of methods differs."]), nemenyi]
