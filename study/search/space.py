"""What may be tried: the hyperparameters of a method and the values that each of them may have."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

from strategies.errors import unknown
from strategies.options import Choices, Range
from study.errors import DefinitionError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Values = Mapping[str, Any]
"""Hyperparameter -> value."""


class Dimension(Protocol):
    """The values that one hyperparameter may have; every dimension maps onto the unit interval and back."""

    def at(self, unit: float) -> Any:  # noqa: ANN401  (whatever the hyperparameter takes)
        """Return the value at a place from 0 to 1; equal stretches of the unit interval are equally likely."""
        ...

    def unit(self, value: object) -> float:
        """Return the place of a value of this dimension, from 0 to 1."""
        ...

    def grid(self, levels: int) -> tuple[Any, ...]:
        """Return the values of a grid: all where they can be counted, else ``levels`` of them, both ends included."""
        ...

    def __contains__(self, value: object) -> bool:
        """Whether a value may be tried."""
        ...

    def neighbour(self, value: object, factor: float) -> Any:  # noqa: ANN401
        """Return a value nearby: scaled by ``factor``; of choices the next if that is above 1, else the one before."""
        ...

    def edge(self, value: object) -> str | None:
        """Return ``"low"`` or ``"high"`` if a value lies at that end of a range, within 1 % of its width."""
        ...

    def distribution(self) -> "BaseDistribution":
        """Return the same for Optuna."""
        ...

    def label(self, value: object) -> Any:  # noqa: ANN401
        """Return a value as Optuna stores it: choices that are no scalars become their text."""
        ...

    def unlabelled(self, label: object) -> Any:  # noqa: ANN401
        """Return the value that Optuna stores as ``label``."""
        ...


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        low: smallest value.
        high: largest value.
        log: whether to search on a logarithmic scale.
        integer: whether only whole numbers count.
        step: distance of the values counted from ``low``; None for all. Whole numbers have 1.

    >>> Interval(1e-4, 1e-2, log=True).at(0.5)
    0.001
    >>> Interval(0, 10, integer=True, step=5).grid(99)
    (0, 5, 10)

    Raises:
        DefinitionError: upside down, empty, or logarithmic where that cannot be; without saying which hyperparameter.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.low, self.high))):
            raise DefinitionError(f"a range from {self.low:g} to {self.high:g} has no end")
        if self.low > self.high:
            raise DefinitionError(f"the range is upside down: low {self.low:g} is above high {self.high:g}")
        if self.low == self.high:
            raise DefinitionError(f"the range from {self.low:g} to {self.high:g} holds one value: nothing to search")
        if self.log and self.low <= 0:
            raise DefinitionError(f"a logarithmic range must start above 0, and starts at {self.low:g}")
        self._check_steps()

    def _check_steps(self) -> None:
        if self.integer and any(not float(end).is_integer() for end in (self.low, self.high, self.step or 1)):
            raise DefinitionError(
                f"a range of whole numbers from {self.low:g} to {self.high:g} needs whole ends and steps"
            )
        if self.step is None:
            return
        if self.log:
            raise DefinitionError("a range cannot have both log and step: on a logarithmic scale steps are not equal")
        if not 0 < self.step <= self.high - self.low:
            raise DefinitionError(f"step {self.step:g} must be above 0 and at most {self.high - self.low:g}, the width")

    def __str__(self) -> str:
        kinds = [name for name in ("log", "integer") if getattr(self, name)]
        kinds += [f"step {self.step:g}"] if self.step is not None else []
        return f"{self.low:g}..{self.high:g}" + (f" ({', '.join(kinds)})" if kinds else "")

    @property
    def _countable(self) -> float | None:
        """Distance of the values where they can be counted."""
        return self.step if self.step is not None else 1.0 if self.integer else None

    @property
    def _top(self) -> float:
        """The largest value that steps reach."""
        if self._countable is None:
            return self.high
        return round(self.low + math.floor((self.high - self.low) / self._countable + 1e-9) * self._countable, 12)

    def at(self, unit: float) -> float | int:
        """Return the value at a place from 0 to 1."""
        if self._countable is not None and not self.log:
            number = round((self._top - self.low) / self._countable) + 1
            return self._tidy(self.low + min(int(unit * number), number - 1) * self._countable)
        low, high = (self.low - 0.5, self.high + 0.5) if self.integer else (self.low, self.high)
        if self.log:
            value = math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
        else:
            value = low + unit * (high - low)
        return self._tidy(value)

    def _tidy(self, value: float) -> float | int:
        """Return a value within the range, without the digits that floating point makes up."""
        bounded = min(max(value, self.low), self._top)
        return round(bounded) if self.integer else float(f"{bounded:.12g}")

    def unit(self, value: object) -> float:
        """Return the place of a value, from 0 to 1."""
        number = min(max(float(str(value)), self.low), self.high)
        if self.log:
            return math.log(number / self.low) / math.log(self.high / self.low)
        return (number - self.low) / (self.high - self.low)

    def grid(self, levels: int) -> tuple[float | int, ...]:
        """Return all values if there are at most ``levels`` or steps are given, else ``levels``, both ends included."""
        count = None if self._countable is None else round((self._top - self.low) / self._countable) + 1
        if count is not None and (self.step is not None or count <= levels):
            return tuple(self._tidy(self.low + number * float(self._countable or 1)) for number in range(count))
        return tuple(dict.fromkeys(self._on_scale(number / (levels - 1)) for number in range(levels)))

    def _on_scale(self, unit: float) -> float | int:
        """Return the value at a place between the very ends, which for whole numbers are no wider than the others."""
        if self.log:
            return self._tidy(self.low * (self.high / self.low) ** unit)
        return self._tidy(self.low + unit * (self.high - self.low))

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.integer and not float(value).is_integer():
            return False
        steps = (value - self.low) / (self._countable or 1)
        return self._countable is None or self.step is None or math.isclose(steps, round(steps), abs_tol=1e-8)

    def neighbour(self, value: object, factor: float) -> float | int:
        """Return the value scaled by ``factor``, within the range, on its steps, and another one where there is one."""
        number = float(str(value))
        wanted = number * factor
        if self._countable is None:
            return self._tidy(wanted)
        steps = round((wanted - self.low) / self._countable)
        if self._tidy(self.low + steps * self._countable) == number:
            steps += 1 if factor > 1 else -1
        return self._tidy(self.low + steps * self._countable)

    def edge(self, value: object) -> str | None:
        """Return ``"low"`` or ``"high"`` if a value lies within 1 % of the width of that end."""
        if not isinstance(value, int | float):
            return None
        place = self.unit(value)
        return "low" if place <= 0.01 else "high" if place >= 0.99 or value >= self._top else None

    def distribution(self) -> "BaseDistribution":
        """Return the same for Optuna."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.integer:
            return IntDistribution(int(self.low), int(self._top), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self._top, log=self.log, step=self.step)

    def label(self, value: object) -> Any:  # noqa: ANN401
        """Return the value: numbers are stored as they are."""
        return value

    def unlabelled(self, label: object) -> Any:  # noqa: ANN401
        """Return the value: numbers are stored as they are."""
        return label


