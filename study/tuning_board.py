"""What a person sees of a tuning phase, from its campaign or from what another process has written of it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from rich.table import Table
from rich.text import Text

from strategies.text import printable
from study.progress import Board, TrialState, duration
from study.search.segments import Block, Configuration, State
from study.search.settings import Search

if TYPE_CHECKING:
    from study.search.campaign import Campaign
    from trainables.specification import TrialSpecification


@dataclass(frozen=True)
class Line:
    """What is shown of a method.

    Attributes:
        method: its name.
        begun: configurations that were begun.
        running: those of them under way.
        held: those of them that the scheduler has paused or stopped.
        failed: those of them that failed.
        best: the first objective of the best, on validation; None before there is one.
    """

    method: str
    begun: int
    running: int
    held: int
    failed: int
    best: float | None


@dataclass
class TuningBoard(Board):
    """What has happened so far in a tuning phase; trials come up as it goes.

    Attributes:
        search: its settings.
    """

    search: Search = field(kw_only=True)

    what: ClassVar[str] = "tuning"

    def state(self, trial: "TrialSpecification") -> TrialState:
        """Return what is known of a trial."""
        return self.trials.setdefault((trial.trial, trial.seed, None), TrialState())

    def blocks(self) -> Mapping[str, Sequence[Block]]:
        """Return method -> its configurations."""
        raise NotImplementedError

    @property
    def num_methods(self) -> int:
        """How many methods are searched."""
        raise NotImplementedError

    @property
    def total(self) -> int | None:
        """Most epochs that the budget allows; None where it is in hours."""
        budget = self.search.budget
        by_trials = None if budget.trials is None else budget.trials * self.search.seeds * self.epochs
        limits = [limit for limit in (by_trials, budget.epochs) if limit is not None]
        return self.num_methods * min(limits) if limits else None

    @property
    def note(self) -> str:
        """How much is left, in words."""
        return f"about {duration(self.seconds_left())} left"

    def ended_line(self, trial: "TrialSpecification", result: str) -> str:
        """Return the line that says how a segment of training ended and how much is left."""
        done = f"[tuning, {self.epochs_done}/{self.total or '?'} epochs]"
        until = f"after epoch {self.state(trial).epoch}" if trial.until is None else f"to epoch {trial.until}"
        return f"{done} {trial.trial} {until}: {result}; {self.note}"

    def table(self) -> Table:
        """Return what a person sees of every method."""
        return _table(list(self.lines()), has_held=self.search.scheduler != "none")

    def seconds_left(self) -> float | None:
        """Return the estimated time to the end of tuning; None before the first result or in a budget of hours."""
        trained = self.epochs_done - self._epochs_before
        if trained <= 0 or self.total is None:
            return None
        return max(self.total - self.epochs_done, 0) * (time.monotonic() - self._started) / trained

    def lines(self) -> Iterator[Line]:
        """Yield what is shown of each method."""
        objective = self.search.objective[0]
        for method, blocks in self.blocks().items():
            states = [block.state for block in blocks]
            known = [block for block in blocks if block.epochs and block.state != "failed" and block.curves]
            best = min((block.loss() for block in known), default=None)
            yield Line(
                method,
                len(blocks),
                states.count("running"),
                states.count("waiting") + states.count("stopped"),
                states.count("failed"),
                None if best is None else objective.loss(best),
            )


@dataclass
class CampaignBoard(TuningBoard):
    """What the campaign knows that this process runs.

    Attributes:
        campaign: of the search.
    """

    campaign: "Campaign" = field(kw_only=True)

    def __post_init__(self) -> None:
        self._epochs_before = self.epochs_done

    def blocks(self) -> Mapping[str, Sequence[Block]]:
        """Return method -> its configurations."""
        return {method: self.campaign.blocks(method) for method in self.campaign.ledger()}

    @property
    def epochs_done(self) -> int:
        """Epochs of all configurations and seeds that the campaign knows of."""
        return self.campaign.epochs_trained

    @property
    def num_methods(self) -> int:
        """How many methods are searched."""
        return self.campaign.num_methods


@dataclass
class FollowedBoard(TuningBoard):
    """What the lines of a history and of the trials' rows tell somebody who follows from elsewhere.

    Attributes:
        methods: names of the methods.
    """

    methods: Sequence[str] = field(kw_only=True)

    def __post_init__(self) -> None:
        self._blocks: dict[str, list[Block]] = {method: [] for method in self.methods}
        self._epochs_told = 0

    def blocks(self) -> Mapping[str, Sequence[Block]]:
        """Return method -> its configurations."""
        return self._blocks

    @property
    def epochs_done(self) -> int:
        """Epochs of all segments that have ended."""
        return self._epochs_told

    @property
    def num_methods(self) -> int:
        """How many methods are searched."""
        return len(self.methods)

    def start_clock(self, concurrency: int) -> None:
        """Start estimating the time left."""
        super().start_clock(concurrency)
        self._epochs_before = self._epochs_told

    def heard(self, line: Mapping[str, Any]) -> None:
        """Take notice of a line of the history; see ``study.search.campaign``."""
        blocks = self._blocks.get(line["method"])
        if blocks is None:
            return
        if line["event"] == "asked":
            asked = Configuration(line["method"], line["configuration"], line["values"], line["origin"])
            blocks.append(Block(asked, self.search.objective, state="waiting"))
        elif line["event"] == "retry":
            for number in line["configurations"]:
                blocks[number].forget()
                blocks[number].state = "waiting"
        elif line["configuration"] < len(blocks):
            self._told(blocks[line["configuration"]], line)

    def _told(self, block: Block, line: Mapping[str, Any]) -> None:
        if line["failure"] is not None:
            block.state, block.failure = "failed", line["failure"]
            return
        curve = block.curves.setdefault(line["seed"], {})
        for metric, values in line["values"].items():
            curve[metric] = [*curve.get(metric, ()), *values]
            trained = len(values)
        self._epochs_told += trained
        lengths = [min(map(len, own.values())) for own in block.curves.values()]
        if len(lengths) == self.search.seeds and min(lengths) > block.epochs:
            block.epochs = min(lengths)
            block.state = "full" if line["until"] >= self.epochs else block.state

    def trial_started(self, trial: "TrialSpecification") -> None:
        """Note that a trial runs, and its configuration."""
        super().trial_started(trial)
        if (block := self._block(trial)) is not None:
            block.state = "running"

    def trial_ended(self, trial: "TrialSpecification", failure: dict[str, str] | None) -> None:
        """Note that a segment ended; its configuration runs as long as another seed does."""
        self.state(trial).status = "failed" if failure else "finished"
        block = self._block(trial)
        if block is None or block.state != "running":
            return
        running = [name for (name, _, _), state in self.trials.items() if state.status == "running"]
        if not any(name.rpartition("-seed")[0] == trial.trial.rpartition("-seed")[0] for name in running):
            done: State = "full" if block.epochs >= self.epochs else "waiting"
            block.state = "failed" if block.failure is not None else done

    def _block(self, trial: "TrialSpecification") -> Block | None:
        number = int(trial.trial.rpartition("-seed")[0].rpartition("-c")[2])
        blocks = self._blocks.get(trial.arm, [])
        return blocks[number] if number < len(blocks) else None


def _table(lines: Sequence[Line], *, has_held: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    held = ["paused or stopped"] if has_held else []
    for name in ("method", "configurations", "running", *held, "failed", "best on validation"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for line in lines:
        counts = [line.running, *([line.held] if has_held else []), line.failed]
        best = "" if line.best is None else f"{line.best:.4f}"
        table.add_row(
            Text(printable(line.method)), str(line.begun), *(str(count) if count else "" for count in counts), best
        )
    return table
