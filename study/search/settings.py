"""What the section ``search`` of a definition may say."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from strategies.errors import suggestion, unknown
from study.errors import DefinitionError
from study.parts import Part
from study.search.space import Choice, Dimension, Interval

FIRST_SEED = 1000
"""Tuning seeds are counted from here, so that they are never those of the comparison."""

DIRECTIONS = {
    "joint_nll": "minimize",
    "nll": "minimize",
    "mse": "minimize",
    "uar": "maximize",
    "accuracy": "maximize",
    "macro_f1": "maximize",
    "ccc": "maximize",
}
"""Metric (without its task) -> which way is better, as far as that is known."""

SCHEDULER_OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "asha": {"grace": 1, "reduction": 3},
    "hyperband": {"grace": 1, "reduction": 3},
    "median": {"grace": 1, "interval": 1, "blocks": 3},
    "paired": {"grace": 1, "interval": 1, "alpha": 0.05, "test": "t"},
    "pbt": {"population": None, "interval": 1, "quantile": 0.25, "resample": 0.25},
    "pb2": {"population": None, "interval": 1, "quantile": 0.25},
}
"""Scheduler -> option -> default.

ASHA and HyperBand: Li et al. 2018 recommend a reduction of 3 or 4. Median: Ray Tune wants three trials before it ends
any. PBT: Jaderberg et al. 2017 (section 4.1.1) replace the worst 20 %; 25 %, and a quarter of the values drawn anew,
are Ray Tune's.
"""


class IntervalSettings(Part):
    """A range of numbers."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    step: float | None = None


class ChoiceSettings(Part):
    """Values that are tried one by one."""

    choices: tuple[Any, ...]


class Objective(Part):
    """What is searched for: a validation metric and which way is better."""

    metric: str
    direction: Literal["minimize", "maximize"]

    @property
    def column(self) -> str:
        """What the metric is called in a row."""
        return f"valid/{self.metric}"

    def loss(self, value: float) -> float:
        """Return a value such that smaller is better."""
        return value if self.direction == "minimize" else -value


class Budget(Part):
    """What each method may spend; the first limit that is reached ends its search."""

    trials: int | None = Field(default=None, ge=1, description="configurations, each on all tuning seeds")
    epochs: int | None = Field(default=None, ge=1, description="epochs of training, those of all seeds added")
    hours: float | None = Field(default=None, gt=0, description="hours of training, those of all seeds added")
    wall_clock_hours: float | None = Field(default=None, gt=0, description="hours since the search began")

    @model_validator(mode="after")
    def _has_an_end(self) -> "Budget":
        if all(limit is None for limit in (self.trials, self.epochs, self.hours, self.wall_clock_hours)):
            raise ValueError("a budget needs at least one of trials, epochs, hours and wall_clock_hours")
        return self


def _objective(value: object) -> object:
    """Give a metric its direction where that is known, and refuse what a search may not look at."""
    named = dict(value) if isinstance(value, Mapping) else {"metric": value}
    metric = named.get("metric")
    if not isinstance(metric, str):
        return value
    kind = metric.partition("/")[0]
    if kind in ("train", "valid", "val", "test"):
        raise ValueError("a search looks at validation alone: give the metric without its split, such as joint_nll")
    if kind == "weighted_nll":
        raise ValueError("it is at each method's own weights, and so no measure of methods; use joint_nll or nll/TASK")
    if "direction" not in named:
        if kind not in DIRECTIONS:
            raise ValueError(
                f"it is none of {', '.join(DIRECTIONS)}; for another metric say its direction: "
                f"{{metric: {metric}, direction: minimize}} or maximize{suggestion(kind, DIRECTIONS)}"
            )
        named["direction"] = DIRECTIONS[kind]
    return named


def _objectives(value: object) -> object:
    several = value if isinstance(value, list | tuple) else [value]
    if not several:
        raise ValueError("it needs a metric, such as joint_nll")
    return [_objective(one) if not isinstance(one, Objective) else one for one in several]


def _dimension_settings(value: object) -> object:
    """Read a dimension by the key it is written with, so that its mistakes are told for that kind alone."""
    if not isinstance(value, Mapping):
        raise ValueError("expected {low: ..., high: ...} or {choices: [...]}")
    kind = ChoiceSettings if "choices" in value else IntervalSettings
    for key in value:
        if key not in kind.model_fields:
            raise ValueError(unknown("key", str(key), kind.model_fields))
    settings = kind.model_validate(value)
    try:
        dimension(settings)
    except DefinitionError as refusal:
        raise ValueError(str(refusal)) from None
    return settings


def _limits(value: object) -> object:
    if not isinstance(value, Mapping | Budget):
        raise ValueError("expected limits, such as {trials: 12} or {hours: 2}")
    return value


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


Dimensions = dict[str, Annotated[IntervalSettings | ChoiceSettings, BeforeValidator(_dimension_settings)]]
"""Hyperparameter -> what may be tried."""


