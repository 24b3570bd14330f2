"""What the tuning phase of a study has found: best of m, importance of hyperparameters, choices at the edge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from study.errors import StudyError
from study.search.settings import ChoiceSettings, IntervalSettings, Objective, Search, dimension
from study.search.space import Space

if TYPE_CHECKING:
    from study.analysis.results import Results

FEW = 20
"""Below so many configurations the importance of hyperparameters is a guess."""
_RESAMPLES = 1000
"""Resamples of a bootstrap interval; its ends then move by about a tenth of its width between seeds."""


@dataclass(frozen=True)
class Configuration:
    """A configuration of a method and what came of it.

    Attributes:
        number: counted from 0 within the method.
        values: hyperparameter -> value.
        origin: ``default``, ``given``, ``random``, ``searcher``, ``grid`` or ``scheduler``.
        state: ``full``, ``stopped``, ``waiting``, ``running`` or ``failed``.
        epochs: done by all tuning seeds.
        losses: the objectives, smaller is better, as means over the tuning seeds; None if it failed or has none yet.
        seconds: of training.
        failure: why it failed.
    """

    number: int
    values: Mapping[str, Any]
    origin: str
    state: str
    epochs: int
    losses: tuple[float, ...] | None
    seconds: float = 0.0
    failure: str | None = None


@dataclass(frozen=True)
class TunedMethod:
    """What was searched for one method, and what was found.

    Attributes:
        method: its name.
        space: its hyperparameters.
        configurations: in the order they were asked for.
        chosen: number of the chosen one; None if none is, or not yet.
        front: numbers of those that no other beats in every objective.
        stages: what the chosen one was trained with: ``first`` and ``until`` epoch and ``values``.
        spent: ``trials``, ``epochs`` of all seeds, ``seconds`` of training.
    """

    method: str
    space: Space
    configurations: tuple[Configuration, ...]
    chosen: int | None
    front: tuple[int, ...]
    stages: tuple[Mapping[str, Any], ...]
    spent: Mapping[str, float]

    @property
    def best(self) -> Configuration | None:
        """The chosen configuration."""
        return None if self.chosen is None else self.configurations[self.chosen]

    def losses(self, epochs: int, origins: Sequence[str] = ()) -> NDArray[np.float64]:
        """Return the first objective of the configurations that have done so many epochs, of these origins or all."""
        found = [
            each.losses[0]
            for each in self.configurations
            if each.losses is not None and each.epochs >= epochs and (not origins or each.origin in origins)
        ]
        return np.asarray(found, dtype=float)

    @property
    def epochs(self) -> int:
        """Epochs of the configurations that got furthest."""
        return max((each.epochs for each in self.configurations if each.losses is not None), default=0)


@dataclass(frozen=True)
class Tuning:
    """The tuning phase of a study.

    Attributes:
        search: its settings.
        is_done: whether it has come to its end.
        methods: in the order of the plan.
    """

    search: Search
    is_done: bool
    methods: tuple[TunedMethod, ...]


def confirmed(results: "Results", objective: Objective, method: str) -> float:
    """Return the mean of an objective on validation over the fresh seeds of a method; NaN without any."""
    finals = results.finals
    if objective.column not in finals.columns:
        return float("nan")
    return float(finals.loc[finals["arm"] == method, objective.column].astype(float).mean())


def first_in_tuning(results: "Results") -> tuple[str, int, int] | None:
    """Return the method that came first in tuning, its place with fresh seeds on validation, and of how many.

    None where fewer than two methods have a number in both phases.
    """
    if results.tuning is None:
        return None
    objective = results.tuning.search.objective[0]
    known = {
        method.method: (method.best.losses[0], fresh)
        for method in results.tuning.methods
        if method.best is not None
        and method.best.losses is not None
        and np.isfinite(fresh := confirmed(results, objective, method.method))
    }
    if len(known) < 2:
        return None
    first = min(known, key=lambda name: known[name][0])
    sign = 1.0 if objective.direction == "minimize" else -1.0
    return first, sorted(known, key=lambda name: sign * known[name][1]).index(first) + 1, len(known)


def from_plain(content: object, where: str) -> Tuning:
    """Return what ``study.tuning`` has written.

    Raises:
        StudyError: it is no such thing.
    """
    try:
        found: Any = content
        return Tuning(
            Search.model_validate(found["search"]), bool(found["done"]), tuple(map(_method, found["methods"]))
        )
    except (KeyError, TypeError, ValueError, ValidationError, IndexError, AttributeError, StudyError) as fault:
        reason = " ".join(str(fault).split())[:120]
        raise StudyError(
            f"{where} holds no tuning phase ({reason}): run the study again, which writes it anew"
        ) from None


def _method(content: Mapping[str, Any]) -> TunedMethod:
    space = Space({str(name): dimension(_settings(plain)) for name, plain in content["space"].items()})
    configurations = tuple(_configuration(plain) for plain in content["configurations"])
    chosen = content["chosen"]
    if chosen is not None and not 0 <= chosen < len(configurations):
        raise StudyError(f"configuration {chosen} was chosen and is not there")
    return TunedMethod(
        str(content["method"]),
        space,
        configurations,
        chosen,
        tuple(int(number) for number in content["front"]),
        tuple(content["stages"]),
        {name: float(content["spent"][name]) for name in ("trials", "epochs", "seconds")},
    )


def _settings(plain: Mapping[str, Any]) -> IntervalSettings | ChoiceSettings:
    return (ChoiceSettings if "choices" in plain else IntervalSettings).model_validate(dict(plain))


def _configuration(plain: Mapping[str, Any]) -> Configuration:
    losses = plain["losses"]
    return Configuration(
        int(plain["number"]),
        dict(plain["values"]),
        str(plain["origin"]),
        str(plain["state"]),
        int(plain["epochs"]),
        None if losses is None else tuple(map(float, losses)),
        float(plain["seconds"]),
        plain["failure"],
    )


def best_of(losses: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return the expected smallest of m losses drawn without replacement, for m = 1 ... n, shapes ``(n,) -> (n,)``.

    With the losses in ascending order :math:`\sum_i l_{(i)} \binom{n-i}{m-1} / \binom{n}{m}`: what a search of m
    random trials would have found, without bias as long as the trials are alike.

    >>> best_of([3.0, 1.0, 2.0]).round(6).tolist()
    [2.0, 1.333333, 1.0]

    Reference:
        Dodge et al., "Show Your Work: Improved Reporting of Experimental Results", 2019, eq. 7.
        https://arxiv.org/abs/1909.03004; without replacement: Tang et al., "Showing Your Work Doesn't Always Work",
        2020, section 3.2. https://arxiv.org/abs/2004.13705
    """
    ordered = np.sort(np.asarray(losses, dtype=float))
    count = len(ordered)
    weights = [[comb(count - i, m - 1) / comb(count, m) for i in range(1, count + 1)] for m in range(1, count + 1)]
    found: NDArray[np.float64] = np.asarray(weights, dtype=float).reshape(count, count) @ ordered
    return found