@dataclass(frozen=True)
class Choice:
    """Values that are tried one by one; neighbours in the list are taken for alike by schedulers that perturb.

    >>> Choice(("mean", "replay")).at(0.7)
    'replay'

    Raises:
        DefinitionError: fewer than two, or one of them twice; without saying which hyperparameter.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise DefinitionError(f"{len(self.values)} choices: a search needs at least two")
        repeated = [value for number, value in enumerate(self.values) if value in self.values[:number]]
        if repeated:
            raise DefinitionError(f"the choices repeat {repeated[0]!r}: each may be there once")

    @property
    def _labels(self) -> list[str]:
        return [json.dumps(value, sort_keys=True, default=str) for value in self.values]

    def __str__(self) -> str:
        return " | ".join(map(str, self.values))

    def at(self, unit: float) -> Any:  # noqa: ANN401
        """Return the choice at a place from 0 to 1."""
        return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]

    def unit(self, value: object) -> float:
        """Return the place of a choice: the middle of its stretch."""
        return (self.index(value) + 0.5) / len(self.values)

    def index(self, value: object) -> int:
        """Return the number of a choice; lists and tuples of the same values are the same."""
        return self._labels.index(json.dumps(value, sort_keys=True, default=str))

    def grid(self, levels: int) -> tuple[Any, ...]:  # noqa: ARG002  (a door of all dimensions)
        """Return all choices."""
        return self.values

    def __contains__(self, value: object) -> bool:
        return json.dumps(value, sort_keys=True, default=str) in self._labels

    def neighbour(self, value: object, factor: float) -> Any:  # noqa: ANN401
        """Return the next choice if ``factor`` is above 1, else the one before; at the ends the only neighbour."""
        here, last = self.index(value), len(self.values) - 1
        step = 1 if factor > 1 else -1
        return self.values[here + step if 0 <= here + step <= last else here - step]

    def edge(self, value: object) -> str | None:  # noqa: ARG002  (a door of all dimensions)
        """Return None: choices have no order."""
        return None

    def distribution(self) -> "BaseDistribution":
        """Return the same for Optuna."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([self.label(value) for value in self.values])

    def label(self, value: object) -> Any:  # noqa: ANN401
        """Return a choice as Optuna stores it: text where it is no scalar."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        return json.dumps(value, default=str)

    def unlabelled(self, label: object) -> Any:  # noqa: ANN401
        """Return the choice that Optuna stores as ``label``."""
        return next(value for value in self.values if self.label(value) == label)


@dataclass(frozen=True)
class Space:
    """The hyperparameters of one method, in order.

    >>> space = Space({"training.learning_rate": Interval(1e-4, 1e-2, log=True), "strategy.leak": Choice((0, 0.5))})
    >>> space.at([0.5, 0.9])
    {'training.learning_rate': 0.001, 'strategy.leak': 0.5}
    """

    dimensions: Mapping[str, Dimension]

    def __iter__(self) -> Iterator[str]:
        return iter(self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def at(self, units: Any) -> dict[str, Any]:  # noqa: ANN401  (any sequence of numbers, arrays too)
        """Return the values at a place in the unit cube, one coordinate for each hyperparameter."""
        return {
            name: dimension.at(float(unit))
            for (name, dimension), unit in zip(self.dimensions.items(), units, strict=True)
        }

    def holds(self, values: Values) -> bool:
        """Whether values are a point of this space."""
        if values.keys() != self.dimensions.keys():
            return False
        return all(values[name] in dimension for name, dimension in self.dimensions.items())

    def check(self, values: Values, where: str) -> None:
        """Refuse values that are no point of this space.

        Raises:
            DefinitionError: an unknown or missing hyperparameter, or a value outside of its range.
        """
        for name in values:
            if name not in self.dimensions:
                raise DefinitionError(f"{where}: {unknown('hyperparameter', name, self.dimensions)}")
        for name, dimension in self.dimensions.items():
            if name not in values:
                raise DefinitionError(f"{where}: it has no {name}, which is searched here: it comes from another space")
            if values[name] not in dimension:
                raise DefinitionError(f"{where}: {name} is {values[name]!r}, outside of what is searched: {dimension}")

    def grid(self, most: int | None) -> list[dict[str, Any]]:
        """Return the points of a grid, the last hyperparameter changing fastest.

        Ranges without steps get as many levels as fit into ``most`` points, the same for all of them: a method with
        more hyperparameters gets a coarser grid, not more trials.

        Args:
            most: largest number of points; None for 5 levels in each range.

        Raises:
            DefinitionError: even two levels a range are too many.
        """
        levels = 5 if most is None else self._levels(most)
        axes = [dimension.grid(levels) for dimension in self.dimensions.values()]
        return [dict(zip(self.dimensions, point, strict=True)) for point in product(*axes)]

    def _levels(self, most: int) -> int:
        def count(levels: int) -> int:
            return math.prod(len(dimension.grid(levels)) for dimension in self.dimensions.values())

        if count(2) > most:
            raise DefinitionError(
                f"a grid over {', '.join(self.dimensions)} has at least {count(2)} points, "
                f"but the budget has {most} trials: raise it, narrow the space, or use another searcher"
            )
        levels = 2
        while levels < most and count(levels + 1) <= most:
            levels += 1
        return levels

    def distributions(self) -> dict[str, "BaseDistribution"]:
        """Return the same for Optuna."""
        return {name: dimension.distribution() for name, dimension in self.dimensions.items()}

    def labels(self, values: Values) -> dict[str, Any]:
        """Return values as Optuna stores them."""
        return {name: dimension.label(values[name]) for name, dimension in self.dimensions.items()}

    def unlabelled(self, labels: Values) -> dict[str, Any]:
        """Return the values that Optuna stores as ``labels``."""
        return {name: dimension.unlabelled(labels[name]) for name, dimension in self.dimensions.items()}


def from_tunable(declared: Range | Choices) -> Dimension:
    """Return what a strategy declares as worth searching.

    >>> print(from_tunable(Range(1, 5, integer=True)))
    1..5 (integer)
    """
    if isinstance(declared, Choices):
        return Choice(tuple(declared.values))
    return Interval(declared.low, declared.high, declared.log, declared.integer)
