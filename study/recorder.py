"""What happens to trials, written into the rows of a study."""

from study.observing import Observer
from study.records import StudyFolder
from trainables.rows import Row
from trainables.specification import TrialSpecification


class Recorder(Observer):
    """Appends what happens to trials to the study's rows; an observer."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder

    def trial_started(self, trial: TrialSpecification) -> None:
        """Record the start."""
        fold = {} if trial.fold is None else {"fold": trial.fold}
        self._folder.append(trial.trial, {"event": "start", "arm": trial.arm, "seed": trial.seed, **fold})

    def trial_reported(self, trial: TrialSpecification, row: Row) -> None:
        """Record a row."""
        self._folder.append(trial.trial, {"event": "row", "row": row})

    def trial_predicted(self, trial: TrialSpecification, content: bytes) -> None:
        """Keep the predictions; they come before the end."""
        self._folder.write_predictions(trial.trial, content)

    def trial_noted(self, trial: TrialSpecification, note: str) -> None:
        """Record the note."""
        self._folder.append(trial.trial, {"event": "note", "note": note})

    def trial_postponed(self, trial: TrialSpecification, failure: dict[str, str]) -> None:
        """Record why it has to be tried again; it has not ended."""
        self._folder.append(trial.trial, {"event": "postponed", **failure})

    def trial_ended(self, trial: TrialSpecification, failure: dict[str, str] | None) -> None:
        """Record the end."""
        tested = {"predictions": True} if trial.until is None else {}  # a search never looks at the test split
        outcome = {"status": "failed", **failure} if failure else {"status": "finished", **tested}
        self._folder.append(trial.trial, {"event": "end", **outcome})
