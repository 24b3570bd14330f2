"""Files of a user's, read as those of the corpus that a network was trained on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.corpora.base import Corpus, is_told
from trainables.corpora.decoding import Media, decode
from trainables.corpora.faces import FIXED
from trainables.corpora.registry import create
from trainables.errors import MediaError
from trainables.inputs import InputSettings


class Clips:
    """Reads single files: cut, trimmed and cropped as the utterances of a corpus were.

    Args:
        source: ``name`` and ``options`` of the corpus that a network was trained on.
        modalities: what of ``("audio", "video", "text")`` the network reads.
        settings: what it wants to be fed.

    Attributes:
        settings: what every file is cut and scaled to.

    Raises:
        CorpusError: there is no such corpus.
    """

    def __init__(self, source: Mapping[str, Any], modalities: Sequence[str], settings: InputSettings) -> None:
        self._corpus = create(source["name"], **source["options"])
        self._plain = Corpus()
        self._plain.crop = self._corpus.crop
        self._corpus.modalities = self._plain.modalities = tuple(modalities)
        self.settings = settings

    def read(self, path: Path, text: str | None) -> Media:
        """Return the signal of a file, of equal duration where it has sound and pictures.

        Args:
            path: a sound file or a film.
            text: what is said in it; None if nobody told.

        Raises:
            MediaError: it is not there or no medium, has no sound or no picture where the network needs it, is silent,
                shows no face where faces are looked for, or a transcript is needed and there is none.
        """
        if not path.is_file():
            raise MediaError(f"{path} is not there" if not path.is_dir() else f"{path} is a folder, not a file")
        if "text" in self._corpus.modalities and not is_told(text):
            raise MediaError(f"{path}: the network reads what is said, and no transcript was given")
        row = self._corpus.clip(path)
        corpus = self._plain if row is None else self._corpus
        media = decode(corpus, path.parent, self.settings, {**(row or self._plain.clip(path) or {}), "text": text})
        if media.problem is not None:
            raise MediaError(media.problem if str(path) in media.problem else f"{path}: {media.problem}")
        if media.face == FIXED:
            raise MediaError(f"{path} shows no face: none was found, as the network's training looked for one")
        return media
