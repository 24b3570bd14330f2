"""EmoDB: ten actors speak ten German sentences in seven emotions."""

import re
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from trainables.corpora.base import COLUMNS, Corpus
from trainables.corpora.folders import files_in, folders_in, refusals
from trainables.errors import CorpusError

EMOTIONS = MappingProxyType(
    {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}
)
"""Letter in the file name -> class: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral."""
SENTENCES = MappingProxyType(
    {
        "a01": "Der Lappen liegt auf dem Eisschrank.",
        "a02": "Das will sie am Mittwoch abgeben.",
        "a04": "Heute abend könnte ich es ihm sagen.",
        "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
        "a07": "In sieben Stunden wird es soweit sein.",
        "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
        "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
        "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
        "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
        "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
    }
)
"""Code in the file name -> sentence."""
GENDERS = MappingProxyType(
    dict.fromkeys(("03", "10", "11", "12", "15"), "male") | dict.fromkeys(("08", "09", "13", "14", "16"), "female")
)
_NAME = re.compile(r"(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[WLEAFTN])(?P<version>[a-z])")
_GRAMMAR = "speaker, sentence, emotion and version, such as 03a01Fa.wav"
_SUFFIXES = {".wav", ".flac"}


class EmoDB(Corpus):
    """The utterances of EmoDB that were published: those that 80 % of the listeners recognised. Sound only.

    The sentences are the same for every emotion and speaker: a transcript tells nothing.
    """

    name = "emodb"
    classes = {"emotion": tuple(EMOTIONS.values()), "gender": ("female", "male")}  # noqa: RUF012
    modalities = ("audio",)
    licence = "none is stated where its authors publish it; they offer it for download, to be cited when used"
    reference = (
        "Burkhardt, Paeschke, Rolfes, Sendlmeier & Weiss, A Database of German Emotional Speech, Interspeech 2005, "
        "1517-1520. https://doi.org/10.21437/Interspeech.2005-446"
    )
    published_counts = MappingProxyType(
        {"03": 49, "08": 58, "09": 43, "10": 38, "11": 55, "12": 35, "13": 61, "14": 69, "15": 56, "16": 71}
    )
    published_classes = MappingProxyType(
        {
            "emotion": MappingProxyType(
                {
                    "anger": 127,
                    "boredom": 81,
                    "disgust": 46,
                    "fear": 69,
                    "happiness": 71,
                    "sadness": 62,
                    "neutral": 79,
                }
            )
        }
    )

    def read(self, root: Path) -> pd.DataFrame:
        """Return the table of the utterances in ``wav/`` under ``root``, or in ``root`` itself.

        Raises:
            CorpusError: the folder is missing or holds no such file.
        """
        paths = _sound_files(root)
        named = [path for path in paths if not refusals([path], parse_name)]
        if not named:
            raise CorpusError(f"{paths[0].parent} has no utterance of EmoDB: expected {_GRAMMAR}")
        return pd.DataFrame([_row(path, root) for path in named], columns=[*COLUMNS, "emotion"])

    def misnamed(self, root: Path) -> list[str]:
        """Return one line for each sound file whose name does not parse."""
        return refusals(_sound_files(root), parse_name)


def parse_name(path: Path) -> dict[str, str]:
    """Return the parts of a file name.

    >>> parse_name(Path("03a01Fa.wav"))["emotion"]
    'F'

    Raises:
        CorpusError: the name does not follow the grammar, or names a speaker or sentence that the corpus has not.
    """
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise CorpusError(f"{path.parent.name}/{path.name} is not an EmoDB file name: expected {_GRAMMAR}")
    for part, known in (("speaker", GENDERS), ("sentence", SENTENCES)):
        if match[part] not in known:
            raise CorpusError(
                f"{path.parent.name}/{path.name} is not an EmoDB file name: {part} {match[part]} is none of "
                f"{', '.join(sorted(known))}"
            )
    return match.groupdict()


def _sound_files(root: Path) -> list[Path]:
    """Return the sound files of ``wav`` in the root, of the root, or of one folder in it that has them so."""
    if not root.is_dir():
        raise CorpusError(f"{root} is not a folder: expected the folder of EmoDB that holds wav/03a01Fa.wav and so on")
    for place in [root, *folders_in(root)]:
        for folder in (place / "wav", place):
            if folder.is_dir() and (files := files_in(folder, _SUFFIXES)):
                return files
    raise CorpusError(f"{root} has no sound: expected the folder of EmoDB that holds wav/03a01Fa.wav and so on")


def _row(path: Path, root: Path) -> dict[str, object]:
    parts = parse_name(path)
    return {
        "utterance": path.stem,
        "speaker": parts["speaker"],
        "gender": GENDERS[parts["speaker"]],
        "domain": "scripted",
        "audio": str(path.relative_to(root)),
        "text": SENTENCES[parts["sentence"]],
        "start_s": 0.0,
        "emotion": EMOTIONS[parts["emotion"]],
    }
