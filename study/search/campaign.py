"""A campaign: the search of several methods with the same budget for each."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from strategies.errors import unknown
from study.errors import DefinitionError, StudyError
from study.search.budget import check_budget
from study.search.segments import SELECTION, Block, Configuration, Key, Method, Parent, Segment, Stage, State, Told
from study.search.settings import Search
from study.search.tuner import MethodSearch, Place

__all__ = ["Block", "Campaign", "Configuration", "Method", "Parent", "Segment", "Stage"]


class Campaign:
    """Hands out segments of training, is told what they gave, and ends with a configuration for each method.

    What it hands out follows from the settings and from what it was told, in whatever order it was told. After a kill
    ``replay`` makes the same campaign from its history; segments that were under way are handed out again.

    Args:
        methods: what is tuned; each has the same budget.
        settings: the section ``search`` of a definition.
        epochs: of a whole training.
        clock: seconds, for a budget of wall-clock time.

    Raises:
        DefinitionError: no method, two of one name, an empty space, a point from another space, or too small a budget.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        settings: Search,
        epochs: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        history: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        _check(methods, settings, epochs)
        self._settings, self._epochs, self._clock = settings, epochs, clock
        self._history: list[dict[str, Any]] = [dict(line) for line in history]
        self._told: dict[str, dict[Key, Told]] = {method.name: {} for method in methods}
        self._trained = 0
        given, retries = self._recorded(), self._recorded_retries()
        self._methods = {
            method.name: MethodSearch(
                method, settings, epochs, self._told[method.name], given[method.name], retries[method.name]
            )
            for method in methods
        }
        self._noted = {name: len(values) for name, values in given.items()}
        self._turns = list(self._methods)
        self._began = clock() - max(
            (told.at for results in self._told.values() for told in results.values()), default=0.0
        )
        for search in self._methods.values():
            search.advance()
            self._note(search)

    @classmethod
    def replay(
        cls,
        methods: Sequence[Method],
        settings: Search,
        epochs: int,
        history: Iterable[Mapping[str, Any]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> "Campaign":
        """Return the campaign that has a history, of which the end may be missing.

        Configurations in the history hold even where a newer Optuna would suggest others.
        """
        return cls(methods, settings, epochs, clock=clock, history=history)

    def next(self) -> Segment | None:
        """Return a segment to train, methods in turns; None as long as results are missing, and when all is done."""
        for name in self._turns:
            segment = self._methods[name].next()
            if segment is not None:
                self._turns.remove(name)
                self._turns.append(name)
                return segment
        return None

    def tell(
        self,
        segment: Segment,
        rows: Sequence[Mapping[str, Any]],
        *,
        failure: str | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Take notice of what became of a segment.

        Args:
            segment: as ``next`` returned it.
            rows: the rows of its epochs, in order.
            failure: why it will not be finished, None if it is.
            seconds: of training, repeated and lost epochs included.

        Raises:
            DefinitionError: the rows lack what is searched for.
            StudyError: rows are missing.
        """
        results = self._told[segment.configuration.method]
        if segment.key in results:
            return
        values = {} if failure is not None else self._values(segment, rows)
        told = Told(values, failure, seconds, self._clock() - self._began)
        results[segment.key] = told
        self._trained += _length(told)
        self._history.append(_line(segment, told))
        search = self._methods[segment.configuration.method]
        search.advance()
        self._note(search)

    def retry(self, *, heirs: bool = True) -> int:
        """Try again what has failed, and return how many configurations that are; it costs nothing of the budget.

        What was suggested since they failed stays as it is; their new results count for what is still to be decided.
        A configuration that failed in a population and that a copy of a better one has replaced is not tried again.

        Args:
            heirs: whether the checkpoints are still there from which configurations of a population began.
        """
        count = 0
        for name, search in self._methods.items():
            if numbers := search.failed(heirs=heirs):
                taken, known = search.place
                line = {"event": "retry", "method": name, "configurations": numbers, "taken": taken, "known": known}
                self._history.append(line)
                search.retry(numbers)
                self._note(search)
                count += len(numbers)
        return count

    def state(self, block: Block) -> State:
        """Return the state of a block as it is for those who look at it.

        A block that its scheduler has paused waits as long as its method is searched; once that is over it is stopped.
        """
        return self._methods[block.configuration.method].state(block)

    @property
    def num_methods(self) -> int:
        """How many methods are searched."""
        return len(self._methods)

    @property
    def epochs_trained(self) -> int:
        """Epochs of all segments that have ended well, those of all seeds added."""
        return self._trained

    @property
    def done(self) -> bool:
        """Whether every method has spent its budget and all its results are known."""
        return all(search.done for search in self._methods.values())

    def history(self, since: int = 0) -> list[dict[str, Any]]:
        """Return what happened as plain values, one line for each configuration and result, from line ``since``."""
        return self._history[since:]

    def blocks(self, method: str) -> list[Block]:
        """Return all configurations of a method with their results, in order."""
        return list(self._methods[method].blocks)

    def chosen(self) -> dict[str, Configuration]:
        """Return the configuration of each method that is best on validation, by the mean over its tuning seeds.

        Only configurations trained to the last epoch count, unless there are none. Of several objectives the joint loss
        decides within the front; without it, the first objective. Methods of which every configuration failed are left
        out.
        """
        fronts = {name: self._front(name) for name in self._methods}
        return {name: min(front, key=self._rank).configuration for name, front in fronts.items() if front}

    def front(self) -> dict[str, list[Configuration]]:
        """Return the configurations of each method that no other one of it beats in every objective."""
        return {name: [block.configuration for block in self._front(name)] for name in self._methods}

    def schedule(self, configuration: Configuration) -> tuple[Stage, ...]:
        """Return what a configuration was trained with, epoch by epoch: its own values, after those of its donors."""
        block = self._methods[configuration.method].blocks[configuration.number]
        until = block.epochs or self._epochs
        stages: list[Stage] = []
        while True:
            first = 0 if block.parent is None else block.parent.epoch
            stages.insert(0, Stage(first, until, block.configuration.values))
            if block.parent is None:
                return tuple(stages)
            block, until = self._methods[configuration.method].blocks[block.parent.configuration], first

    def ledger(self) -> dict[str, dict[str, float]]:
        """Return what each method has spent: trials, epochs of all seeds, seconds of training."""
        ledgers = {name: search.ledger for name, search in self._methods.items()}
        return {name: {"trials": it.trials, "epochs": it.epochs, "seconds": it.seconds} for name, it in ledgers.items()}

    def _recorded(self) -> dict[str, dict[int, Mapping[str, Any]]]:
        """Fill in the results that a history holds; return the configurations of each method."""
        given: dict[str, dict[int, Mapping[str, Any]]] = {name: {} for name in self._told}
        for line in self._history:
            if line["event"] == "asked":
                given[line["method"]][line["configuration"]] = line["values"]
            elif line["event"] == "told":
                attempt = line.get("attempt", 0)
                key = (line["method"], line["configuration"], line["seed"], line["until"], attempt)
                values = {metric: tuple(curve) for metric, curve in line["values"].items()}
                told = Told(values, line["failure"], line["seconds"], line["at"])
                self._told[line["method"]][key] = told
                self._trained += _length(told)
        return given

    def _recorded_retries(self) -> dict[str, dict[Place, list[int]]]:
        """Return what was tried again, and where in the course of the search of each method."""
        found: dict[str, dict[Place, list[int]]] = {name: {} for name in self._told}
        for line in self._history:
            if line["event"] == "retry":
                found[line["method"]][line["taken"], line["known"]] = line["configurations"]
        return found

    def _note(self, search: MethodSearch) -> None:
        """Add the configurations that are new to the history."""
        name = search.method.name
        for block in search.blocks[self._noted[name] :]:
            asked = block.configuration
            line = {"method": name, "configuration": asked.number, "values": dict(asked.values), "origin": asked.origin}
            self._history.append({"event": "asked", **line})
        self._noted[name] = max(self._noted[name], len(search.blocks))

    def _values(self, segment: Segment, rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, ...]]:
        if len(rows) != segment.until - segment.first:
            asked = segment.until - segment.first
            raise StudyError(f"trial {segment.trial} reported {len(rows)} epochs where {asked} were asked for")
        columns = [objective.column for objective in self._settings.objective]
        for column in columns:
            if column not in rows[-1]:
                known = [name for name in rows[-1] if name.startswith("valid/")]
                raise DefinitionError(f"search.objective: {unknown('metric of the trials', column, known)}")
        kept = [*columns, *([SELECTION] if SELECTION in rows[-1] else [])]
        return {column: tuple(float(row.get(column, math.nan)) for row in rows) for column in dict.fromkeys(kept)}

    def _front(self, method: str) -> list[Block]:
        """Return the blocks that no other of the method dominates, of those that got furthest."""
        alive = [block for block in self._methods[method].blocks if block.state != "failed" and block.epochs]
        furthest = max((block.epochs for block in alive), default=0)
        points = [(block, block.means()) for block in alive if block.epochs == furthest]
        if len(self._settings.objective) == 1:
            best = min((mean for _, mean in points), default=None)
            return [block for block, mean in points if mean == best][:1]
        return [block for block, mean in points if not any(_dominates(other, mean) for _, other in points)]

    def _rank(self, block: Block) -> tuple[float, int]:
        joint = block.joint_loss()
        return (block.loss() if joint is None else joint), block.number


def _check(methods: Sequence[Method], settings: Search, epochs: int) -> None:
    """Refuse what cannot be searched.

    Raises:
        DefinitionError: the first thing found.
    """
    names = [method.name for method in methods]
    if not names or len({*names}) < len(names):
        raise DefinitionError(f"a search needs methods of different names, and has: {', '.join(names) or 'none'}")
    for method in methods:
        if not len(method.space):
            raise DefinitionError(f"search.space: nothing is searched for method '{method.name}'")
        for point in method.points:
            method.space.check(point, f"search.start_from: a configuration of method '{method.name}'")
    check_budget(settings.budget, epochs, settings.seeds)


def is_line(content: object) -> bool:
    """Whether plain values are a line of a history."""
    if not isinstance(content, Mapping) or not isinstance(content.get("method"), str):
        return False
    return {"asked": "values", "told": "failure", "retry": "configurations"}.get(str(content.get("event"))) in content


def _line(segment: Segment, told: Told) -> dict[str, Any]:
    """Return a result as plain values."""
    return {
        "event": "told",
        "method": segment.configuration.method,
        "configuration": segment.configuration.number,
        "seed": segment.seed,
        "until": segment.until,
        **({"attempt": segment.attempt} if segment.attempt else {}),
        "values": {metric: list(values) for metric, values in told.values.items()},
        "failure": told.failure,
        "seconds": told.seconds,
        "at": told.at,
    }


def _length(told: Told) -> int:
    """Return the epochs of a segment that has ended well, 0 for another."""
    return max(map(len, told.values.values()), default=0)


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one point is nowhere worse and somewhere better; smaller is better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)
