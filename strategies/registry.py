"""The strategies by name: what exists, what each is, and how to build one."""

import inspect
from dataclasses import dataclass
from typing import Any

from strategies.base import Strategy
from strategies.errors import StrategyError
from strategies.options import OptionDescription, check_options, describe_options, missing_options, option_names
from strategies.plugins import Registry

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
    Strategy,
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
    return REGISTRY.load(name)


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
