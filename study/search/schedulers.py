"""Which block of seeds goes on, and for how long: policies over whole blocks; here those that halve."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

from study.errors import DefinitionError
from study.search.segments import Block, Method, Parent
from study.search.settings import Search
from study.search.space import Values
from study.search.standing import Standing


@dataclass(frozen=True)
class Proposal:
    """What a scheduler would do next.

    Attributes:
        until: epochs the block then has.
        number: of the block that goes on; None for a new one.
        reserve: epochs of each seed that must stay affordable afterwards, because blocks are owed them.
        values: of a new block that is not asked of the searcher.
        parent: whose checkpoint a new block begins from.
    """

    until: int
    number: int | None = None
    reserve: int = 0
    values: Values | None = None
    parent: Parent | None = None

    @property
    def is_trial(self) -> bool:
        """Whether it begins a configuration from its first epoch."""
        return self.number is None and self.parent is None


class Scheduler:
    """A policy; it sees results in the order in which their segments were decided, whatever ended first.

    This one trains every configuration to the end.

    Args:
        epochs: of a whole training.
        blocks: those of the method, which grow as the search goes on.
    """

    def __init__(self, epochs: int, blocks: Sequence[Block]) -> None:
        self.epochs, self.blocks = epochs, blocks
        self._furthest = 0

    def proposals(self) -> Iterator[Proposal]:
        """Return what could come next, best first; the first that the budget affords is done."""
        yield Proposal(self.epochs)

    def started(self, proposal: Proposal, block: Block) -> None:  # noqa: ARG002
        """Take notice of a proposal that is done, and of its block."""
        self._furthest = max(self._furthest, block.until)

    def absorbed(self, block: Block) -> None:
        """Take notice of a block that has reached the end of its segment, or failed; set its state if it trains on."""
        if block.state == "failed":
            self._furthest = max((other.until for other in self.blocks if other.state != "failed"), default=0)

    def may_retry(self, block: Block) -> bool:  # noqa: ARG002
        """Whether a block that failed still has its place, so that it makes sense to try it again."""
        return True

    def retried(self, block: Block) -> None:
        """Take notice of a failed block that is tried again."""
        self._furthest = max(self._furthest, block.until)

    def owed(self, until: int) -> int:
        """Return the epochs that the leader still needs once some block has got to ``until``."""
        return self.epochs - max(until, self._furthest)


class SuccessiveHalving(Scheduler):
    """Promote a block to the next rung as soon as it is among the best ``1 / reduction`` of those on its rung.

    Rungs are ``grace * reduction**k`` epochs. This is the asynchronous variant, ASHA, except that it sees results in
    the order of its decisions (see ``study.search.tuner``): it promotes on the same evidence whichever machine is
    faster. When no new block is affordable, the leader is trained to the end unless another one was.

    Args:
        epochs: of a whole training.
        blocks: those of the method.
        grace: epochs of the first rung.
        reduction: how many times more blocks a rung has than the next.

    Reference:
        Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020, algorithm 2.
        https://arxiv.org/abs/1810.05934
    """

    def __init__(self, epochs: int, blocks: Sequence[Block], grace: int, reduction: int) -> None:
        super().__init__(epochs, blocks)
        self._reduction = reduction
        self._rungs = rungs(grace, reduction, epochs)
        self._standing = Standing(lambda block, epoch: block.loss(epoch))
        self._paused = Standing(lambda block, epoch: block.loss(epoch))

    def proposals(self) -> Iterator[Proposal]:
        """Return promotions, of the highest rung first, then a new block, then the leader."""
        for at, until in reversed([*pairwise(self._rungs)]):
            yield from (Proposal(until, block.number, self.owed(until)) for block in self._promoted(at))
        yield Proposal(self._rungs[0], reserve=self.owed(self._rungs[0]))
        yield from self.leader()

    def absorbed(self, block: Block) -> None:
        """Pause the block: whether it goes on depends on the others."""
        super().absorbed(block)
        if block.state == "running":
            block.state = "waiting"
            self._paused.add(block, block.epochs)
        if block.state == "failed":
            self._standing.remove(block)
        else:
            self._place(block)

    def started(self, proposal: Proposal, block: Block) -> None:
        """Note that the block does not wait any more."""
        super().started(proposal, block)
        self._paused.remove(block)

    def retried(self, block: Block) -> None:
        """Give the block back its places on the rungs that it has reached."""
        super().retried(block)
        self._place(block)

    def _place(self, block: Block) -> None:
        for at in self._rungs:
            if at <= block.epochs:
                self._standing.add(block, at)

    def leader(self) -> Iterator[Proposal]:
        """Return the best of the blocks that got furthest, if nothing is under way and none was trained to the end."""
        if any(block.state in ("running", "full") for block in self.blocks):
            return
        alive = [block for block in self.blocks if block.state == "waiting"]
        for block in sorted(alive, key=lambda block: (-block.epochs, block.loss(), block.number)):
            yield Proposal(self.epochs, block.number)

    def _promoted(self, at: int) -> Iterator[Block]:
        """Yield the waiting blocks of a rung that are good enough for the next, best first."""
        promoted = self._standing.count(at) // self._reduction
        waiting = (self.blocks[number] for number in self._paused.ordered(at))
        return takewhile(lambda block: self._standing.rank(block, at) < promoted, waiting)


class HyperBand(Scheduler):
    """Several brackets of successive halving, from many short trainings to few long ones.

    Bracket s has ``ceil((s_max + 1) / (s + 1) * reduction**s)`` blocks that start with ``epochs / reduction**s``
    epochs; a rung is halved when all of its blocks are there. Configurations are dealt to the brackets in these
    proportions from the first on, so that a small budget has some of each; a bracket that is full is begun again.

    Args:
        epochs: of a whole training.
        blocks: those of the method.
        grace: epochs of the shortest first rung.
        reduction: how many times more blocks a rung has than the next.

    Reference:
        Li et al., "Hyperband: a novel bandit-based approach to hyperparameter optimization", JMLR 18, 2018,
        algorithm 1.
        https://arxiv.org/abs/1603.06560
    """

    def __init__(self, epochs: int, blocks: Sequence[Block], grace: int, reduction: int) -> None:
        super().__init__(epochs, blocks)
        deepest = len(rungs(grace, reduction, epochs)) - 1
        self._sizes = {s: math.ceil((deepest + 1) / (s + 1) * reduction**s) for s in range(deepest, -1, -1)}
        self._rungs = {s: _descending(epochs, reduction, s, grace) for s in self._sizes}
        self._reduction = reduction
        self._groups: dict[tuple[int, int], list[Block]] = {}
        self._begun: dict[tuple[int, int], list[Block]] = {}
        self._dealt = dict.fromkeys(self._sizes, 0)

    def proposals(self) -> Iterator[Proposal]:
        """Return promotions in brackets that are full, then a new block, then promotions in the others."""
        begun = dict(self._begun)
        filled = {key: group for key, group in begun.items() if len(group) == self._sizes[key[0]]}
        yield from self._promotions(filled)
        first = self._rungs[self._next_bracket()][0]
        yield Proposal(first, reserve=self.owed(first))
        yield from self._promotions({key: group for key, group in begun.items() if key not in filled})

    def started(self, proposal: Proposal, block: Block) -> None:
        """Put a new block into its bracket."""
        super().started(proposal, block)
        if proposal.is_trial:
            bracket = self._next_bracket()
            key = bracket, self._dealt[bracket] // self._sizes[bracket]
            self._groups.setdefault(key, []).append(block)
            self._begun[key] = self._groups[key]
            self._dealt[bracket] += 1

    def absorbed(self, block: Block) -> None:
        """Pause the block until its rung is full."""
        super().absorbed(block)
        if block.state == "running":
            block.state = "waiting"

    def retried(self, block: Block) -> None:
        """Go on with a bracket that had come to its end."""
        super().retried(block)
        self._begun |= {key: own for key, own in self._groups.items() if any(member is block for member in own)}

    def _next_bracket(self) -> int:
        """Return the bracket that is furthest behind its share."""
        return min(self._sizes, key=lambda s: ((self._dealt[s] + 1) / self._sizes[s], -s))

    def _promotions(self, groups: dict[tuple[int, int], list[Block]]) -> Iterator[Proposal]:
        for key, group in groups.items():
            if any(block.state == "running" for block in group):
                continue
            promotions = list(self._promoted(self._rungs[key[0]], group))
            yield from promotions
            if not promotions and len(group) == self._sizes[key[0]]:
                del self._begun[key]

    def _promoted(self, rungs: list[int], group: list[Block]) -> Iterator[Proposal]:
        waiting = [block for block in group if block.state == "waiting"]
        for at, until in pairwise(rungs):
            yield from self._halved([block for block in waiting if block.epochs == at], group, at, until)

    def _halved(self, waiting: list[Block], group: list[Block], at: int, until: int) -> Iterator[Proposal]:
        reached = sorted(
            (block for block in group if block.epochs >= at and block.state != "failed"),
            key=lambda block: (block.loss(at), block.number),
        )
        best = reached[: max(1, len(reached) // self._reduction)]
        yield from (Proposal(until, block.number, self.owed(until)) for block in best if block in waiting)


def rungs(grace: int, reduction: int, epochs: int) -> list[int]:
    """Return after how many epochs blocks are compared; the last one is the whole training.

    >>> rungs(1, 3, 20)
    [1, 3, 9, 20]
    """
    found = [grace]
    while found[-1] * reduction < epochs:
        found.append(found[-1] * reduction)
    return [*found, epochs]


def _descending(epochs: int, reduction: int, times: int, grace: int) -> list[int]:
    """Return the rungs of a bracket, which are counted from the whole training down."""
    found = {max(grace, round(epochs / reduction**power)) for power in range(times + 1)}
    return sorted(found)


def make_scheduler(method: Method, settings: Search, epochs: int, blocks: Sequence[Block]) -> Scheduler:
    """Return the scheduler that a definition asks for.

    Args:
        method: whose blocks are scheduled.
        settings: the section ``search``.
        epochs: of a whole training.
        blocks: those of the method, which grow as the search goes on.

    Raises:
        DefinitionError: its options do not fit the number of epochs or the budget.
    """
    from study.search.population import BanditPopulation, Population
    from study.search.stopping import MedianStopping, PairedStopping

    name = settings.scheduler
    if name == "none":
        return Scheduler(epochs, blocks)
    _check_epochs(settings, epochs)
    if name in ("pbt", "pb2"):
        return (Population if name == "pbt" else BanditPopulation)(method, settings, epochs, blocks)
    if name in ("asha", "hyperband"):
        halving = SuccessiveHalving if name == "asha" else HyperBand
        return halving(epochs, blocks, settings.option("grace"), settings.option("reduction"))
    grace, interval = settings.option("grace"), settings.option("interval")
    if name == "median":
        return MedianStopping(epochs, blocks, grace, interval, settings.option("blocks"))
    return PairedStopping(epochs, blocks, grace, interval, settings.option("alpha"), settings.option("test"))


def _check_epochs(settings: Search, epochs: int) -> None:
    """Refuse options that leave a scheduler nothing to decide."""
    for option in ("grace", "interval"):
        known = settings.scheduler in ("pbt", "pb2") or option == "grace"
        if known and option in _options(settings) and settings.option(option) >= epochs:
            raise DefinitionError(
                f"search.options.{option} is {settings.option(option)}, but a training has {epochs} epochs: "
                f"scheduler {settings.scheduler} would never decide anything; use less, or scheduler none"
            )


def _options(settings: Search) -> Sequence[str]:
    from study.search.settings import SCHEDULER_OPTIONS

    return list(SCHEDULER_OPTIONS[settings.scheduler])
