"""Corpora: a folder on disk becomes a table of utterances; after that the same code serves every corpus."""

from trainables.corpora.base import COLUMNS, Corpus
from trainables.corpora.batches import Batches
from trainables.corpora.check import Finding, check, stats
from trainables.corpora.preparing import prepare
from trainables.corpora.registry import create, load, names
from trainables.corpora.splits import PROTOCOLS, Split, make_split, split_for_tasks
from trainables.corpora.store import Store, default_cache, open_store

__all__ = [
    "COLUMNS",
    "PROTOCOLS",
    "Batches",
    "Corpus",
    "Finding",
    "Split",
    "Store",
    "check",
    "create",
    "default_cache",
    "load",
    "make_split",
    "names",
    "open_store",
    "prepare",
    "split_for_tasks",
    "stats",
]
