"""Names of things that can be plugged in, and how to load one of them.

A registry is a literal table for what ships with the project plus the entry points of installed distributions, read
through one code path. Listing imports nothing: only the chosen entry is loaded, so a broken plug-in breaks nobody but
its own users. (A table and not only entry points, because a worker that was given nothing but a working directory has
no distribution metadata.)
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from strategies.base import Strategy
from strategies.errors import StrategyError, UserError, unknown
from strategies.options import OptionDescription, check_options, describe_options, missing_options, option_names

__all__ = [
    "GROUP",
    "REGISTRY",
    "OptionDescription",
    "Registry",
    "StrategyDescription",
    "check_options",
    "create",
    "describe",
    "load",
    "names",
    "option_names",
]

GROUP = "study.strategies"
PROJECT = "weighting-study"
"""The distribution that the built-in entries come with."""


@dataclass(frozen=True)
class StrategyDescription:
    """What a person wants to know of a strategy before using it.

    Attributes:
        name: the name it is registered under.
        summary: one line.
        reference: the paper, with equation and url.
        text: the whole docstring of the class: formula, notes, defaults and their sources.
        options: its options, in the order of the constructor.
        module: where its class is defined.
        distribution: the installed distribution that registers it.
    """

    name: str
    summary: str
    reference: str
    text: str
    options: tuple[OptionDescription, ...]
    module: str
    distribution: str


class Registry:
    """The named entries of one kind of plug-in (strategies, networks, corpora).

    Args:
        kind: what an entry is called in messages, such as ``"strategy"``.
        group: the entry-point group that other distributions register in.
        builtins: name -> ``"module:attribute"`` of the entries that ship with the project.
        error: the exception raised for every mistake.
    """

    def __init__(self, kind: str, group: str, builtins: Mapping[str, str], error: type[UserError]) -> None:
        self.kind = kind
        self.group = group
        self.error = error
        self._builtins = [EntryPoint(name, value, group) for name, value in builtins.items()]

    def entries(self) -> dict[str, EntryPoint]:
        """Return every entry by name, built-in ones first; nothing is imported.

        Raises:
            UserError: two distributions (or one and the project) register the same name.
        """
        found: dict[str, EntryPoint] = {}
        for entry in [*self._builtins, *entry_points(group=self.group)]:
            other = found.setdefault(entry.name, entry)
            if other.value != entry.value:
                raise self.error(
                    f"{self.kind} '{entry.name}' is registered twice, as {other.value} and as {entry.value}: "
                    "uninstall one of the two or rename it"
                )
        return found

    def distribution(self, name: str) -> str:
        """Return the name of the distribution that registers the entry called ``name``."""
        origin = self.entries()[name].dist
        return PROJECT if origin is None else origin.name

    def names(self) -> list[str]:
        """Return the names of all entries, built-in ones first, in the order of their registration."""
        return list(self.entries())

    def load(self, name: str) -> Any:  # noqa: ANN401  (what an entry is depends on the registry)
        """Import and return the entry called ``name``.

        Raises:
            UserError: there is no such entry, or importing it failed.
        """
        entries = self.entries()
        if name not in entries:
            raise self.error(unknown(self.kind, name, entries))
        try:
            return entries[name].load()
        except Exception as failure:
            raise self.error(
                f"{self.kind} '{name}' ({entries[name].value}) cannot be loaded: {type(failure).__name__}: {failure}"
            ) from failure


REGISTRY = Registry(
    "strategy",
    GROUP,
    {
        "static": "strategies.static:StaticWeighting",
        "equal": "strategies.static:EqualWeighting",
        "single_task": "strategies.static:SingleTaskWeighting",
        "softmax": "strategies.softmax:SoftmaxWeighting",
        "uncertainty": "strategies.uncertainty:UncertaintyWeighting",
        "gradnorm": "strategies.gradnorm:GradNorm",
    },
    StrategyError,
)


def names() -> list[str]:
    """Return the names of all strategies, the project's own first."""
    return REGISTRY.names()


def load(name: str) -> type[Strategy]:
    """Return the class of the strategy called ``name``.

    Raises:
        StrategyError: unknown name, broken plug-in, or an entry that is no strategy.
    """
    loaded = REGISTRY.load(name)
    if not (isinstance(loaded, type) and issubclass(loaded, Strategy)):
        raise StrategyError(f"strategy '{name}' is {loaded!r}, which is not a subclass of strategies.Strategy")
    return loaded


def create(name: str, num_tasks: int, **options: Any) -> Strategy:  # noqa: ANN401  (options are the strategy's own)
    """Build the strategy called ``name`` for ``num_tasks`` tasks.

    >>> create("static", 2, weights=[0.3, 0.7]).describe_options()
    {'weights': [0.3, 0.7]}

    Raises:
        StrategyError: unknown strategy or option, or a value that the strategy refuses.
    """
    strategy = load(name)
    check_options(f"strategy '{name}'", strategy, options, StrategyError)
    if missing := missing_options(strategy, options):
        raise StrategyError(f"strategy '{name}' needs the option '{missing[0]}'")
    try:
        return strategy(num_tasks, **options)
    except StrategyError as refusal:
        raise StrategyError(f"strategy '{name}': {refusal}") from None
    except (TypeError, ValueError) as mismatch:
        raise StrategyError(f"strategy '{name}': {mismatch}") from mismatch


def describe(name: str) -> StrategyDescription:
    """Return what there is to know of the strategy called ``name``.

    >>> [(option.name, option.default) for option in describe("gradnorm").options]
    [('alpha', 1.5), ('initial_loss', 'first'), ('learning_rate', 0.025)]

    Raises:
        StrategyError: unknown name, broken plug-in, or an entry that is no strategy.
    """
    strategy = load(name)
    text = inspect.getdoc(strategy) or ""
    return StrategyDescription(
        name=name,
        summary=strategy.summary or text.partition("\n")[0],
        reference=strategy.reference,
        text=text,
        options=tuple(describe_options(strategy)),
        module=strategy.__module__,
        distribution=REGISTRY.distribution(name),
    )
