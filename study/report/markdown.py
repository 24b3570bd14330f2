"""A report as one Markdown file."""

import re
from collections.abc import Iterable, Sequence

from strategies.text import printable
from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.report.blocks import Block, Bullets, Figure, Paragraph, Table
from study.report.page import Page, page


def markdown(results: Results, comparison: Comparison, drawn: Sequence[str]) -> str:
    """Return the text of the report; ``drawn`` are the stems of the figures that exist."""
    return render(page(results, comparison, drawn))


def render(content: Page) -> str:
    """Return a report as Markdown; its figures are the files ``figures/*.png`` beside it."""
    parts = [f"# {plain(content.title)}", *map(_block, content.opening)]
    for section in content.sections:
        parts += [f"## {plain(section.title)}", *map(_block, section.blocks)]
    return printable("\n\n".join(parts)) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return f"**{plain(block.text)}**" if block.is_warning else plain(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {plain(line)}" for line in block.lines)
    if isinstance(block, Figure):
        caption = plain(block.caption)
        return f"![{caption}](figures/{block.stem}.png)\n\n*{caption}*"
    return table(block)


def table(block: Table) -> str:
    """Return a table of pipes; columns of numbers are aligned to the right."""
    rule = ["---" if block.is_word(column) else "---:" for column in range(len(block.heads))]
    return "\n".join(_line(cells) for cells in (block.heads, rule, *block.rows))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value: str) -> str:
    return " ".join(plain(value).replace("|", "\\|").split())


def plain(text: str) -> str:
    r"""Return text that Markdown shows as it is: no tags of HTML, no links, no pictures, no emphasis.

    >>> print(plain("<b> *bold* p < .05"))
    &lt;b> \*bold\* p < .05
    """
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text).replace("[", "\\[").replace("*", "\\*")
