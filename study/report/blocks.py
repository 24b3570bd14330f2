"""What a report is made of before it is Markdown, HTML or LaTeX: sections of paragraphs, lists, tables and figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_ROWS = 60
"""Rows of a table that people still read; more are in its file."""
MOST_LINES = 40
"""Sentences of a list that people still read."""
MOST_NAMES = 12
"""Names within a sentence that people still read."""


@dataclass(frozen=True)
class Paragraph:
    """Sentences that belong together; a warning stands out."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Bullets:
    """Sentences one below the other."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells that are text already.

    Attributes:
        heads: what stands above the columns.
        rows: cells, as many in a row as there are heads.
        stem: name of the file that LaTeX includes.
        caption: what the table shows, in a few words.
        words: columns that hold words; all others hold numbers and are aligned to the right.
        strong: rows that stand out, such as that of the control.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    stem: str
    caption: str
    words: int = 1
    strong: frozenset[int] = frozenset()

    def is_word(self, column: int) -> bool:
        """Whether a column holds words."""
        if column < self.words:
            return True
        told = [row[column] for row in self.rows if row[column] != "-"]
        return bool(told) and not any(_NUMBER.match(cell) for cell in told)


@dataclass(frozen=True)
class Figure:
    """A figure that has been drawn."""

    stem: str
    caption: str


Block = Paragraph | Bullets | Table | Figure


@dataclass(frozen=True)
class Section:
    """A part of the report with a heading; without blocks it is left out."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """What a link within the page points to."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


_NUMBER = re.compile(r"[-+]?\d")


def section(title: str, *blocks: Block | Iterable[Block] | None) -> Section:
    """Return a section of the blocks that there are."""
    found: list[Block] = []
    for block in blocks:
        if isinstance(block, Paragraph | Bullets | Table | Figure):
            found.append(block)
        elif block is not None:
            found.extend(block)
    return Section(title, tuple(found))


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[object]],
    stem: str,
    caption: str,
    *,
    words: int = 1,
    strong: Iterable[int] = (),
) -> list[Block]:
    """Return a table of what people still read, and where the rest of it is."""
    cells = tuple(tuple(str(cell) for cell in row) for row in rows)
    shown = Table(tuple(heads), cells[:MOST_ROWS], stem, caption, words, frozenset(strong))
    if len(cells) <= MOST_ROWS:
        return [shown]
    return [shown, Paragraph(f"{len(cells) - MOST_ROWS} more rows are in tables/{stem}.csv.")]


def bullets(lines: Iterable[str], stem: str = "findings") -> list[Block]:
    """Return a list of what people still read, and where the rest of it is; nothing for no lines."""
    told = tuple(lines)
    if not told:
        return []
    if len(told) <= MOST_LINES:
        return [Bullets(told)]
    return [Bullets((*told[:MOST_LINES], f"{len(told) - MOST_LINES} more are in tables/{stem}.csv."))]


def figure(drawn: Sequence[str], stem: str, caption: str) -> list[Block]:
    """Return a figure if it was drawn."""
    return [Figure(stem, caption)] if stem in drawn else []


def listed(names: Iterable[str], joint: str = " and ") -> str:
    """Return names as they stand in a sentence, the first of many.

    >>> listed(["a", "b", "c"]), listed(["a"]), listed(map(str, range(100)))[-20:]
    ('a, b and c', 'a', '10, 11 and 88 others')
    """
    items = list(names)
    if len(items) > MOST_NAMES:
        items = [*items[:MOST_NAMES], f"{len(items) - MOST_NAMES} others"]
    return joint.join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)
