"""Run the conformance kit on a class and say how each check ended; nothing is printed here."""

import contextlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from strategies import registry
from strategies.base import Strategy
from strategies.errors import StrategyError, suggestion, unknown
from strategies.options import check_options, missing_options
from strategies.testing import CHECKS, NUM_TASKS, Make, NotApplicable, factory

Outcome = Literal["ok", "failed", "not applicable"]


@dataclass(frozen=True)
class Verdict:
    """How one check ended.

    Attributes:
        check: its name in words, such as ``"resumes exactly"``.
        outcome: ``ok``, ``failed`` or ``not applicable``.
        reason: why, in one line; empty if it is ok.
        proves: what the check asks for, in one line.
    """

    check: str
    outcome: Outcome
    reason: str
    proves: str


@contextlib.contextmanager
def importable_from(folder: Path) -> Iterator[None]:
    """Let modules that lie in ``folder`` be imported, as ``python -m`` does."""
    path = str(folder.resolve())
    sys.path.insert(0, path)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(path)


def find(target: str) -> type[Strategy]:
    """Return the strategy that ``target`` means: a registered name, or ``package.module:Class``.

    >>> find("strategies.static:EqualWeighting") is find("equal")
    True

    Raises:
        StrategyError: no such name, module or class, a module that cannot be imported, or a class that is no strategy.
    """
    module_name, colon, class_name = target.partition(":")
    if not colon:
        return _registered(target)
    if not class_name or not all(part.isidentifier() for part in module_name.split(".")):
        raise StrategyError(f"'{target}' is neither a registered name nor written package.module:Class")
    return _class_of(_import(module_name), class_name)


def examine(strategy: type[Strategy], options: Mapping[str, Any] | None = None) -> list[Verdict]:
    """Run every check of the kit on a class and return the verdicts, in the order of ``strategies.testing.CHECKS``.

    A check that cannot be run to its end has failed, whatever it was that stopped it.

    Args:
        strategy: the class.
        options: options to build it with, above its ``example_options``.

    Raises:
        StrategyError: an option that the class does not take, or values that it refuses for any number of tasks.
    """
    given = dict(options or {})
    check_options(f"strategy {strategy.__name__}", strategy, given, StrategyError)
    make = factory(strategy, **given)
    _require_buildable(strategy, make, given)
    return [_verdict(check, make, strategy) for check in CHECKS]


def _registered(name: str) -> type[Strategy]:
    known = registry.names()
    if name not in known and name not in registry.REGISTRY.clashes():
        raise StrategyError(f"{unknown('strategy', name, known)}; a class of your own is written package.module:Class")
    return registry.load(name)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as failure:
        if failure.name is not None and f"{name}.".startswith(f"{failure.name}."):
            raise StrategyError(f"there is no module '{failure.name}' here or among what is installed") from failure
        raise StrategyError(f"module '{name}' cannot be imported: {_described(failure)}") from failure
    except (Exception, SystemExit) as failure:
        raise StrategyError(f"module '{name}' cannot be imported: {_described(failure)}") from failure


def _class_of(module: ModuleType, name: str) -> type[Strategy]:
    own = [key for key, value in vars(module).items() if _is_strategy(value) and value.__module__ == module.__name__]
    if not hasattr(module, name):
        known = f"its strategies: {', '.join(own) or 'none'}"
        raise StrategyError(f"module '{module.__name__}' has no class '{name}' ({known}){suggestion(name, own)}")
    found = getattr(module, name)
    if not _is_strategy(found):
        raise StrategyError(f"'{module.__name__}:{name}' is {found!r}, which is not a subclass of strategies.Strategy")
    strategy: type[Strategy] = found
    return strategy


def _is_strategy(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Strategy)


def _require_buildable(strategy: type[Strategy], make: Make, given: Mapping[str, Any]) -> None:
    """Refuse options that no check could use; a class that breaks in any other way is for the checks to tell."""
    refusals = []
    for num_tasks in NUM_TASKS:
        try:
            make(num_tasks)
        except StrategyError as refusal:
            refusals.append(refusal)
        except Exception:
            if missing := _without_value(strategy, given):
                raise StrategyError(
                    f"{strategy.__name__} needs the option '{missing}': give it with --option {missing}=VALUE, or let "
                    "the class return an example in example_options"
                ) from None
            return
    if len(refusals) == len(NUM_TASKS):
        raise StrategyError(f"{strategy.__name__} cannot be built: {refusals[-1]}")


def _without_value(strategy: type[Strategy], given: Mapping[str, Any]) -> str | None:
    try:
        missing = missing_options(strategy, {**strategy.example_options(NUM_TASKS[-1]), **given})
    except Exception:
        return None
    return missing[0] if missing else None


def _verdict(check: Callable[[Make], None], make: Make, strategy: type[Strategy]) -> Verdict:
    outcome: Outcome = "ok"
    reason = ""
    try:
        check(make)
    except NotApplicable as excuse:
        outcome, reason = "not applicable", _one_line(excuse)
    except AssertionError as fault:
        outcome, reason = "failed", _one_line(fault) or f"an assertion of its own{_place(fault, strategy)}"
    except (Exception, SystemExit) as crash:
        outcome, reason = "failed", f"{_described(crash)}{_place(crash, strategy)}"
    proves = " ".join((inspect.getdoc(check) or "").partition("\n\n")[0].split())
    return Verdict(check.__name__.removeprefix("check_").replace("_", " "), outcome, reason, proves)


def _described(failure: BaseException) -> str:
    return " ".join(f"{type(failure).__name__}: {failure}".split()).removesuffix(":")


def _one_line(failure: BaseException) -> str:
    return " ".join(str(failure).split())


def _place(failure: BaseException, strategy: type[Strategy]) -> str:
    """Return where in the file of the class a check was stopped, so that nobody has to read a traceback."""
    try:
        file = inspect.getfile(strategy)
    except (OSError, TypeError):
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if frame.filename == file]
    return f" ({os.path.basename(file)}, line {lines[-1]})" if lines else ""
