"""Corpora: a folder on disk becomes a table of utterances; after that the same code serves every corpus."""

from trainables.corpora.base import COLUMNS, Corpus
from trainables.corpora.registry import create, load, names

__all__ = ["COLUMNS", "Corpus", "create", "load", "names"]
