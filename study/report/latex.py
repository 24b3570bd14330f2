r"""The tables of a report for a paper: one ``tabular`` a file, and a document that shows them all.

A table needs ``\usepackage{booktabs}`` and nothing else: ``\input{comparison.tex}`` within a ``table`` of one's own.
"""

import unicodedata
from collections.abc import Mapping

from strategies.text import printable
from study.report.blocks import Block, Paragraph, Table
from study.report.page import Page

_LONGEST = 48
"""Characters of a cell that stand on one line."""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escaped(text: str) -> str:
    r"""Return text as LaTeX prints it: nothing in it is a command.

    Characters that the standard fonts do not have lose their marks, or are named by their number.

    >>> escaped("50 % of $x_1$ ± 0.1")
    '50 \\% of \\$x\\_1\\$ $\\pm$ 0.1'
    """
    return "".join(_SPECIAL.get(character) or _ascii(character) for character in " ".join(printable(text).split()))


def _ascii(character: str) -> str:
    if character.isascii():
        return character
    simpler = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    return "".join(_SPECIAL.get(each, each) for each in simpler) or f"[U+{ord(character):04X}]"


def tabular(table: Table) -> str:
    """Return a table as a ``tabular`` with the rules of booktabs; numbers are aligned to the right."""
    columns = "".join(_column(table, index) for index in range(len(table.heads)))
    rows = [table.heads, *table.rows]
    lines = [" & ".join(map(_number, row)) + r" \\" for row in rows]
    body = [lines[0], r"\midrule", *lines[1:]]
    return "\n".join([f"\\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _column(table: Table, index: int) -> str:
    if max(len(row[index]) for row in [table.heads, *table.rows]) > _LONGEST:
        return r"p{0.6\textwidth}"
    return "l" if table.is_word(index) else "r"


def _number(cell: str) -> str:
    """Return a cell with a minus sign where a number begins with a hyphen."""
    text = escaped(cell)
    return f"$-${text[1:]}" if len(text) > 1 and text[0] == "-" and text[1].isdigit() else text


def tables(content: Page) -> dict[str, str]:
    """Return file stem -> ``tabular`` of every table in a report."""
    found = [block for section in content.sections for block in section.blocks if isinstance(block, Table)]
    return {table.stem: tabular(table) for table in found}


_PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[utf8]{inputenc}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\newsavebox{\tablebox}
\newcommand{\fitted}[1]{\sbox{\tablebox}{\footnotesize\input{#1}}%
  \resizebox{\ifdim\wd\tablebox>\textwidth\textwidth\else\wd\tablebox\fi}{!}{\usebox{\tablebox}}}
\begin{document}
"""


def document(content: Page, folder: str = "tables") -> str:
    """Return a document with every table of a report, each from its file in ``folder``, and what stands before it."""
    parts = [f"\\section*{{{escaped(content.title)}}}", *filter(None, map(_text, content.opening))]
    for section in content.sections:
        if not any(isinstance(block, Table) for block in section.blocks):
            continue
        parts.append(f"\\subsection*{{{escaped(section.title)}}}")
        parts += [_shown(block, folder) if isinstance(block, Table) else _text(block) for block in section.blocks]
    return _PREAMBLE + "\n\n".join(part for part in parts if part) + "\n\n\\end{document}\n"


def _text(block: Block) -> str:
    if not isinstance(block, Paragraph):
        return ""
    return f"\\textbf{{{escaped(block.text)}}}" if block.is_warning else escaped(block.text)


def _shown(table: Table, folder: str) -> str:
    caption = f"\\emph{{{escaped(table.caption)}}} ({escaped(table.stem)}.tex)\\\\[1ex]"
    return f"\\begin{{center}}\n{caption}\n\\fitted{{{folder}/{table.stem}.tex}}\n\\end{{center}}"


def files(content: Page) -> Mapping[str, str]:
    """Return path within the report's folder -> text: the document and its tables."""
    return {"report.tex": document(content), **{f"tables/{stem}.tex": text for stem, text in tables(content).items()}}
