"""Names of things that can be plugged in, and how to load one of them.

A registry is a literal table for what ships with the project plus the entry points of installed distributions, read
through one code path. Listing imports nothing: only the chosen entry is loaded, so a broken plug-in breaks nobody but
its own users. (A table and not only entry points, because a worker that was given nothing but a working directory has
no distribution metadata.)

The same holds for names: what two distributions claim is refused to those who use that name and to nobody else, and
the names of the project stay its own. Listings show each clash in one line.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from strategies.errors import UserError, unknown

PROJECT = "weighting-study"
"""The distribution that the built-in entries come with."""

Plugin = TypeVar("Plugin")


class Registry(Generic[Plugin]):
    """The named entries of one kind of plug-in (strategies, networks, corpora).

    Args:
        kind: what an entry is called in messages, such as ``"strategy"``.
        group: the entry-point group that other distributions register in.
        builtins: name -> ``"module:attribute"`` of the entries that ship with the project.
        base: the class that every entry is a subclass of.
        error: the exception raised for every mistake.
    """

    def __init__(
        self, kind: str, group: str, builtins: Mapping[str, str], base: type[Plugin], error: type[UserError]
    ) -> None:
        self.kind = kind
        self.group = group
        self.base = base
        self.error = error
        self._builtins = {name: EntryPoint(name, value, group) for name, value in builtins.items()}

    def entries(self) -> dict[str, EntryPoint]:
        """Return every entry that can be used, by name, built-in ones first; nothing is imported.

        A name that belongs to the project stays the project's, whatever else is installed: no plug-in changes what a
        shipped definition means. A name that two plug-ins claim is nobody's, as either would be a guess.
        """
        return {
            name: claims[0] for name, claims in self._claims().items() if len(claims) == 1 or claims[0].dist is None
        }

    def clashes(self) -> dict[str, str]:
        """Return name -> one line, for every name that is registered for more than one thing."""
        return {name: self._clash(name, claims) for name, claims in self._claims().items() if len(claims) > 1}

    def _claims(self) -> dict[str, list[EntryPoint]]:
        """Return all that is registered under each name; a distribution that is found twice counts once."""
        found: dict[str, list[EntryPoint]] = {}
        for entry in [*self._builtins.values(), *entry_points(group=self.group)]:
            claims = found.setdefault(entry.name, [])
            if entry.value not in [other.value for other in claims]:
                claims.append(entry)
        return found

    def _clash(self, name: str, claims: Sequence[EntryPoint]) -> str:
        both = " and by ".join(f"{_distribution(entry)} ({entry.value})" for entry in claims)
        outcome = "the first is used" if claims[0].dist is None else "neither is used"
        return f"{self.kind} '{name}' is registered by {both}: {outcome}; rename one of them or uninstall it"

    def distribution(self, name: str) -> str:
        """Return the name of the distribution that registers the entry called ``name``."""
        return _distribution(self.entries()[name])

    def names(self) -> list[str]:
        """Return the names of all entries that can be used, built-in ones first, in the order of registration."""
        return list(self.entries())

    def load(self, name: str) -> type[Plugin]:
        """Import and return the class called ``name``.

        Raises:
            UserError: there is no such entry, two plug-ins claim it, importing it failed, or it is no subclass of
                ``base``.
        """
        entry = self._entry(name)
        try:
            loaded = entry.load()
        except (Exception, SystemExit) as failure:
            reason = " ".join(f"{type(failure).__name__}: {failure}".split())
            origin = f"{entry.value}, of {_distribution(entry)}"
            raise self.error(f"{self.kind} '{name}' ({origin}) cannot be loaded: {reason}") from failure
        if not (isinstance(loaded, type) and issubclass(loaded, self.base)):
            wanted = f"{self.base.__module__}.{self.base.__qualname__}"
            raise self.error(f"{self.kind} '{name}' is {loaded!r}, which is not a subclass of {wanted}")
        return loaded

    def _entry(self, name: str) -> EntryPoint:
        if name in self._builtins:  # looking through all that is installed takes 7 ms
            return self._builtins[name]
        entries = self.entries()
        if name not in entries:
            raise self.error(self.clashes().get(name) or unknown(self.kind, name, entries))
        return entries[name]


def _distribution(entry: EntryPoint) -> str:
    return PROJECT if entry.dist is None else entry.dist.name
