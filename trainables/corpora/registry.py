"""Names of corpora, and how to build one."""

from typing import Any

from strategies.options import check_options
from strategies.plugins import Registry
from trainables.corpora.base import Corpus
from trainables.errors import CorpusError

GROUP = "study.corpora"

REGISTRY = Registry(
    "corpus",
    GROUP,
    {
        "synthetic": "trainables.corpora.synthetic:Synthetic",
        "ravdess": "trainables.corpora.ravdess:Ravdess",
        "cremad": "trainables.corpora.cremad:CremaD",
        "emodb": "trainables.corpora.emodb:EmoDB",
        "iemocap": "trainables.corpora.iemocap:Iemocap",
        "meld": "trainables.corpora.meld:Meld",
        "mosei": "trainables.corpora.mosei:Mosei",
    },
    Corpus,
    CorpusError,
)


def names() -> list[str]:
    """Return the names of all corpora, the project's own first.

    >>> names()[:2]
    ['synthetic', 'ravdess']
    """
    return REGISTRY.names()


def load(name: str) -> type[Corpus]:
    """Return the class of the corpus called ``name``.

    Raises:
        CorpusError: unknown name, broken plug-in, or an entry that is no corpus.
    """
    return REGISTRY.load(name)


def create(name: str, **options: Any) -> Corpus:  # noqa: ANN401  (options are the corpus's own)
    """Build the corpus called ``name``.

    >>> create("synthetic", num_speakers=24).options["num_speakers"]
    24

    Raises:
        CorpusError: unknown corpus or option, or a value that the corpus refuses.
    """
    corpus = load(name)
    check_options(f"corpus '{name}'", corpus, options, CorpusError)
    try:
        return corpus(**options)
    except CorpusError as refusal:
        raise CorpusError(f"corpus '{name}': {refusal}") from None
    except (TypeError, ValueError) as mismatch:
        raise CorpusError(f"corpus '{name}': {mismatch}") from mismatch
