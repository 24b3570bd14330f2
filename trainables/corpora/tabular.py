"""Reading label files: CSV whose mistakes are told with file and line."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strategies.errors import suggestion
from trainables.errors import CorpusError


@dataclass(frozen=True)
class Line:
    """One record of a label file.

    Attributes:
        where: file and line, for messages.
        fields: column -> text, without spaces around it.
    """

    where: str
    fields: dict[str, str]

    def whole_number(self, column: str) -> int:
        """Return a field that must be a whole number.

        Raises:
            CorpusError: it is not.
        """
        text = self.fields[column]
        if not text.isdecimal():
            raise CorpusError(f"{self.where}: {column} is '{text}', but must be a whole number")
        return int(text)

    def number(self, column: str) -> float | None:
        """Return a field that must be a finite number, or None where it is empty.

        Raises:
            CorpusError: it is neither.
        """
        text = self.fields[column]
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise CorpusError(f"{self.where}: {column} is '{text}', but must be a number")
        return value


def read_lines(path: Path, columns: Sequence[str]) -> list[Line]:
    """Return the records of a CSV file with a header, in UTF-8; bytes that are not are kept for ``repaired``.

    Raises:
        CorpusError: it cannot be read, lacks a column, or a line is damaged.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as failure:
        raise CorpusError(f"{path} cannot be read: {failure.strerror or failure}") from failure
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[Line] = []
    header: list[str] | None = None
    number = 1
    try:
        for record in reader:
            where, number = f"{path.name}, line {number}", reader.line_num + 1
            if header is None:
                header = _header(path, record, columns)
            elif len(record) == len(header):
                lines.append(Line(where, dict(zip(header, map(str.strip, record), strict=True))))
            elif record:
                raise CorpusError(f"{where}: {len(record)} fields instead of {len(header)}: the file is damaged")
    except csv.Error as mistake:
        raise CorpusError(f"{path.name}, line {number}: {mistake}: the file is damaged") from mistake
    if header is None:
        raise CorpusError(f"{path} is empty")
    return lines


def _header(path: Path, record: Sequence[str], columns: Sequence[str]) -> list[str]:
    names = [name.strip() for name in record]
    for column in columns:
        if column not in names:
            shown = ", ".join(names) if len(names) <= 20 else f"{', '.join(names[:20])} and more"
            raise CorpusError(f"{path.name} has no column '{column}' (it has: {shown}){suggestion(column, names)}")
    return names


def repaired(text: str) -> str:
    r"""Return text with what was left of another encoding put right, typographic signs as plain ones, single spaces.

    Bytes 0x80 to 0x9F of Windows-1252 survive in label files as they are, or as the control characters of the same
    numbers.

    >>> repaired("you\x92ll  do \x96 that\u2026")
    "you'll do - that..."
    """
    whole = "".join(map(_windows, text))
    return " ".join(whole.translate(_PLAIN).split())


def _windows(character: str) -> str:
    """Return the character that a stray byte stood for."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    elif not 0x80 <= code <= 0x9F:
        return character
    return bytes([code]).decode("cp1252", errors="ignore")


_PLAIN = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
        "\u2026": "...",
        "\u00a0": " ",
    }
)
