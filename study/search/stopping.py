"""Schedulers that end a block which falls behind: the median rule and paired tests over seeds."""

from collections.abc import Iterator, Sequence

import numpy as np

from study.search.schedulers import Proposal, Scheduler
from study.search.segments import Block
from study.search.standing import Standing


class Stopping(Scheduler):
    """Train every block to the end, a few epochs at a time, unless it falls behind.

    Args:
        epochs: of a whole training.
        blocks: those of the method.
        grace: epochs before a block may be ended.
        interval: epochs from one look at a block to the next.
    """

    def __init__(self, epochs: int, blocks: Sequence[Block], grace: int, interval: int) -> None:
        super().__init__(epochs, blocks)
        self._grace, self._interval = grace, interval
        self._open: dict[int, Block] = {}
        self.standing = Standing(self.value)

    def value(self, block: Block, epoch: int) -> float:
        """Return what blocks are compared by after so many epochs; smaller is better."""
        return block.loss(epoch)

    def proposals(self) -> Iterator[Proposal]:
        """Return the next epochs of the blocks that were begun, the oldest first, then a new block."""
        owed = sum(self.epochs - block.until for block in self._open.values())
        for _, block in sorted(self._open.items()):
            if block.state == "waiting":
                until = min(self.epochs, block.epochs + self._interval)
                yield Proposal(until, block.number, owed - (until - block.epochs))
        first = min(self.epochs, self._grace)
        yield Proposal(first, reserve=owed + self.epochs - first)

    def started(self, proposal: Proposal, block: Block) -> None:
        """Note that the block is on its way."""
        super().started(proposal, block)
        self._open[block.number] = block

    def absorbed(self, block: Block) -> None:
        """End the block if it is behind."""
        super().absorbed(block)
        if block.state == "failed":
            self.standing.remove(block)
        else:
            self.standing.add(block, block.epochs)
        if block.state == "running":
            block.state = "stopped" if self.is_behind(block) else "waiting"
        if block.state != "waiting":
            del self._open[block.number]

    def retried(self, block: Block) -> None:
        """Give the block back its places among the others."""
        super().retried(block)
        self._open[block.number] = block
        for epoch in range(self._grace, block.epochs + 1, self._interval):
            self.standing.add(block, epoch)

    def is_behind(self, block: Block) -> bool:
        """Whether a block is to be ended, as it stands among all that have got as far."""
        raise NotImplementedError


class MedianStopping(Stopping):
    """End a block whose best value so far is worse than the median of the other blocks' running means.

    Args:
        epochs: of a whole training.
        blocks: those of the method.
        grace: epochs before a block may be ended.
        interval: epochs from one look at a block to the next.
        least: blocks that must have got as far before one is ended.

    Reference:
        Golovin et al., "Google Vizier: a service for black-box optimization", KDD 2017, section 3.2.2.
        https://doi.org/10.1145/3097983.3098043
    """

    def __init__(self, epochs: int, blocks: Sequence[Block], grace: int, interval: int, least: int) -> None:
        super().__init__(epochs, blocks, grace, interval)
        self._least = least

    def value(self, block: Block, epoch: int) -> float:
        """Return the running mean of the first objective."""
        return block.running_mean(epoch)

    def is_behind(self, block: Block) -> bool:
        """Whether the block is worse than the median."""
        if self.standing.count(block.epochs) - 1 < self._least:
            return False
        return block.loss() > self.standing.median_of_others(block, block.epochs)


class PairedStopping(Stopping):
    """End a block that a paired test over the seeds tells to be worse than the best block after as many epochs.

    The test is two-sided and is repeated at every look, so that more than ``alpha`` of the blocks that are as good
    as the best will be ended by chance; none is ended by a single seed.

    Args:
        epochs: of a whole training.
        blocks: those of the method.
        grace: epochs before a block may be ended.
        interval: epochs from one look at a block to the next.
        alpha: the level of the test.
        test: ``t`` or ``wilcoxon``.
    """

    def __init__(
        self, epochs: int, blocks: Sequence[Block], grace: int, interval: int, alpha: float, test: str
    ) -> None:
        super().__init__(epochs, blocks, grace, interval)
        self._alpha, self._test = alpha, test

    def is_behind(self, block: Block) -> bool:
        """Whether the best of the others is better beyond chance."""
        at = block.epochs
        best = self.blocks[next(self.standing.ordered(at))]
        if best.loss(at) >= block.loss(at):
            return False
        own, its = block.losses(at), best.losses(at)
        return _paired_p([own[seed][0] - its[seed][0] for seed in own], self._test) < self._alpha


def _paired_p(differences: Sequence[float], test: str) -> float:
    """Return the two-sided p of paired differences, the least possible one for differences that are all the same.

    >>> round(_paired_p([1.0, 2.0, 3.0], "t"), 4), _paired_p([1.0, 2.0, 3.0], "wilcoxon")
    (0.0742, 0.25)
    """
    from scipy import stats

    values = np.asarray(differences)
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return 0.0 if test == "t" else 2.0 ** (1 - len(values))
    found = stats.ttest_1samp(values, 0.0) if test == "t" else stats.wilcoxon(values, method="exact")
    return float(found.pvalue)