class Search(Part):
    """How hyperparameters are searched before the methods are compared."""

    searcher: Literal["grid", "random", "tpe", "nsga2", "nsga3", "qmc"] = "tpe"
    scheduler: Literal["none", "asha", "hyperband", "median", "paired", "pbt", "pb2"] = "none"
    objective: Annotated[tuple[Objective, ...], BeforeValidator(_objectives)] = Field(
        default=(Objective(metric="joint_nll", direction="minimize"),), min_length=1
    )
    budget: Annotated[Budget, BeforeValidator(_limits)] = Budget(trials=12)
    seeds: int = Field(
        default=1, ge=1, le=1000, description=f"tuning seeds; they are {FIRST_SEED}, {FIRST_SEED + 1}, ..."
    )
    parallel: int = Field(
        default=4, ge=1, le=10_000, description="configurations of a method at a time; the results depend on it"
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="of the searcher")
    space: Dimensions = Field(
        default_factory=dict, description="hyperparameter -> range; overrides what methods declare"
    )
    methods: dict[str, Dimensions] = Field(default_factory=dict, description="method -> its own part of the space")
    start_from: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        default=(), description="studies whose configurations are tried first"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="of the scheduler")

    @model_validator(mode="after")
    def _consistent(self) -> "Search":
        metrics = [objective.metric for objective in self.objective]
        if len({*metrics}) < len(metrics):
            raise ValueError(f"objective names a metric twice: {', '.join(metrics)}")
        self._check_company()
        self._check_options()
        return self

    def _check_company(self) -> None:
        """Refuse a searcher and a scheduler that cannot work together."""
        several = len(self.objective) > 1
        if several and self.scheduler != "none":
            raise ValueError(
                f"scheduler {self.scheduler} needs one objective, and there are {len(self.objective)}; use none"
            )
        if self.searcher in ("nsga2", "nsga3") and self.scheduler != "none":
            raise ValueError(
                f"scheduler {self.scheduler} cannot work with searcher {self.searcher}, which breeds whole trials: "
                "use scheduler none, or one of the searchers grid, random, tpe, qmc"
            )
        if self.scheduler in ("pbt", "pb2") and self.searcher not in ("random", "qmc"):
            raise ValueError(
                f"scheduler {self.scheduler} cannot work with searcher {self.searcher}, as it finds new values itself: "
                "use searcher random or qmc for its first population"
            )

        if self.searcher == "grid" and self.start_from:
            raise ValueError("start_from: a grid tries its own points alone: leave it out, or use another searcher")

    def _check_options(self) -> None:
        known = SCHEDULER_OPTIONS[self.scheduler]
        for name, value in self.options.items():
            if name not in known:
                raise ValueError(f"options: {unknown(f'option of scheduler {self.scheduler}', name, known)}")
            if (mistake := _option_mistake(name, value)) is not None:
                raise ValueError(f"options.{name} is {value!r}: {mistake}")
        if self.scheduler == "paired" and self.seeds < 2:
            raise ValueError("scheduler paired tests over seeds and needs at least 2, such as seeds: 3")
        if (
            self.scheduler == "paired"
            and self.option("test") == "wilcoxon"
            and 2.0 ** (1 - self.seeds) >= self.option("alpha")
        ):
            raise ValueError(
                f"options.test is wilcoxon: with {self.seeds} seeds its p is never below {2.0 ** (1 - self.seeds):g}, "
                f"and so never below alpha {self.option('alpha'):g}: use more seeds, or test t"
            )

    def option(self, name: str) -> Any:  # noqa: ANN401  (whatever the option takes)
        """Return an option of the scheduler, its default where nothing else is said."""
        return self.options.get(name, SCHEDULER_OPTIONS[self.scheduler][name])

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The tuning seeds."""
        return tuple(range(FIRST_SEED, FIRST_SEED + self.seeds))


def dimension(settings: IntervalSettings | ChoiceSettings) -> Dimension:
    """Return what a definition says as a dimension.

    Raises:
        DefinitionError: it is empty or contradicts itself; without saying which hyperparameter.
    """
    if isinstance(settings, ChoiceSettings):
        return Choice(settings.choices)
    return Interval(**settings.model_dump())


_WHOLE = {"grace": 1, "interval": 1, "reduction": 2, "blocks": 1, "population": 2}
_SHARES = {"alpha": 1.0, "quantile": 0.5, "resample": 1.0}


def _option_mistake(name: str, value: object) -> str | None:
    """Return what is wrong with an option's value, or None."""
    if name == "test":
        return None if value in ("t", "wilcoxon") else "expected t or wilcoxon"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "expected a number"
    if name in _WHOLE and (not isinstance(value, int) or value < _WHOLE[name]):
        return f"expected a whole number of at least {_WHOLE[name]}"
    if name in _SHARES and not 0 < value <= _SHARES[name]:
        return f"expected a number above 0 and at most {_SHARES[name]:g}"
    return None
