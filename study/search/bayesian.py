"""Optuna's searchers, which look at results: TPE and the genetic algorithms NSGA-II and NSGA-III."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState, create_trial

from study.search.searchers import Random, generator
from study.search.segments import Method
from study.search.settings import Search
from study.search.space import Values

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

MOST_STARTING_DRAWS = 10
"""Random configurations before TPE has a model: Optuna's default, or a third of a smaller budget."""

LARGEST_POPULATION = 50
"""Of the genetic algorithms: Optuna's default, or a fifth of the budget, so that a small one has generations at all."""

STALE_SHARE = 0.05
"""Configurations whose newest result Optuna may not know yet: building it up again takes longer the more there are."""


@dataclass
class _Record:
    """What is known of a configuration.

    Attributes:
        values: of its hyperparameters.
        losses: the objectives; None as long as it is under way, or if it failed.
        epoch: epochs done.
        is_told: whether something was told.
        is_complete: whether those are all its epochs.
    """

    values: Values
    losses: tuple[float, ...] | None = None
    epoch: int = 0
    is_told: bool = False
    is_complete: bool = False


class OptunaSearcher:
    """Asks a sampler of Optuna.

    Before every suggestion the sampler is made anew with a seed of its own, so that a search that goes on after a kill
    suggests what it would have suggested. A configuration that the scheduler has paused or ended counts as pruned;
    should it go on, the trials are built up again with its newest result, as those of Optuna cannot be changed.

    Args:
        method: whose hyperparameters are searched.
        settings: the section ``search``.

    Reference:
        Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011 (TPE); Deb et al., IEEE TEVC 6
        (2002) (NSGA-II); Deb and Jain, IEEE TEVC 18 (2014) (NSGA-III).
    """

    def __init__(self, method: Method, settings: Search) -> None:
        self.origin = "searcher"
        self._method, self._settings = method, settings
        self._draws = Random(method.space, settings.seed)
        self._distributions = method.space.distributions()
        self._records: dict[int, _Record] = {}
        self._open: dict[int, Trial] = {}
        self._study = self._new_study()
        self._outdated = 0
        trials = settings.budget.trials
        self._starting = MOST_STARTING_DRAWS if trials is None else min(MOST_STARTING_DRAWS, max(2, trials // 3))
        self._population = LARGEST_POPULATION if trials is None else min(LARGEST_POPULATION, max(4, trials // 5))

    def ask(self, number: int, given: Values | None = None) -> dict[str, Any]:
        """Return what the sampler suggests, or draws as long as it has nothing to go by."""
        if self._outdated > STALE_SHARE * len(self._records):
            self._rebuild()
        self.origin = "random" if number < self._starting and self._settings.searcher == "tpe" else "searcher"
        if given is None and self.origin == "random":
            given = self._draws.ask(number)
        self._study.sampler = self._sampler(number)
        if given is not None:
            self._study.enqueue_trial(self._method.space.labels(given))
        trial = self._open[number] = self._study.ask(fixed_distributions=self._distributions)
        if given is not None and self._settings.searcher != "tpe":
            _ = trial.relative_params  # gives it a generation, so that it can have children
        values = dict(given) if given is not None else self._method.space.unlabelled(trial.params)
        self._records[number] = _Record(values)
        return values

    def tell(self, number: int, losses: Sequence[float] | None, epoch: int, complete: bool) -> None:
        """Note a result; failures are never suggested from."""
        record = self._records[number]
        finite = losses is not None and all(map(math.isfinite, losses))
        record.losses, record.epoch, record.is_complete = tuple(losses) if losses and finite else None, epoch, complete
        record.is_told = True
        if number in self._open:
            self._tell_optuna(self._open.pop(number), record)
        else:
            self._outdated += 1

    def _tell_optuna(self, trial: "Trial", record: _Record) -> None:
        if record.losses is None:
            self._study.tell(trial, state=TrialState.FAIL)
        elif record.is_complete:
            self._study.tell(trial, list(record.losses))
        else:
            trial.report(record.losses[0], record.epoch)
            self._study.tell(trial, state=TrialState.PRUNED)

    def _rebuild(self) -> None:
        """Build the trials up again from what is known; those under way come last."""
        self._study = self._new_study()
        self._study.add_trials([self._frozen(record) for record in self._records.values() if record.is_told])
        self._open.clear()
        for number, record in self._records.items():
            if not record.is_told:
                self._study.enqueue_trial(self._method.space.labels(record.values))
                self._open[number] = self._study.ask(fixed_distributions=self._distributions)
        self._outdated = 0

    def _frozen(self, record: _Record) -> "FrozenTrial":
        losses, steps = None, None
        if record.losses is None:
            state = TrialState.FAIL
        elif record.is_complete:
            state, losses = TrialState.COMPLETE, list(record.losses)
        else:
            state, steps = TrialState.PRUNED, {record.epoch: record.losses[0]}
        labels = self._method.space.labels(record.values)
        return create_trial(
            state=state, params=labels, distributions=self._distributions, values=losses, intermediate_values=steps
        )

    def _new_study(self) -> "Study":
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(directions=["minimize"] * len(self._settings.objective))

    def _sampler(self, number: int) -> "BaseSampler":
        seed = int(generator(self._settings.seed, self._method.name, number).integers(2**31))
        if self._settings.searcher == "tpe":
            return KnownSpaceTPE(self._distributions, seed)
        if self._settings.searcher == "nsga2":
            return NSGAIISampler(seed=seed, population_size=self._population)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return NSGAIIISampler(seed=seed, population_size=self._population)


class KnownSpaceTPE(TPESampler):
    """TPE over a space that is known, so that a sampler made anew need not gather it from all trials."""

    def __init__(self, distributions: dict[str, BaseDistribution], seed: int) -> None:
        super().__init__(seed=seed, n_startup_trials=1, constant_liar=True)
        self._known = {name: distributions[name] for name in sorted(distributions)}

    def infer_relative_search_space(
        self,
        study: "Study",
        trial: "FrozenTrial",  # noqa: ARG002  (Optuna's door)
    ) -> dict[str, BaseDistribution]:
        """Return the space; nothing for several objectives, where Optuna too looks at each hyperparameter alone."""
        return {} if len(study.directions) > 1 else self._known
