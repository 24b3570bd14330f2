"""Names of things that can be plugged in, and how to load one of them.

A registry is a literal table for what ships with the project plus the entry points of installed distributions, read
through one code path. Listing imports nothing: only the chosen entry is loaded, so a broken plug-in breaks nobody but
its own users. (A table and not only entry points, because a worker that was given nothing but a working directory has
no distribution metadata.)
"""

from collections.abc import Mapping
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
        self._builtins = [EntryPoint(name, value, group) for name, value in builtins.items()]

    def entries(self) -> dict[str, EntryPoint]:
        """Return every entry by name, built-in ones first; nothing is imported.

        Raises:
            UserError: two distributions (or one and the project) register the same name.
        """
        found: dict[str, EntryPoint] = {}
        for entry in [*self._builtins, *entry_points(group=self.group)]:
            other = found.setdefault(entry.name, entry)
            if other.value != entry.value:
                raise self.error(
                    f"{self.kind} '{entry.name}' is registered twice, as {other.value} and as {entry.value}: "
                    "uninstall one of the two or rename it"
                )
        return found

    def distribution(self, name: str) -> str:
        """Return the name of the distribution that registers the entry called ``name``."""
        origin = self.entries()[name].dist
        return PROJECT if origin is None else origin.name

    def names(self) -> list[str]:
        """Return the names of all entries, built-in ones first, in the order of their registration."""
        return list(self.entries())

    def load(self, name: str) -> type[Plugin]:
        """Import and return the class called ``name``.

        Raises:
            UserError: there is no such entry, importing it failed, or it is no subclass of ``base``.
        """
        entries = self.entries()
        if name not in entries:
            raise self.error(unknown(self.kind, name, entries))
        try:
            loaded = entries[name].load()
        except Exception as failure:
            raise self.error(
                f"{self.kind} '{name}' ({entries[name].value}) cannot be loaded: {type(failure).__name__}: {failure}"
            ) from failure
        if not (isinstance(loaded, type) and issubclass(loaded, self.base)):
            wanted = f"{self.base.__module__}.{self.base.__qualname__}"
            raise self.error(f"{self.kind} '{name}' is {loaded!r}, which is not a subclass of {wanted}")
        return loaded
