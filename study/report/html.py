"""A report as one HTML file that holds everything it shows: it opens offline and inside a sandboxed frame.

The page may load nothing and run nothing, and says so itself (its content security policy): not even what somebody
wrote into a name or an error message could.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from strategies.text import printable
from study.report.blocks import Bullets, Figure, Paragraph, Table
from study.report.page import Page

_KINDS = {Paragraph: "paragraph", Bullets: "bullets", Table: "table", Figure: "figure"}


def render(content: Page, figures: Mapping[str, str]) -> str:
    """Return a report as a page.

    Args:
        content: the report.
        figures: stem -> SVG, as matplotlib writes it.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    template = resources.files("study.report").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["kind"] = lambda block: _KINDS[type(block)]
    environment.filters["shown"] = printable
    pictures: dict[str, Any] = {stem: Markup(inlined(svg, stem)) for stem, svg in figures.items()}
    return environment.from_string(template).render(page=content, pictures=pictures) + "\n"


def inlined(svg: str, stem: str) -> str:
    """Return an SVG as part of a page: no prologue, no comments, no size of its own, ids of its own.

    Two figures of matplotlib share ids, of which a page has each once; whoever reads out the page hears the caption.
    """
    svg = re.sub(r"<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{stem}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{stem}-", svg)
    width = re.search(r'<svg[^>]*?\bwidth="([\d.]+)pt"', svg)
    size = f' style="width:{width[1]}pt"' if width else ""
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf"\1{size}", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip())
