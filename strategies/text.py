"""What may be shown and kept: the words of strangers without control characters, addresses without secrets."""

import re
import unicodedata

HIDDEN = "***"
"""What stands for a secret."""

_USER = re.compile(r"(?<=://)(?:[^\s/@:'\"]*:[^\s'\"]*|[^\s/@:'\"]+)@")
_PARAMETER = re.compile(r"([?&;][^=&;\s'\"]*(?:key|secret|token|pass|pwd|sig|cred|auth)[^=&;\s'\"]*=)[^&;\s'\"]+", re.I)
_SHOWN_ANYWAY = "\n\t"


def redacted(text: str) -> str:
    """Return a text with the user, the password and the keys of every address in it hidden.

    >>> redacted("tracking store https://ann:pa/ss@host:5000/x does not answer")
    'tracking store https://***@host:5000/x does not answer'
    >>> redacted("s3://bucket/store?region=eu-west-1&secret_key=abc")
    's3://bucket/store?region=eu-west-1&secret_key=***'
    """
    return _PARAMETER.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def printable(text: str) -> str:
    r"""Return a text that a terminal only prints: control characters and those that turn the writing round are spelt.

    Line ends and tabs are kept.

    >>> printable("plain\x1b]0;title\x07")
    'plain\\x1b]0;title\\x07'
    """
    return "".join(_spelt(character) if _is_control(character) else character for character in text)


def shown(text: str) -> str:
    """Return a text that may be shown on a terminal and kept in a log: ``printable`` and ``redacted``."""
    return printable(redacted(text))


LONGEST_NAME = 100
"""Characters of a name that an error line shows."""


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name that an error line has room for: of a longer one its beginning, its end and its length.

    >>> shortened("softmax"), shortened("a" * 300 + "b" * 100, 20)
    ('softmax', 'aaaaaaaaaaaaaaa…bbbbb (400 characters)')
    """
    if len(name) <= longest:
        return name
    return f"{name[: longest - longest // 4]}…{name[-(longest // 4) :]} ({len(name)} characters)"


def _is_control(character: str) -> bool:
    if character.isascii():
        return not character.isprintable() and character not in _SHOWN_ANYWAY
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in _TURNING


_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Classes of the characters that change the direction of what follows."""


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
