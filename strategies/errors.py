"""Mistakes of the user, told in one line."""

import difflib
from collections.abc import Iterable

from strategies.text import shortened


class UserError(Exception):
    """Something the user can put right: one line that says what, where, what is allowed and the nearest name.

    The command line prints it and ends with exit code 2. It takes exactly one string, so that it survives pickling
    on its way back from a worker process.
    """


class StrategyError(UserError):
    """A strategy that does not exist, cannot be loaded, or was given an option it cannot use."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name nearest to ``name``, or an empty string.

    >>> suggestion("gradnrom", ["equal", "gradnorm"])
    "; did you mean 'gradnorm'?"
    >>> suggestion("zzz", ["equal", "gradnorm"])
    ''
    """
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{shortened(nearest[0])}'?" if nearest else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the one line for a name that does not exist: what it was, what exists, what was probably meant.

    >>> unknown("strategy", "softmix", ["equal", "softmax"])
    "unknown strategy 'softmix' (known: equal, softmax); did you mean 'softmax'?"
    """
    names = sorted(known)
    shown = [shortened(each) for each in names[:MOST_KNOWN]]
    more = f" and {len(names) - MOST_KNOWN} more" if len(names) > MOST_KNOWN else ""
    return f"unknown {kind} '{shortened(name)}' (known: {', '.join(shown) or 'none'}{more}){suggestion(name, names)}"


MOST_KNOWN = 80
"""Names that a line about one that does not exist tells; the nearest is told whatever their number."""
