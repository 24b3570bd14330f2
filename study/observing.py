"""Who is told what happens to trials while a study runs, in the driver, in order."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.rows import Row
    from trainables.specification import TrialSpecification


class Observer:
    """Is told of every trial and does nothing with it; who cares for something overrides it."""

    def trial_started(self, trial: "TrialSpecification") -> None:
        """A trial started, or started again after its process was lost."""

    def trial_reported(self, trial: "TrialSpecification", row: "Row") -> None:
        """A trial reported a row."""

    def trial_predicted(self, trial: "TrialSpecification", content: bytes) -> None:
        """A trial reported its test predictions, as ``trainables.predictions`` writes them; its final row follows."""

    def trial_noted(self, trial: "TrialSpecification", note: str) -> None:
        """A trial has something to tell that is no failure, in one line: a checkpoint that could not be used."""

    def trial_postponed(self, trial: "TrialSpecification", failure: dict[str, str]) -> None:
        """A trial failed for a reason that may pass, and is tried again later; ``failure`` as in ``trial_ended``."""

    def trial_ended(self, trial: "TrialSpecification", failure: dict[str, str] | None) -> None:
        """A trial finished, or failed with an ``error`` of one line, a ``traceback`` and its ``kind``."""

    def nothing_runs(self, seconds: float) -> None:
        """No trial has run for that long, though some wait."""


class Observers(Observer):
    """Tells several observers, in order: what is on disk comes first."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def trial_started(self, trial: "TrialSpecification") -> None:
        """Tell all."""
        for observer in self._observers:
            observer.trial_started(trial)

    def trial_reported(self, trial: "TrialSpecification", row: "Row") -> None:
        """Tell all."""
        for observer in self._observers:
            observer.trial_reported(trial, row)

    def trial_predicted(self, trial: "TrialSpecification", content: bytes) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.trial_predicted(trial, content)

    def trial_noted(self, trial: "TrialSpecification", note: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.trial_noted(trial, note)

    def trial_postponed(self, trial: "TrialSpecification", failure: dict[str, str]) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.trial_postponed(trial, failure)

    def trial_ended(self, trial: "TrialSpecification", failure: dict[str, str] | None) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.trial_ended(trial, failure)

    def nothing_runs(self, seconds: float) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.nothing_runs(seconds)
