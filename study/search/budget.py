"""What each method may spend, and what it has spent."""

from dataclasses import dataclass

from study.errors import DefinitionError
from study.search.settings import Budget

HOUR_S = 3600.0


@dataclass
class Ledger:
    """What one method has spent.

    Epochs are charged when they are handed out, whether they are then trained or not, so that no decision depends on
    which of several segments under way ended first.

    Attributes:
        budget: the limits.
        trials: configurations begun.
        epochs: epochs handed out, those of all seeds.
        known_epochs: those of them whose result is known.
        seconds: training time of those.
        at: seconds of searching until the last of those results.
    """

    budget: Budget
    trials: int = 0
    epochs: int = 0
    known_epochs: int = 0
    seconds: float = 0.0
    at: float = 0.0

    def affords(self, trials: int, epochs: int) -> bool:
        """Whether so many more configurations and epochs stay within every limit.

        For hours the cost of an epoch is taken to be its mean so far; the first ones are always afforded.
        """
        limits = self.budget
        per_epoch = self.seconds / self.known_epochs if self.known_epochs else 0.0
        expected = self.seconds + per_epoch * (self.epochs - self.known_epochs + epochs)
        return (
            (limits.trials is None or self.trials + trials <= limits.trials)
            and (limits.epochs is None or self.epochs + epochs <= limits.epochs)
            and (limits.hours is None or expected <= limits.hours * HOUR_S)
            and (limits.wall_clock_hours is None or self.at < limits.wall_clock_hours * HOUR_S)
        )

    def charge(self, trials: int, epochs: int) -> None:
        """Note what is handed out."""
        self.trials += trials
        self.epochs += epochs

    def settle(self, epochs: int, seconds: float, at: float) -> None:
        """Note what it took."""
        self.known_epochs += epochs
        self.seconds += seconds
        self.at = max(self.at, at)


def check_budget(budget: Budget, epochs: int, seeds: int) -> None:
    """Refuse a budget that cannot train one configuration of a method to the end.

    Raises:
        DefinitionError: it allows fewer epochs than one trial has.
    """
    if budget.epochs is not None and budget.epochs < epochs * seeds:
        raise DefinitionError(
            f"search.budget.epochs is {budget.epochs}, which cannot fund one trial per method: "
            f"{epochs} epochs with {seeds} tuning seed{'s' if seeds > 1 else ''} take {epochs * seeds}"
        )
