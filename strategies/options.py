"""Options of a class: its keyword-only constructor arguments, their checks and their documentation."""

import inspect
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from strategies.errors import StrategyError, UserError, unknown


@dataclass(frozen=True)
class Range:
    """The values of a number that are worth searching.

    Attributes:
        low: smallest value.
        high: largest value, above ``low``.
        log: whether to search on a logarithmic scale.
        integer: whether only whole numbers count.

    >>> str(Range(0.001, 0.1, log=True)), str(Range(1, 5, integer=True))
    ('0.001..0.1 (log)', '1..5 (integer)')

    Raises:
        StrategyError: an empty range, or a logarithmic one that reaches 0.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or not all(map(math.isfinite, (self.low, self.high))):
            raise StrategyError(f"a range from {self.low} to {self.high} is empty")
        if self.log and self.low <= 0:
            raise StrategyError(f"a logarithmic range starts at {self.low}, but must start above 0")

    def __str__(self) -> str:
        kinds = [name for name in ("log", "integer") if getattr(self, name)]
        return f"{self.low:g}..{self.high:g}" + (f" ({', '.join(kinds)})" if kinds else "")


@dataclass(frozen=True)
class Choices:
    """The values that are worth trying, one by one.

    >>> str(Choices(("mean", "replay")))
    'mean | replay'
    """

    values: tuple[object, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.values))


@dataclass(frozen=True)
class OptionDescription:
    """One option of a strategy.

    Attributes:
        name: the keyword.
        default: its default value; None if it is required.
        required: whether it must be given.
        doc: what it means and where the default comes from, one line from the ``Args`` section of the class.
        search: what is worth searching, in words; empty where the class declares no range.
    """

    name: str
    default: object
    required: bool
    doc: str
    search: str = ""


def option_names(target: type) -> list[str]:
    """Return the names of the keyword-only parameters of ``target.__init__``, in order."""
    return [parameter.name for parameter in _options(target)]


def check_options(kind: str, target: type, options: Iterable[str], error: type[UserError]) -> None:
    """Refuse option names that ``target.__init__`` does not take as keywords.

    Raises:
        UserError: with the names it does take and the nearest one.
    """
    known = option_names(target)
    for name in options:
        if name not in known:
            raise error(unknown(f"option of {kind}", name, known))


def missing_options(target: type, options: Iterable[str]) -> list[str]:
    """Return the names of the options without a default that are not among ``options``."""
    given = set(options)
    return [option.name for option in describe_options(target) if option.required and option.name not in given]


def describe_options(target: type) -> list[OptionDescription]:
    """Return every option of a class: defaults from its signature, meaning from its Google style docstring."""
    meanings = argument_docs(inspect.getdoc(target) or "")
    tunable = getattr(target, "tunable", {})
    return [
        OptionDescription(
            name=parameter.name,
            default=None if parameter.default is parameter.empty else parameter.default,
            required=parameter.default is parameter.empty,
            doc=meanings.get(parameter.name, ""),
            search=str(tunable.get(parameter.name, "")),
        )
        for parameter in _options(target)
    ]


def argument_docs(docstring: str) -> dict[str, str]:
    r"""Return argument -> meaning from the ``Args`` section of a Google style docstring, each as one line.

    >>> argument_docs("Scale.\n\nArgs:\n    alpha: how much,\n        1.5 by default.\n\nReturns:\n    nothing: at all")
    {'alpha': 'how much, 1.5 by default.'}
    """
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^    (\w+):(.*(?:\n {5,}.*)*)", section[1] if section else "", flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def checked_number(name: str, value: object, *, minimum: float, exclusive: bool = False) -> float:
    """Return ``value`` if it is a finite number of at least ``minimum`` (or above it).

    >>> checked_number("alpha", 1.5, minimum=0)
    1.5

    Raises:
        StrategyError: anything else, with the value found.
    """
    rule = f"a number {'above' if exclusive else 'of at least'} {minimum:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise StrategyError(f"option '{name}' is {value!r}, but must be {rule}")
    if value < minimum or (exclusive and value == minimum):
        raise StrategyError(f"option '{name}' is {value!r}, but must be {rule}")
    return float(value)


def checked_whole_number(name: str, value: object, *, minimum: int) -> int:
    """Return ``value`` if it is a whole number of at least ``minimum``.

    >>> checked_whole_number("warmup_epochs", 4, minimum=0)
    4

    Raises:
        StrategyError: anything else, with the value found.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise StrategyError(f"option '{name}' is {value!r}, but must be a whole number of at least {minimum}")
    return value


def checked_share(name: str, value: object) -> float:
    """Return ``value`` if it is a number from 0 to 1.

    >>> checked_share("leak", 0.2)
    0.2

    Raises:
        StrategyError: anything else, with the value found.
    """
    number = checked_number(name, value, minimum=0)
    if number > 1:
        raise StrategyError(f"option '{name}' is {value!r}, but must be a number from 0 to 1")
    return number


def checked_choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of the names allowed.

    Raises:
        StrategyError: anything else, with the nearest name.
    """
    names = tuple(allowed)
    if value not in names:
        raise StrategyError(unknown(name, str(value), names))
    return str(value)


def checked_learning_rate(value: object) -> float | None:
    """Return a strategy's own learning rate: a number above 0, or None for that of the network.

    Raises:
        StrategyError: anything else, with the value found.
    """
    return None if value is None else checked_number("learning_rate", value, minimum=0, exclusive=True)


def _options(target: type) -> list[inspect.Parameter]:
    parameters = inspect.signature(target).parameters.values()
    return [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
