"""Which hyperparameters each method has: what its strategy declares, and what the definition says."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from strategies.errors import unknown
from strategies.options import Choices, Range
from study.errors import DefinitionError
from study.search.settings import Dimensions, Search, dimension
from study.search.space import Dimension, Interval, Space, from_tunable

LEARNING_RATE = "training.learning_rate"
"""Always searched: published gains vanish when that of the baseline is tuned (Kurin et al. 2022, Xin et al. 2022)."""

LEARNING_RATES = Interval(1e-5, 1e-2, log=True)
"""Where nothing else is said: Adam's usual 1e-3 and what papers on multi-task learning settle on lie within."""

_STRATEGY = "strategy."


@dataclass(frozen=True)
class Declared:
    """What is known of a method before the definition is asked.

    Attributes:
        tunable: option of its strategy -> what is worth searching.
        options: all options of its strategy.
        fixed: options that the definition gives a value, which are searched only if its space names them.
        own: hyperparameters that are neither the learning rate nor an option, such as the weights of the static grid.
    """

    tunable: Mapping[str, Range | Choices] = field(default_factory=dict)
    options: Collection[str] = ()
    fixed: Collection[str] = ()
    own: Mapping[str, Dimension] = field(default_factory=dict)


def method_spaces(methods: Mapping[str, Declared], settings: Search, shared: Collection[str]) -> dict[str, Space]:
    """Return the space of every method: the learning rate, what is its own, and what the definition adds.

    Keys of ``search.space`` hold for every method, but ``strategy.OPTION`` for those whose strategy has the option, and
    ``strategy.METHOD.OPTION`` for that method; ``search.methods`` wins over both.

    Args:
        methods: name -> what is known of it.
        settings: the section ``search``.
        shared: keys that hold for any method, such as ``training.weight_decay``.

    Raises:
        DefinitionError: a method, option or setting that does not exist, with the nearest name.
    """
    for name in settings.methods:
        if name not in methods:
            raise DefinitionError(f"search.methods: {unknown('method', name, methods)}")
    _check_keys(settings.space, methods, shared)
    for name, own in settings.methods.items():
        _check_own_keys(name, own, methods[name], shared)
    return {name: Space(_dimensions(name, declared, settings)) for name, declared in methods.items()}


def _check_keys(space: Dimensions, methods: Mapping[str, Declared], shared: Collection[str]) -> None:
    every = {option for declared in methods.values() for option in declared.options}
    for key in space:
        method, dot, option = key.removeprefix(_STRATEGY).partition(".")
        if not key.startswith(_STRATEGY):
            _require(key, [*shared, *(f"{_STRATEGY}{option}" for option in every)], "search.space", "hyperparameter")
        elif not dot:
            _require(method, every, "search.space", "option of the strategies")
        else:
            _require(method, methods, f"search.space.{key}", "method")
            _require(option, methods[method].options, f"search.space.{key}", f"option of {method}")


def _check_own_keys(name: str, own: Dimensions, declared: Declared, shared: Collection[str]) -> None:
    known = [*shared, *(f"{_STRATEGY}{option}" for option in declared.options)]
    for key in own:
        _require(key, known, f"search.methods.{name}", "hyperparameter")


def _require(name: str, known: Collection[str], where: str, kind: str) -> None:
    if name not in known:
        raise DefinitionError(f"{where}: {unknown(kind, name, known)}")


def _dimensions(name: str, declared: Declared, settings: Search) -> dict[str, Dimension]:
    free = {option: values for option, values in declared.tunable.items() if option not in declared.fixed}
    found: dict[str, Dimension] = {LEARNING_RATE: LEARNING_RATES, **declared.own}
    found |= {f"{_STRATEGY}{option}": from_tunable(values) for option, values in free.items()}
    for key, given in settings.space.items():
        if not key.startswith(_STRATEGY):
            found[key] = dimension(given)
            continue
        method, dot, option = key.removeprefix(_STRATEGY).partition(".")
        if not dot and method in declared.options:
            found[key] = dimension(given)
        elif dot and method == name:
            found[f"{_STRATEGY}{option}"] = dimension(given)
    return found | {key: dimension(given) for key, given in settings.methods.get(name, {}).items()}
