"""What the crowd said to CREMA-D: the csv files of ``processedResults``."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from trainables.errors import CorpusError

LETTERS = MappingProxyType(
    {"A": "anger", "D": "disgust", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness"}
)
"""Letter of a vote -> class."""
KINDS = ("voice", "face", "audiovisual")
"""What the listeners were given, in the order of the row numbers' first digit in ``tabulatedVotes.csv``: 1, 2, 3."""
SUMMARY, TABULATED = "summaryTable.csv", "tabulatedVotes.csv"
_COLUMNS = MappingProxyType({"voice": "VoiceVote", "face": "FaceVote", "audiovisual": "MultiModalVote"})
_TIE = ":"
_Found = TypeVar("_Found")

Counts = dict[str, dict[str, float]]
"""Kind -> class -> votes."""


def find(root: Path, name: str) -> Path | None:
    """Return a file of ``processedResults``, which some copies have beside the other files; None if it is not there."""
    return next((path for path in (root / "processedResults" / name, root / name) if path.is_file()), None)


def rows_of(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a csv file; the first column is also there as ``""``.

    Raises:
        CorpusError: the file cannot be read, lacks a column, or a row is shorter than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            if lacking := [name for name in columns if name not in header]:
                raise CorpusError(f"{path} has no column '{lacking[0]}': its first line is {','.join(header)[:80]!r}")
            for line in lines:
                if not line:
                    continue
                if len(line) != len(header):
                    raise CorpusError(f"{path} has a row of {len(line)} cells under {len(header)} columns: {line[:3]}")
                yield {"": line[0], **dict(zip(header, line, strict=True))}
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise CorpusError(f"{path} cannot be read: {failure}") from failure


def tied_winners(path: Path, kind: str) -> dict[str, tuple[str, ...]]:
    """Return clip -> the classes that most people chose; more than one is a tie, written ``F:N`` in the file."""
    column = _COLUMNS[kind]
    return {
        row["FileName"]: tuple(_known(LETTERS, letter, path, row["FileName"]) for letter in row[column].split(_TIE))
        for row in rows_of(path, "FileName", column)
        if row[column]
    }


def all_votes(path: Path) -> dict[str, Counts]:
    """Return clip -> kind -> class -> votes."""
    votes: dict[str, Counts] = {}
    kinds = {str(number): kind for number, kind in enumerate(KINDS, start=1)}
    for row in rows_of(path, "fileName", *LETTERS):
        kind = _known(kinds, row[""][:1], path, row["fileName"])
        votes.setdefault(row["fileName"], {})[kind] = {
            LETTERS[letter]: _number(row[letter], path, row["fileName"]) for letter in LETTERS
        }
    return votes


def _known(known: Mapping[str, _Found], key: str, path: Path, clip: str) -> _Found:
    if key not in known:
        raise CorpusError(f"{path}: {key!r} of {clip} is none of {', '.join(known)}")
    return known[key]


def _number(cell: str, path: Path, clip: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise CorpusError(f"{path}: the votes {cell!r} of {clip} are no number") from None
