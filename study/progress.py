"""What a person sees while a study runs: a live table on a terminal, one line per ended trial elsewhere.

Everything goes to standard error; standard output is for results.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, ClassVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from strategies.text import printable, shown
from study.observing import Observer

if TYPE_CHECKING:
    from study.arms import Arm
    from trainables.rows import Row
    from trainables.specification import TrialSpecification


_REFRESH_PER_SECOND = 4
_MARKS = {"finished": "[green]●[/]", "failed": "[red]✗[/]", "running": "[yellow]◐[/]", "pending": "[dim]·[/]"}


@dataclass
class TrialState:
    """What is known of one trial while the study runs."""

    status: str = "pending"
    epoch: int = 0
    joint_nll: float | None = None


@dataclass
class Board(Observer):
    """What has happened so far, without any output; an observer of trials.

    Attributes:
        arms: in the order they are shown.
        seeds: in the order they are shown.
        epochs: of every trial.
        concurrency: trials that run at a time; known once Ray has started.
        folds: that every arm and seed is trained on; None stands for no folds.
    """

    arms: "Sequence[Arm]"
    seeds: Sequence[int]
    epochs: int
    concurrency: int = 1
    folds: Sequence[int | None] = (None,)
    trials: dict[tuple[str, int, int | None], TrialState] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)
    _epochs_before: int = 0

    what: ClassVar[str] = "trials"

    def __post_init__(self) -> None:
        keys = product(self.seeds, self.folds, self.arms)
        self.trials = {(arm.arm, seed, fold): TrialState() for seed, fold, arm in keys}

    def state(self, trial: "TrialSpecification") -> TrialState:
        """Return what is known of a trial."""
        return self.trials[trial.arm, trial.seed, trial.fold]

    def states(self, arm: str, seed: int) -> list[TrialState]:
        """Return what is known of the trials of an arm and a seed, one for each fold."""
        return [self.trials[arm, seed, fold] for fold in self.folds]

    def found_finished(self, trial: "TrialSpecification", joint_nll: float | None, status: str = "finished") -> None:
        """Count a trial that an earlier run ended."""
        self.trials[trial.arm, trial.seed, trial.fold] = TrialState(status, self.epochs, joint_nll)
        self._epochs_before += self.epochs

    def start_clock(self, concurrency: int) -> None:
        """Start estimating the time left."""
        self.concurrency = concurrency
        self._started = time.monotonic()

    def trial_started(self, trial: "TrialSpecification") -> None:
        """Note that a trial runs."""
        self.state(trial).status = "running"

    def trial_reported(self, trial: "TrialSpecification", row: "Row") -> None:
        """Note how far a trial is and how good its validation was."""
        state = self.state(trial)
        state.epoch, state.joint_nll = int(row["epoch"]), float(row["valid/joint_nll"])

    def trial_postponed(self, trial: "TrialSpecification", failure: dict[str, str]) -> None:  # noqa: ARG002
        """Note that a trial waits for another attempt."""
        self.state(trial).status = "pending"

    def trial_ended(self, trial: "TrialSpecification", failure: dict[str, str] | None) -> None:
        """Note that a trial ended."""
        state = self.state(trial)
        state.status, state.epoch = ("failed" if failure else "finished"), self.epochs

    def count(self, status: str) -> int:
        """Return how many trials have a status."""
        return sum(state.status == status for state in self.trials.values())

    @property
    def ended(self) -> int:
        """Number of trials that finished or failed."""
        return self.count("finished") + self.count("failed")

    @property
    def epochs_done(self) -> int:
        """Epochs trained in all trials, earlier runs included."""
        return sum(state.epoch for state in self.trials.values())

    def seconds_left(self) -> float | None:
        """Return the estimated time to the end from the pace so far, or None before the first epoch."""
        trained = self.epochs_done - self._epochs_before
        if trained <= 0:
            return None
        left = self.epochs * len(self.trials) - self.epochs_done
        return left * (time.monotonic() - self._started) / trained

    @property
    def total(self) -> int | None:
        """Epochs in all; None if nobody can say."""
        return self.epochs * len(self.trials)

    @property
    def note(self) -> str:
        """How far it is, in words."""
        failed = f", {self.count('failed')} failed" if self.count("failed") else ""
        return f"{self.ended}/{len(self.trials)}{failed}, about {duration(self.seconds_left())} left"

    def ended_line(self, trial: "TrialSpecification", result: str) -> str:
        """Return the line that says how a trial ended and how much is left."""
        left = duration(self.seconds_left())
        return f"[{self.ended}/{len(self.trials)}] {trial.trial}: {result}; about {left} left"

    def table(self) -> Table:
        """Return what a person sees of every arm."""
        return _table(self)

    def mean_joint_nll(self, arm: str) -> float | None:
        """Return the mean over seeds and folds of an arm's latest validation joint NLL."""
        values = [state.joint_nll for seed in self.seeds for state in self.states(arm, seed)]
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known else None


