r"""What the text files of IEMOCAP say: evaluations and transcripts.

``EmoEvaluation/<dialog>.txt`` has a block for each utterance::

    [6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
    C-E2:\tNeutral;\t()
    C-F1:\tNeutral;\t(curious)
    A-E3:\tval 3; act 2; dom  2;\t()

The first line has its range in the dialog in seconds, the consensus of the external evaluators (``xxx`` where they have
none), and the means of valence, arousal and dominance, in this order. ``C-`` lines are what an evaluator saw, ``A-``
lines how they rate it from 1 to 5; ``E`` are external evaluators, ``F`` and ``M`` the actors themselves.
"""

import re
from dataclasses import dataclass, field

CODES = ("neu", "ang", "hap", "exc", "sad", "fru", "sur", "fea", "dis", "oth")
"""The emotions as the consensus names them; evaluators write them out, and the first three letters are the same."""
NO_CONSENSUS = "xxx"
DIMENSIONS = ("valence", "arousal", "dominance")

DIALOG = re.compile(r"Ses(?P<session>0[1-5])(?P<marker>[FM])_(?:impro0[1-8][ab]?|script0[1-3]_[1-3]b?)")
"""Names of the 151 dialogs; ``marker`` is who wears the motion capture markers, not who speaks."""
UTTERANCE = re.compile(rf"(?P<dialog>{DIALOG.pattern})_(?P<speaker>[FM])\d{{3}}")
"""Names of all 10,039 utterances; ``speaker`` is who speaks."""

_NUMBER = r"\d+(?:\.\d+)?"
_SUMMARY = re.compile(
    rf"\[\s*({_NUMBER})\s*-\s*({_NUMBER})\s*\]\s+(\S+)\s+([a-z]{{3}})\s+"
    rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]"
)
_SEEN = re.compile(r"C-(?P<who>[EFM]\d+)\s*:\s*(?P<names>[^()]*?)\s*(?:\(.*)?")
_RATED = re.compile(
    r"A-(?P<who>[EFM]\d+)\s*:\s*val\s*([1-5]?)\s*;\s*act\s*([1-5]?)\s*;\s*dom\s*([1-5]?)\s*;?\s*(?:\(.*)?"
)
_SPOKEN = re.compile(r"(?P<utterance>Ses\S+)\s*\[[^\]]*\]\s*:\s*(?P<text>.*)")


@dataclass
class Evaluation:
    """What is said of one utterance.

    Attributes:
        utterance: its name.
        start_s: where it begins in the dialog, seconds.
        end_s: where it ends.
        consensus: one of ``CODES``, or ``NO_CONSENSUS``.
        means: valence, arousal and dominance, the means over the external evaluators.
        seen: evaluator -> the codes they chose, in the order of the file.
        rated: evaluator -> dimension -> rating from 1 to 5; a dimension that they left out is not there.
    """

    utterance: str
    start_s: float
    end_s: float
    consensus: str
    means: tuple[float, float, float]
    seen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rated: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def dialog(self) -> str:
        """The dialog it is part of."""
        return self.utterance.rpartition("_")[0]

    @property
    def marker(self) -> str:
        """Who wears the markers in this dialog, ``F`` or ``M``."""
        return self.utterance[5]

    @property
    def speaker(self) -> str:
        """Who speaks, ``F`` or ``M``: the last letter of the name, whoever wears the markers."""
        return self.utterance.rpartition("_")[2][0]

    @property
    def domain(self) -> str:
        """``improvised`` or ``scripted``."""
        return "improvised" if "_impro" in self.utterance else "scripted"


@dataclass
class Evaluations:
    """The content of one file.

    Attributes:
        found: the utterances, in the order of the file.
        damaged: line number and text of lines that should be an utterance and are not: its label is lost.
        odd: line number and text of other lines that are not understood: an evaluator is not counted.
    """

    found: list[Evaluation] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    odd: list[tuple[int, str]] = field(default_factory=list)


def parse_evaluations(text: str, dialog: str) -> Evaluations:
    r"""Return what a file of ``EmoEvaluation`` says.

    >>> text = "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\nC-E2:\tNeutral; Anger;\t()"
    >>> parse_evaluations(text, "Ses01F_impro01").found[0].seen
    {'E2': ('neu', 'ang')}

    Args:
        text: its content.
        dialog: the name of the file without suffix; an utterance of another dialog is a damaged line.
    """
    read = Evaluations()
    lost = False
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        if line.startswith("[") or "Ses" in line.partition("(")[0]:
            evaluation = _summary(line, dialog)
            lost = evaluation is None
            if evaluation is None:
                read.damaged.append((number, line))
            else:
                read.found.append(evaluation)
        elif not lost and not (read.found and _add(read.found[-1], line)):
            read.odd.append((number, line))
    return read


def _summary(line: str, dialog: str) -> Evaluation | None:
    match = _SUMMARY.fullmatch(line)
    if match is None:
        return None
    start, end, utterance, consensus, *means = match.groups()
    name = UTTERANCE.fullmatch(utterance)
    known = consensus in CODES or consensus == NO_CONSENSUS
    if name is None or name["dialog"] != dialog or not known or not float(start) < float(end):
        return None
    valence, arousal, dominance = map(float, means)
    return Evaluation(utterance, float(start), float(end), consensus, (valence, arousal, dominance))


def _add(evaluation: Evaluation, line: str) -> bool:
    """Add the line of an evaluator; return whether it is one."""
    if match := _SEEN.fullmatch(line):
        codes = tuple(name.strip()[:3].lower() for name in match["names"].split(";") if name.strip())
        if codes and set(codes) <= set(CODES):
            evaluation.seen[match["who"]] = codes
            return True
        return False
    if match := _RATED.fullmatch(line):
        ratings = zip(DIMENSIONS, match.groups()[1:], strict=True)
        evaluation.rated[match["who"]] = {dimension: int(rating) for dimension, rating in ratings if rating}
        return True
    return False


def parse_transcript(text: str) -> dict[str, str]:
    r"""Return utterance -> what is said; lines without a name are left out, of lines that repeat the first counts.

    >>> parse_transcript("Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\nM: Yes.")
    {'Ses01F_impro01_F000': 'Excuse me.'}
    """
    said: dict[str, str] = {}
    for line in text.splitlines():
        match = _SPOKEN.fullmatch(line.strip())
        if match and UTTERANCE.fullmatch(match["utterance"]):
            said.setdefault(match["utterance"], match["text"].strip())
    return said
