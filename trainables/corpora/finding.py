"""One thing that is wrong with a corpus."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: ``corpus``, ``name``, ``media``, ``label`` or ``count``.
        subject: the file or utterance.
        message: what is wrong with it.
    """

    kind: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


def few(names: Sequence[str], most: int = 3) -> str:
    """Return the first of some names, and how many more there are.

    >>> few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
