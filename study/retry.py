"""Which failed trials are tried again, when, and with what room: pure bookkeeping, no Ray.

A fault that may pass (a full disk, a machine that went away, too little memory beside other trials) is no property of
an arm, and a study that drops such trials compares what is left. A NaN or a bug would only come again.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from study.definition import Resources

if TYPE_CHECKING:
    from trainables.specification import TrialSpecification

PAUSES_S = (5.0, 20.0, 60.0)
"""Seconds before the second, third and every later round: a disk is emptied and a machine is back after minutes."""
_MEMORY, _LASTING = "memory", "lasting"


@dataclass(frozen=True)
class Round:
    """Trials that run together.

    Attributes:
        trials: in the order they start.
        resources: what each may use, and how many run at a time.
        pause_s: seconds to wait before.
        avoid: trial -> nodes on which it has failed.
    """

    trials: tuple["TrialSpecification", ...]
    resources: Resources
    pause_s: float = 0.0
    avoid: dict[str, frozenset[str]] = field(default_factory=dict)


class Retries:
    """Decides round by round what runs.

    Args:
        trials: all that have to run; more may be told of by ``admit``, as of a search that makes them up as it goes.
        resources: what each may use at first; ``max_restarts`` is how often a trial is tried again.
        pauses_s: seconds before each further round; the last one holds for all later ones.
    """

    def __init__(
        self, trials: Sequence["TrialSpecification"], resources: Resources, pauses_s: Sequence[float] = PAUSES_S
    ) -> None:
        self._current = Round(tuple(trials), resources)
        self._pauses = tuple(pauses_s)
        self._again: list[TrialSpecification] = []
        self._avoid: dict[str, frozenset[str]] = {}
        self._short_of_memory = False
        self._number = 0
        self._tries: Counter[tuple[str, int | None]] = Counter()

    @property
    def current(self) -> Round:
        """The round to run now."""
        return self._current

    def admit(self, trial: "TrialSpecification", failure: dict[str, str], at_a_time: int) -> bool:
        """Return whether a trial that failed is tried again in the next round; it is then in it.

        Args:
            trial: the trial.
            failure: what it said: ``kind`` (see ``trainables.trial``) and ``node``, where it was.
            at_a_time: how many trials ran beside each other.
        """
        kind = failure.get("kind", _LASTING)
        attempt = trial.trial, trial.until
        if kind == _LASTING or self._tries[attempt] >= self._current.resources.max_restarts:
            return False
        if kind == _MEMORY:
            if not self._can_have_more_room(at_a_time):
                return False
            self._short_of_memory = True
        self._tries[attempt] += 1
        self._again.append(trial)
        if node := failure.get("node"):
            self._avoid[trial.trial] = self._avoid.get(trial.trial, frozenset()) | {node}
        return True

    def next_round(self, at_a_time: int) -> Round | None:
        """Return the round that follows, now the current one; None if nothing is left to try.

        Args:
            at_a_time: how many trials ran beside each other in the round before.
        """
        if not self._again:
            return None
        resources = self._current.resources
        if self._short_of_memory:
            resources = _with_more_room(resources, at_a_time)
        pause = self._pauses[min(self._number, len(self._pauses) - 1)] if self._pauses else 0.0
        self._current = Round(tuple(self._again), resources, pause, dict(self._avoid))
        self._again, self._short_of_memory = [], False
        self._number += 1
        return self._current

    def _can_have_more_room(self, at_a_time: int) -> bool:
        share = self._current.resources.share
        return share < 1 if share else at_a_time > 1


def _with_more_room(resources: Resources, at_a_time: int) -> Resources:
    """Return twice the share of a GPU, or half as many trials at a time where there is none."""
    if resources.share:
        return resources.model_copy(update={"gpus": min(1.0, 2 * resources.share)})
    return resources.model_copy(update={"max_concurrent": max(1, at_a_time // 2)})
