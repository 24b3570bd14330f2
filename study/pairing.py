"""``study compare A B``: whether two studies may be compared, in what they differ, and how their arms stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study import records
from study.analysis.two_studies import TwoStudies, compare_studies, settings_that_differ
from study.errors import StudyError
from study.records import StudyFolder

_MUST_AGREE = (
    ("corpus", lambda lock: lock["corpus"]["name"]),
    ("data of the corpus", lambda lock: lock["corpus"]["content_hash"][:12]),
    ("split", lambda lock: split_of(lock["definition"]["split"])),
    ("tasks", lambda lock: ", ".join(task["name"] for task in lock["tasks"])),
    ("reference weights", lambda lock: _weights(lock["reference_weights"])),
)
"""What two studies must have in common for their numbers to mean the same, and how it is told."""
_TOLD_ELSEWHERE = ("arms", "seeds", "corpus", "split", "tasks", "reference_weights", "name", "title", "resources")
"""Parts of a definition whose differences are told otherwise, or change no number."""


@dataclass(frozen=True)
class Pairing:
    """Two studies side by side.

    Attributes:
        studies: how their arms stand.
        settings: what of their definitions differs and is not an arm or a seed.
        arms: arms of one name that are not the same, and in what.
    """

    studies: TwoStudies
    settings: tuple[str, ...]
    arms: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """What differs between the studies, in sentences."""
        first, second, seeds = self.studies.first, self.studies.second, self.studies.seeds
        lines = [f"difference: {second} minus {first}, {self.studies.metric}, paired on {len(seeds)} common seeds"]
        lines += [f"settings that differ: {'; '.join(self.settings)}"] if self.settings else []
        lines += [f"arm {arm}" for arm in self.arms]
        for name, arms in ((first, self.studies.only_first), (second, self.studies.only_second)):
            lines += [f"only in {name}: {', '.join(arms[:12])}{_more(len(arms) - 12)}"] if arms else []
        return lines


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def pair(first: StudyFolder, second: StudyFolder, metric: str = "test/joint_nll") -> Pairing:
    """Compare two studies.

    Raises:
        StudyError: they are the same, or cannot be compared: in what they differ that must agree.
    """
    if first.name == second.name and first.path == second.path:
        raise StudyError(f"{first.name} cannot be compared with itself: name two studies")
    locks = first.read_lock(), second.read_lock()
    refuse_incomparable(first.name, second.name, *locks)
    studies = compare_studies(records.load_results(first), records.load_results(second), metric)
    changed = [f"{name}: {'; '.join(told)}" for name, told in changed_arms(*locks).items()]
    return Pairing(studies, tuple(different_settings(*locks)), tuple(changed))


def different_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return what of the definitions of two locks differs and is not told otherwise, as ``name: one -> other``."""
    before, after = (_told_here(lock["definition"]) for lock in (one, other))
    return settings_that_differ(before, after)


def _told_here(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in definition.items() if name not in _TOLD_ELSEWHERE}


def refuse_incomparable(
    first: str, second: str, one: Mapping[str, Any], other: Mapping[str, Any], parts: Sequence[str] | None = None
) -> None:
    """Refuse two studies whose numbers mean different things.

    Args:
        first: name of the one study.
        second: name of the other.
        one: lock of the one.
        other: lock of the other.
        parts: what must agree; by default all that there is: corpus, its data, split, tasks and reference weights.

    Raises:
        StudyError: with everything that must agree and does not, in one line.
    """
    checked = [(what, tell) for what, tell in _MUST_AGREE if parts is None or what in parts]
    told = [f"{what} {tell(one)} and {tell(other)}" for what, tell in checked if tell(one) != tell(other)]
    if told:
        hint = _instead(one, other) if parts is None else ""
        raise StudyError(f"{first} and {second} cannot be compared: {'; '.join(told)}{hint}")


def _instead(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Say what may be done with studies of other data."""
    if one["corpus"]["name"] == other["corpus"]["name"]:
        return " (each by itself, without a difference: --side-by-side)"
    return " (methods are ranked over three corpora or more: study compare A B C)"


def split_of(split: Mapping[str, Any]) -> str:
    """Return what a split is called: its protocol with its options."""
    options = ", ".join(f"{name}={value}" for name, value in split["options"].items())
    folds = f", folds {split['folds']}" if split.get("folds") is not None else ""
    return f"{split['protocol']}{f' ({options})' if options else ''}{folds}"


def _weights(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {weight:.3g}" for task, weight in weights.items())


def changed_arms(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return arm -> in what it differs between two locks: strategy, options, network or training."""
    parts = ("strategy", "options", "network", "training", "changes", "loss_scales")
    before, after = ({arm["arm"]: arm for arm in lock["arms"]} for lock in (one, other))
    found = {}
    for name, arm in before.items():
        if name in after:
            mine, theirs = ({part: side[part] for part in parts if part in side} for side in (arm, after[name]))
            if told := settings_that_differ(mine, theirs):
                found[name] = told
    return found
