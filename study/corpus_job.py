"""What is done with a corpus, for a study or by itself: prepared, checked, described."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from strategies.text import redacted
from study.definition import Definition
from study.errors import StudyError
from study.progress import Display
from study.report import checked_figure, write_corpus_figure
from trainables import corpora, networks
from trainables.corpora import Corpus, Finding, Store
from trainables.corpora.base import read_table
from trainables.corpora.preparing import find_prepared
from trainables.inputs import InputSettings


def prepare_store(definition: Definition, corpus: Corpus, display: Display) -> Store:
    """Return the corpus in its prepared form, made now unless it is there already.

    Raises:
        CorpusError: the corpus is missing, or more of it is unreadable than the definition allows.
    """
    settings = input_settings_of(definition)
    if definition.corpus.root is not None and corpora.is_url(definition.corpus.root):
        store = _copied(definition.corpus.root, corpus, settings)
    else:
        root = _root(definition, corpus)
        with display.counting(f"preparing corpus {corpus.name}") as progress:
            store = corpora.prepare(corpus, root, settings, corpora.default_cache(), progress=progress)
    store.check_skipped(definition.corpus.max_skipped)
    _tell(store, display)
    return store


def _tell(store: Store, display: Display) -> None:
    """Tell what became of the corpus while it was prepared: utterances that are left out, faces that were not found."""
    for line in store.skipped_lines():
        display.warn(line)
    if line := store.faces_line():
        (display.warn if store.num_without_face else display.say)(line)


def _copied(url: str, corpus: Corpus, settings: InputSettings) -> Store:
    """Return this machine's copy of a store in object storage, checked to be what the study wants."""
    store = corpora.open_place(url)
    if otherwise := corpora.difference(store, corpus, settings):
        raise StudyError(f"{url} was prepared otherwise: {otherwise}; prepare the corpus again")
    return store


def _root(definition: Definition, corpus: Corpus) -> Path | None:
    if definition.corpus.root is not None:
        return Path(definition.corpus.root).expanduser()
    if corpus.needs_root:
        raise StudyError(
            f"corpus '{corpus.name}' needs its folder: add --root FOLDER (or corpus.root to the definition)"
        )
    return None


def input_settings_of(definition: Definition) -> InputSettings:
    """Return how the network of a definition wants its input."""
    network = definition.network
    return networks.input_settings(network.name, network.preset, network.options)


def _corpus(name: str, root: Path | None, options: Mapping[str, Any]) -> tuple[Corpus, Path | None]:
    corpus = corpora.create(name, **options)
    if root is None and corpus.needs_root:
        raise StudyError(f"corpus '{name}' needs its folder: add --root FOLDER")
    return corpus, root


def prepare_corpus(
    name: str,
    root: Path | None,
    network: str,
    preset: str,
    display: Display,
    *,
    out: str | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Prepare a corpus for a network, in ``out`` or the user's cache, and return where it is.

    Where ``out`` is a URL, the store is made in the user's cache and copied there.
    """
    corpus, folder = _corpus(name, root, options)
    settings = networks.input_settings(network, preset)
    url = out if out is not None and corpora.is_url(out) else None
    cache = corpora.default_cache() if out is None or url else Path(out).expanduser()
    with display.counting(f"preparing corpus {name}") as progress:
        store = corpora.prepare(corpus, folder, settings, cache, progress=progress)
    _tell(store, display)
    if url is None:
        return str(store.path)
    display.say(f"copying {store.path.name} to {redacted(url)}")
    return corpora.upload(store, url)


def check_corpus(
    name: str, root: Path | None, display: Display, options: Mapping[str, Any] = MappingProxyType({})
) -> list[Finding]:
    """Return what is missing, unreadable or mislabelled in a corpus."""
    corpus, folder = _corpus(name, root, options)
    with display.counting(f"checking corpus {name}") as progress:
        return corpora.check(corpus, folder, progress=progress)


def describe_corpus(
    name: str,
    root: Path | None,
    display: Display,
    options: Mapping[str, Any] = MappingProxyType({}),
    *,
    figure: Path | None = None,
) -> dict[str, pd.DataFrame]:
    """Return what is in a corpus as tables, and draw it if asked to."""
    corpus, folder = _corpus(name, root, options)
    path = None if figure is None else checked_figure(figure)
    with display.counting(f"reading corpus {name}") as progress:
        description = corpora.describe(corpus, folder, progress=progress)
    if path is not None:
        write_corpus_figure(path, description)
        display.say(f"figure: {path}")
    return description.tables()


def table_at_hand(definition: Definition, corpus: Corpus) -> pd.DataFrame | None:
    """Return the table of a corpus that lies on this machine or needs no folder; else None."""
    if definition.corpus.root is None:
        return None if corpus.needs_root else read_table(corpus, Path())
    root = Path(definition.corpus.root).expanduser()
    if corpora.is_url(definition.corpus.root) or not root.is_dir():
        return None
    store = find_prepared(corpus, root, input_settings_of(definition))
    return read_table(corpus, root) if store is None else store.table