def duration(seconds: float | None) -> str:
    """Return a time span for a person.

    >>> duration(45.2), duration(200), duration(7500), duration(None)
    ('45 s', '3 min 20 s', '2 h 05 min', '...')
    """
    if seconds is None:
        return "..."
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Display(Observer):
    """Says nothing: ``--quiet``. The base of the two that speak."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, message: str) -> None:
        """Tell what happens now."""

    def warn(self, message: str) -> None:
        """Tell something the user should act on; shown even when quiet."""
        self.console.print(shown(f"warning: {message}"), style="yellow", markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], None]]:  # noqa: ARG002
        """Show the progress of a loop; yields a function of (done, total)."""
        yield lambda done, total: None  # noqa: ARG005

    @contextmanager
    def showing(self, board: Board) -> Iterator[None]:  # noqa: ARG002
        """Show the board while trials run."""
        yield

    def trial_noted(self, trial: "TrialSpecification", note: str) -> None:
        """Warn of it."""
        self.warn(f"{trial.trial}: {note}")

    def trial_postponed(self, trial: "TrialSpecification", failure: dict[str, str]) -> None:
        """Warn: somebody may have to make room."""
        self.warn(f"{trial.trial} is tried again later: {failure['error']}")

    def nothing_runs(self, seconds: float) -> None:
        """Warn: the cluster may never get the machines that trials wait for."""
        self.warn(f"no trial has run for {duration(seconds)}: trials wait for machines; `ray status` says for which")


class LineDisplay(Display):
    """One line per ended trial, for logs and pipes."""

    _board: Board | None = None

    def say(self, message: str) -> None:
        """Print the message."""
        self.console.print(shown(message), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def showing(self, board: Board) -> Iterator[None]:
        """Remember the board for the lines."""
        self._board = board
        yield

    def trial_ended(self, trial: "TrialSpecification", failure: dict[str, str] | None) -> None:
        """Print how a trial ended and how much is left."""
        board = self._board
        if board is None:
            return
        state = board.state(trial)
        result = f"failed: {failure['error']}" if failure else f"validation joint NLL {state.joint_nll or 0:.4f}"
        self.say(board.ended_line(trial, result))


class LiveDisplay(Display):
    """One live table of arms and one bar with the time left."""

    def say(self, message: str) -> None:
        """Print the message above the table."""
        self.console.print(shown(message), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show a bar that vanishes when done."""
        with _bar(self.console, transient=True) as bar:
            task = bar.add_task(what, total=None, note="")
            yield lambda done, total: bar.update(task, completed=done, total=total, note=f"{done}/{total}")

    @contextmanager
    def showing(self, board: Board) -> Iterator[None]:
        """Show table and bar while trials run, and leave nothing behind: the results follow."""
        bar = _bar(self.console)
        task = bar.add_task(board.what, total=board.total, note="")
        live = Live(
            get_renderable=lambda: _render(board, bar, task),
            console=self.console,
            refresh_per_second=_REFRESH_PER_SECOND,
            transient=True,
            redirect_stdout=False,  # the runner sends Ray's prints to the log
        )
        with live:
            yield


def _bar(console: Console, *, transient: bool = False) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=40), TextColumn("{task.fields[note]}"))
    return Progress(*columns, console=console, transient=transient)


def _render(board: Board, bar: Progress, task: TaskID) -> Group:
    bar.update(task, completed=board.epochs_done, note=board.note)
    return Group(board.table(), bar)


def _table(board: Board) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    folded = len(board.folds) > 1
    heads = ("arm", "left"), ("seeds", "left"), ("epoch", "right"), ("validation joint NLL", "right")
    for name, justify in (*heads[:2], ("folds", "right"), *heads[2:]) if folded else heads:
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for arm in board.arms:
        of_seeds = [board.states(arm.arm, seed) for seed in board.seeds]
        states = [state for states in of_seeds for state in states]
        running = [str(state.epoch) for state in states if state.status == "running"]
        ended = sum(state.status in ("finished", "failed") for state in states)
        mean = board.mean_joint_nll(arm.arm)
        marks = "".join(_MARKS[_together(states)] for states in of_seeds)
        folds = [f"{ended}/{len(states)}"] if folded else []
        table.add_row(
            Text(printable(arm.label)), marks, *folds, ", ".join(running), "" if mean is None else f"{mean:.4f}"
        )
    return table


def _together(states: Sequence[TrialState]) -> str:
    """Return the status of a seed: that of its folds if they agree, and failed as soon as one has failed."""
    found = {state.status for state in states}
    if len(found) == 1:
        return next(iter(found))
    return "failed" if "failed" in found else "running"


def make_display(*, quiet: bool) -> Display:
    """Return the display that fits: none when quiet, live on a terminal, lines elsewhere."""
    console = Console(stderr=True, force_jupyter=False)
    if quiet:
        return Display(console)
    return LiveDisplay(console) if console.is_terminal else LineDisplay(console)
