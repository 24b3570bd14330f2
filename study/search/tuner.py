"""The search of one method: asks its searcher, follows its scheduler, keeps to its budget."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from study.search.budget import Ledger
from study.search.schedulers import Proposal, make_scheduler
from study.search.searchers import make_searcher
from study.search.segments import Block, Configuration, Key, Method, Parent, Segment, State, Told
from study.search.settings import Search
from study.search.space import Values

MOST_FAILURES = 10
"""A method whose first configurations all fail is given up after so many, if nothing but time limits it."""

Place = tuple[int, int]
"""In the course of a search: decisions taken, and those of them whose results were taken notice of."""


@dataclass
class _Job:
    """Segments of all seeds of a block, decided at one time; ``again`` has the seeds that are trained once more."""

    block: Block
    first: int
    until: int
    parent: Parent | None
    segments: tuple[Segment, ...] = ()
    again: set[int] | None = None
    handed: set[Key] = field(default_factory=set)


class MethodSearch:
    """Decides which segments of one method come next.

    Decisions are numbered. Decision k is taken as soon as the results of all but the last ``parallel - 1`` of the
    decisions before it are known, in their order; results that came out of turn wait. So the search is the same on any
    number of machines, however long each segment takes, and depends on nothing but settings and results.

    Trying again what has failed is a decision as well, whose place among the others is kept: what was decided before
    it stays as it was.

    Args:
        method: the method.
        settings: the section ``search``.
        epochs: of a whole training.
        told: results known so far, by the key of their segment; the caller adds to them.
        given: number of a configuration -> its values in an earlier run of the same search, which then hold.
        retries: place -> the configurations that were tried again there.
    """

    def __init__(
        self,
        method: Method,
        settings: Search,
        epochs: int,
        told: Mapping[Key, Told],
        given: Mapping[int, Mapping[str, Any]],
        retries: Mapping[Place, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        self.method = method
        self.ledger = Ledger(settings.budget)
        self.blocks: list[Block] = []
        self._settings, self._epochs, self._told, self._given = settings, epochs, told, given
        self._searcher = make_searcher(method, settings)
        self._scheduler = make_scheduler(method, settings, epochs, self.blocks)
        self._retries = dict(retries)
        self._jobs: list[_Job] = []
        self._absorbed = 0
        self._queue: deque[tuple[_Job, Segment]] = deque()
        self._is_settled = False
        self._first = [] if settings.searcher == "grid" else _first_points(method)

    @property
    def done(self) -> bool:
        """Whether nothing is under way and nothing will come."""
        return self._is_settled and self._absorbed == len(self._jobs)

    @property
    def place(self) -> Place:
        """How far it is."""
        return len(self._jobs), self._absorbed

    def state(self, block: Block) -> State:
        """Return the state of a block for those who look at it: in a search that is over nothing goes on any more."""
        return "stopped" if self.done and block.state == "waiting" else block.state

    def failed(self, *, heirs: bool) -> list[int]:
        """Return the configurations that failed and that it makes sense to try again.

        Args:
            heirs: whether the checkpoints of others that some of them began from are still there.
        """
        failed = [block for block in self.blocks if block.state == "failed" and self._scheduler.may_retry(block)]
        return [block.number for block in failed if heirs or block.parent is None]

    def retry(self, numbers: Sequence[int]) -> None:
        """Try failed configurations again, here and now."""
        self._retries[self.place] = numbers
        self.advance()

    def advance(self) -> None:
        """Take every decision that can be taken."""
        while True:
            waiting = len(self._jobs) - self._absorbed
            if not self._is_settled and waiting < self._settings.parallel and self._decide():
                continue
            if again := self._retries.pop(self.place, ()):
                for number in again:
                    self._try_again(self.blocks[number])
                continue
            if not waiting or not self._is_known(self._jobs[self._absorbed]):
                return
            self._absorb(self._jobs[self._absorbed])
            self._jobs[self._absorbed].handed.clear()
            self._absorbed += 1
            self._is_settled = False

    def next(self) -> Segment | None:
        """Return the next segment to train; None if there is none for now."""
        while self._queue:
            job, segment = self._queue.popleft()
            if segment.key not in self._told and not self._has_failed(job):
                job.handed.add(segment.key)
                return segment
        return None

    def _has_failed(self, job: _Job) -> bool:
        return any(
            (told := self._told.get(segment.key)) is not None and told.failure is not None for segment in job.segments
        )

    def _is_known(self, job: _Job) -> bool:
        """Whether all segments are told, or one failed and no other is under way."""
        if self._has_failed(job):
            return all(key in self._told for key in job.handed)
        return all(segment.key in self._told for segment in job.segments)

    def _decide(self) -> bool:
        """Do the first thing that the scheduler proposes and the budget affords; return whether there was one."""
        for proposal in () if self._is_hopeless else self._scheduler.proposals():
            first = self._first_epoch(proposal)
            cost = (proposal.until - first + proposal.reserve) * self._settings.seeds
            if not self.ledger.affords(int(proposal.is_trial), cost):
                continue
            block = self._new_block(proposal) if proposal.number is None else self.blocks[proposal.number]
            if block is not None:
                self._start(block, proposal, first)
                return True
        self._is_settled = True
        return False

    @property
    def _is_hopeless(self) -> bool:
        budget = self._settings.budget
        if budget.trials is not None or budget.epochs is not None:
            return False
        ended = [block.state for block in self.blocks if block.state != "running"]
        return len(ended) >= MOST_FAILURES and {*ended} == {"failed"}

    def _first_epoch(self, proposal: Proposal) -> int:
        if proposal.number is not None:
            return self.blocks[proposal.number].epochs
        return 0 if proposal.parent is None else proposal.parent.epoch

    def _new_block(self, proposal: Proposal) -> Block | None:
        configuration = self._new_configuration(proposal)
        if configuration is None:
            return None
        block = Block(configuration, self._settings.objective, parent=proposal.parent)
        if proposal.parent is not None:
            donor = self.blocks[proposal.parent.configuration]
            epoch = block.epochs = proposal.parent.epoch
            block.curves = {
                seed: {metric: values[:epoch] for metric, values in curve.items()}
                for seed, curve in donor.curves.items()
            }
        self.blocks.append(block)
        return block

    def _new_configuration(self, proposal: Proposal) -> Configuration | None:
        number = len(self.blocks)
        recorded = self._given.get(number)
        if proposal.values is not None:
            return Configuration(self.method.name, number, recorded or proposal.values, "scheduler")
        if number < len(self._first):
            origin, values = self._first[number]
            if self.method.space.holds(values):
                self._searcher.ask(number, values)
            return Configuration(self.method.name, number, values, origin)
        asked = self._searcher.ask(number, recorded)
        return None if asked is None else Configuration(self.method.name, number, asked, self._searcher.origin)

    def _start(self, block: Block, proposal: Proposal, first: int) -> None:
        parent = proposal.parent
        job = _Job(block, first, proposal.until, parent)
        job.segments = tuple(
            Segment(block.configuration, seed, first, proposal.until, parent) for seed in self._settings.seed_numbers
        )
        block.until, block.state = proposal.until, "running"
        self._jobs.append(job)
        self._queue += [(job, segment) for segment in job.segments]
        self.ledger.charge(int(proposal.is_trial), (proposal.until - first) * self._settings.seeds)
        self._scheduler.started(proposal, block)

    def _try_again(self, block: Block) -> None:
        """Train the seeds of a failed segment again that have not ended well; its epochs have been paid for."""
        before = next(job for job in reversed(self._jobs) if job.block is block)
        again = {segment.seed for segment in before.segments if not self._is_sound(segment, block)}
        block.forget()
        block.state = "running"
        segments = tuple(
            replace(segment, attempt=segment.attempt + 1) if segment.seed in again else segment
            for segment in before.segments
        )
        job = _Job(block, before.first, before.until, before.parent, segments, again)
        self._jobs.append(job)
        self._queue += [(job, segment) for segment in segments]
        self._is_settled = False
        self._scheduler.retried(block)

    def _is_sound(self, segment: Segment, block: Block) -> bool:
        """Whether a segment has ended well, and with numbers."""
        told = self._told.get(segment.key)
        if told is None or told.failure is not None:
            return False
        return all(map(math.isfinite, block.losses(segment.until).get(segment.seed, ())))

    def _absorb(self, job: _Job) -> None:
        block = job.block
        results = {segment.seed: self._told[segment.key] for segment in job.segments if segment.key in self._told}
        seconds = sum(told.seconds for seed, told in results.items() if job.again is None or seed in job.again)
        block.seconds += seconds
        self.ledger.settle(
            (job.until - job.first) * self._settings.seeds if job.again is None else 0,
            seconds,
            max((told.at for told in results.values()), default=0),
        )
        block.failure = next((told.failure for told in results.values() if told.failure is not None), None)
        if block.failure is None:
            self._extend(block, results, job.until)
        if block.failure is not None:
            block.state = "failed"
        elif block.epochs >= self._epochs:
            block.state = "full"
        self._scheduler.absorbed(block)
        self._inform(block)

    def _extend(self, block: Block, results: Mapping[int, Told], until: int) -> None:
        """Add the epochs of a segment to a block; one whose objective is no number has failed."""
        for seed, told in results.items():
            curve = block.curves.setdefault(seed, {})
            for metric, values in told.values.items():
                curve[metric] = [*curve.get(metric, ()), *values]
        if not all(map(math.isfinite, block.means(until))):
            names = ", ".join(objective.column for objective in block.objectives)
            block.failure = f"{names} is not finite"
        else:
            block.epochs = until

    def _inform(self, block: Block) -> None:
        """Tell the searcher of a block that does not go on at once."""
        if block.configuration.origin == "scheduler" or not self.method.space.holds(block.configuration.values):
            return
        if block.state == "failed":
            self._searcher.tell(block.number, None, block.epochs, True)
        elif block.state != "running":
            self._searcher.tell(block.number, block.means(), block.epochs, block.state == "full")


def _first_points(method: Method) -> list[tuple[str, Values]]:
    """Return what is tried before the searcher is asked, and where it comes from."""
    defaults = [("default", method.defaults)] if method.defaults else []
    return [*defaults, *(("given", point) for point in method.points)]