def best_of_interval(losses: Sequence[float] | NDArray[np.float64], level: float = 0.95) -> NDArray[np.float64]:
    """Return a bootstrap interval of ``best_of`` for every m, lower and upper ends, ``(n,) -> (2, n)``.

    Percentiles over resampled sets of trials; optimistic at the right end, where a resample cannot hold a better trial
    than the best.
    """
    values = np.asarray(losses, dtype=float)
    generator = np.random.default_rng(0)
    drawn = generator.choice(values, size=(_RESAMPLES, len(values))) if len(values) else np.empty((1, 0))
    curves = np.stack([best_of(sample) for sample in drawn])
    tail = 50 * (1 - level)
    return np.asarray(np.percentile(curves, [tail, 100 - tail], axis=0))


def importances(method: TunedMethod) -> dict[str, float]:
    """Return hyperparameter -> its share in the variance of the objective, largest first, by functional ANOVA.

    Empty for one hyperparameter, for fewer than four configurations, and where all do alike.

    Reference:
        Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014.
        https://proceedings.mlr.press/v32/hutter14.html
    """
    study = as_optuna(method)
    complete = {round(trial.value, 12) for trial in study.trials if trial.value is not None}
    if len(method.space) < 2 or len(complete) < 4:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    try:
        return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))
    except (RuntimeError, ValueError):
        return {}


def as_optuna(method: TunedMethod, study: Any = None) -> Any:  # noqa: ANN401  (an Optuna study)
    """Return the configurations of a method as trials of an Optuna study, a new one in memory unless one is given.

    A new one has one objective: the first.

    Values that lie outside of their range, as a definition's own may, are told as attributes alone.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    objectives = None if study is not None else 1
    study = study or optuna.create_study(direction="minimize")
    distributions = method.space.distributions()
    for each in method.configurations:
        known = {name: value for name, value in each.values.items() if value in method.space.dimensions[name]}
        study.add_trial(
            optuna.trial.create_trial(
                state=_state(each, method.epochs),
                params={name: method.space.dimensions[name].label(value) for name, value in known.items()},
                distributions={name: distributions[name] for name in known},
                values=list(each.losses[:objectives])
                if each.losses is not None and each.epochs >= method.epochs
                else None,
                user_attrs={"number": each.number, "origin": each.origin, "state": each.state, "epochs": each.epochs}
                | {name: str(value) for name, value in each.values.items() if name not in known},
            )
        )
    return study


def _state(configuration: Configuration, epochs: int) -> Any:  # noqa: ANN401  (Optuna's own word)
    from optuna.trial import TrialState

    if configuration.state == "failed" or configuration.losses is None:
        return TrialState.FAIL
    return TrialState.COMPLETE if configuration.epochs >= epochs else TrialState.PRUNED


def at_edges(method: TunedMethod) -> list[tuple[str, Any, str]]:
    """Return the hyperparameters whose chosen value lies at the end of its range: name, value, ``low`` or ``high``."""
    if method.best is None:
        return []
    found = [(name, value, method.space.dimensions[name].edge(value)) for name, value in method.best.values.items()]
    return [(name, value, edge) for name, value, edge in found if edge is not None]


def configurations_table(tuning: Tuning) -> pd.DataFrame:
    """Return a row for every configuration: what became of it, its objectives and its hyperparameters."""
    metrics = [objective.metric for objective in tuning.search.objective]
    signs = [1.0 if objective.direction == "minimize" else -1.0 for objective in tuning.search.objective]
    entries = [
        {
            "method": method.method,
            "number": each.number,
            "chosen": each.number == method.chosen,
            "origin": each.origin,
            "state": each.state,
            "epochs": each.epochs,
            "seconds": each.seconds,
            **dict(
                zip(metrics, (sign * loss for sign, loss in zip(signs, each.losses or (), strict=False)), strict=False)
            ),
            **{name: str(value) if isinstance(value, list | tuple) else value for name, value in each.values.items()},
            "failure": each.failure,
        }
        for method in tuning.methods
        for each in method.configurations
    ]
    return pd.DataFrame(entries)
