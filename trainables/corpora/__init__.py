"""Corpora: a folder on disk becomes a table of utterances; after that the same code serves every corpus."""

from trainables.corpora.base import COLUMNS, Corpus
from trainables.corpora.batches import Batches, units_of
from trainables.corpora.check import check, stats
from trainables.corpora.finding import Finding
from trainables.corpora.preparing import difference, prepare
from trainables.corpora.protocols import PROTOCOLS, check_protocol, is_replication, make_split, split_for_tasks
from trainables.corpora.registry import create, load, names
from trainables.corpora.remote import is_url, open_place
from trainables.corpora.splits import Split
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
    "check_protocol",
    "create",
    "default_cache",
    "difference",
    "is_replication",
    "is_url",
    "load",
    "make_split",
    "names",
    "open_place",
    "open_store",
    "prepare",
    "split_for_tasks",
    "stats",
    "units_of",
]
