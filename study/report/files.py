"""Writing a report's files: each one whole or not at all, and byte for byte the same for the same rows."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from study.errors import StudyError
from study.report.drawing import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FIGURE_KINDS = (".png", ".pdf", ".svg")
"""Endings of the files that a single figure can be written to."""
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
_PRINT_DPI = 300


def write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and move it into place, so that a reader never sees half of it.

    Raises:
        StudyError: the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as failure:
        with suppress(OSError):
            temporary.unlink()
        raise StudyError(f"cannot write {path}: {failure.strerror or failure}") from failure


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends."""
    write(path, text.encode("utf-8"))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV; an empty cell is a missing number."""
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format="%.10g"))


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet; columns of mixed kinds become text."""
    mixed = {name: table[name].map(_as_text) for name in table.columns if table[name].dtype == object}
    buffer = io.BytesIO()
    table.assign(**mixed).to_parquet(buffer, index=False)
    write(path, buffer.getvalue())


def _as_text(value: object) -> str | None:
    return None if value is None or value != value else str(value)


def write_figures(folder: Path, draw: Callable[[], dict[str, Figure]]) -> list[str]:
    """Draw figures in the report's own style and write each as PNG and SVG; return their stems.

    What would change from run to run or machine to machine is left out: dates, library versions, random ids and the
    user's matplotlib settings.
    """
    with styled():
        figures = draw()
        for stem, figure in figures.items():
            for kind in ("png", "svg"):
                write(folder / f"{stem}.{kind}", _drawn(figure, kind))
    return list(figures)


def write_figure(path: Path, draw: Callable[[], Figure]) -> None:
    """Draw one figure in the report's own style and write it, for print, in the format of the file's ending."""
    with styled():
        write(path, _drawn(draw(), path.suffix.lower()[1:], dpi=_PRINT_DPI))


def _drawn(figure: Figure, kind: str, dpi: int | str = "figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=_METADATA[kind], dpi=dpi)
    return buffer.getvalue()


def styled() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn in the report's own style, whatever the user's settings."""
    import matplotlib

    settings: Any = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    return matplotlib.rc_context(settings | STYLE)
