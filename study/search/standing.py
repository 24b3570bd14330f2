"""The standing of blocks among the others after so many epochs, kept up to date so that a look at it stays cheap."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

from study.search.segments import Block

Entry = tuple[float, int]
"""A value and the number of the block that has it."""


class Standing:
    """Blocks in the order of a value that each of them has after so many epochs, smaller first.

    Sorting anew at every look would make a search of n configurations cost in the order of n squared.

    Args:
        value: of a block after so many epochs; it never changes.
    """

    def __init__(self, value: Callable[[Block, int], float]) -> None:
        self._value = value
        self._orders: dict[int, list[Entry]] = {}
        self._of_block: dict[int, dict[int, Entry]] = {}

    def add(self, block: Block, epoch: int) -> None:
        """Take in a block that has got to an epoch, unless it is there."""
        entries = self._of_block.setdefault(block.number, {})
        if epoch not in entries:
            entries[epoch] = (self._value(block, epoch), block.number)
            insort(self._orders.setdefault(epoch, []), entries[epoch])

    def remove(self, block: Block) -> None:
        """Leave a block out, after whatever epochs."""
        for epoch, entry in self._of_block.pop(block.number, {}).items():
            order = self._orders[epoch]
            del order[bisect_left(order, entry)]

    def count(self, epoch: int) -> int:
        """Return how many blocks have got to an epoch."""
        return len(self._orders.get(epoch, ()))

    def rank(self, block: Block, epoch: int) -> int:
        """Return how many blocks are before this one, which is one of them."""
        return bisect_left(self._orders[epoch], self._of_block[block.number][epoch])

    def median_of_others(self, block: Block, epoch: int) -> float:
        """Return the median over the blocks but this one, which is one of them; there has to be another."""
        order, own = self._orders[epoch], self.rank(block, epoch)
        half = (len(order) - 1) // 2
        upper = order[half + (half >= own)][0]
        if len(order) % 2 == 0:
            return upper
        return (order[half - 1 + (half - 1 >= own)][0] + upper) / 2

    def ordered(self, epoch: int) -> Iterator[int]:
        """Yield the numbers of the blocks, best first."""
        for _, number in self._orders.get(epoch, ()):
            yield number
