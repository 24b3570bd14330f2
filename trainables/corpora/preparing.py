"""Making the prepared form of a corpus: every utterance decoded once, by all cores.

A store is written in a folder beside its final place and renamed when it is complete, so nothing that opens is half. A
process that is stopped leaves its folder behind, and the next one goes on in it.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from trainables.corpora.base import Corpus, read_table
from trainables.corpora.building import JOURNAL, LOCK, PARTS, Building, is_free, locked
from trainables.corpora.decoding import decoded
from trainables.corpora.faces import DETECTED, detector_name
from trainables.corpora.folders import reading
from trainables.corpora.store import FILES, FORMAT, MANIFEST, Store, open_store
from trainables.errors import CorpusError
from trainables.inputs import FRAME_RATE, SAMPLE_RATE, InputSettings

STALE_DAYS = 7.0
"""A folder in the making that nobody has touched for so long, of an older version of files or settings, is removed."""

Progress = Callable[[int, int], None]


def prepare(
    corpus: Corpus,
    root: Path | None,
    settings: InputSettings,
    cache: Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Store:
    """Return the corpus in its prepared form; makes it unless the same was made before.

    Args:
        corpus: what to prepare.
        root: its folder, or a folder with a store that was made of it; None for a corpus that needs none.
        settings: what is done to every utterance.
        cache: folder of all stores.
        workers: processes that decode; None takes as many as there are CPUs.
        progress: called with (utterances done, utterances in all).

    Raises:
        CorpusError: the corpus cannot be read, none of its utterances can be used, or the cache cannot be written.
    """
    place = root.resolve() if root is not None else Path()
    with reading(place):
        ready = None if root is None else find_prepared(corpus, place, settings)
    if ready is not None:
        return ready
    table = read_table(corpus, place)
    key = _key(corpus, table, place, settings)
    path = cache / f"{corpus.name}-{key[:16]}"
    if path.is_dir():
        return open_store(path)
    detector = detector_name() if corpus.crop == DETECTED else None
    building = cache / f".building-{path.name}-{platform.node()}"
    try:
        _remove_stale(cache, keep=building)
        with locked(building, path) as to_do:
            if to_do:
                _write(building, corpus, table, place, settings, key, detector, workers, progress)
                _put_in_place(building, path)
    except OSError as failure:
        kept = "; what is prepared already is kept" if (building / JOURNAL).is_file() else ""
        raise CorpusError(
            f"the prepared corpus cannot be written to {cache}: {failure.strerror or failure}{kept}"
        ) from failure
    return open_store(path)


def find_prepared(corpus: Corpus, folder: Path, settings: InputSettings) -> Store | None:
    """Return the store of a corpus that lies in a folder, or is the folder; None if there is none.

    Raises:
        CorpusError: the folder holds stores, but none that this corpus, its options and the settings would make.
    """
    places = [folder] if (folder / MANIFEST).is_file() else sorted(folder.glob(f"{corpus.name}-*/"))
    stores = [open_store(place) for place in places if (place / MANIFEST).is_file()]
    differing = [difference(store, corpus, settings) for store in stores]
    for store, otherwise in zip(stores, differing, strict=True):
        if not otherwise:
            return store
    if stores and (places == [folder] or _holds_nothing_but(places, folder)):  # else it is the corpus itself
        raise CorpusError(f"{stores[0].path} was prepared otherwise: {differing[0]}; prepare the corpus again")
    return None


def _holds_nothing_but(places: Sequence[Path], folder: Path) -> bool:
    return all(path in places or path.name.startswith(".") for path in folder.iterdir())


def difference(store: Store, corpus: Corpus, settings: InputSettings) -> str:
    """Return in words what a store was made with and this corpus is not, or an empty string."""
    made = store.manifest
    wanted = {"corpus": corpus.name, "version": corpus.version}
    wanted |= {f"option {name}": value for name, value in corpus.options.items()} | asdict(settings)
    found = {"corpus": made["corpus"], "version": made["version"]}
    found |= {f"option {name}": value for name, value in made["options"].items()} | made["settings"]
    # through JSON, as the manifest went: a tuple and a list are the same there
    plain = {name: json.loads(json.dumps(value, default=str)) for name, value in wanted.items()}
    names = [name for name in {**plain, **found} if plain.get(name) != found.get(name)]
    return ", ".join(f"{name} {found.get(name)} instead of {plain.get(name)}" for name in names)


def _key(corpus: Corpus, table: pd.DataFrame, root: Path, settings: InputSettings) -> str:
    """Return the hash of everything the store depends on: version, options, settings, labels, files as found."""
    columns = [name for name in ("audio", "video") if name in table]
    files = sorted({str(value) for name in columns for value in table[name].dropna()})
    found = [_fingerprint(root / name, name) for name in files]
    parts = [FORMAT, corpus.name, corpus.version, corpus.options, asdict(settings), found, table.to_csv()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _fingerprint(path: Path, name: str) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:
        return name, -1, -1
    return name, status.st_size, status.st_mtime_ns


def _remove_stale(cache: Path, keep: Path) -> None:
    """Remove what this machine left half built long ago; other machines may share the cache."""
    for folder in cache.glob(f".building-*-{platform.node()}"):
        journal = folder / JOURNAL
        if folder == keep or not journal.is_file() or not is_free(folder):
            continue
        if time.time() - journal.stat().st_mtime > STALE_DAYS * 86400:
            shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(building: Path, path: Path) -> None:
    """Give a complete store its name, unless another machine was quicker."""
    (building / JOURNAL).unlink()
    shutil.rmtree(building / PARTS)
    with contextlib.suppress(FileExistsError, OSError):
        building.rename(path)
    if not path.is_dir():
        raise OSError(f"{path} could not be put in place")
    shutil.rmtree(building, ignore_errors=True)
    (path / LOCK).unlink(missing_ok=True)


def _write(
    folder: Path,
    corpus: Corpus,
    table: pd.DataFrame,
    root: Path,
    settings: InputSettings,
    key: str,
    detector: str | None,
    workers: int | None,
    progress: Progress | None,
) -> None:
    arrays = _write_arrays(folder, corpus, table, root, settings, workers, progress)
    if not arrays.kept:
        reason = arrays.skipped[0]["problem"] if arrays.skipped else "it has no utterances"
        shutil.rmtree(folder, ignore_errors=True)  # the files may be mended before the next attempt
        raise CorpusError(f"corpus '{corpus.name}': nothing of it can be used: {reason}")
    places = pd.DataFrame(arrays.kept).set_index("row")
    usable = table.loc[places.index].join(places).reset_index(drop=True)
    usable.to_parquet(folder / "utterances.parquet")
    digest = arrays.digest.copy()
    digest.update(usable.to_csv().encode())
    sizes = {name: (folder / name).stat().st_size for name in FILES if name != "manifest.json"}
    manifest = {
        "format": FORMAT,
        "key": key,
        "content_hash": digest.hexdigest(),
        "corpus": corpus.name,
        "version": corpus.version,
        "options": corpus.options,
        "classes": {label: list(names) for label, names in corpus.classes.items()},
        "modalities": list(corpus.modalities),
        "settings": asdict(settings),
        "sample_rate": SAMPLE_RATE,
        "frame_rate": FRAME_RATE,
        "root": str(root) if corpus.needs_root else None,
        "num_utterances": len(usable),
        "skipped": arrays.skipped,
        **({} if detector is None else {"detector": detector}),
        "sizes": sizes,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, default=str), encoding="utf-8")
    for name in FILES:
        _flush(folder / name)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _write_arrays(
    folder: Path,
    corpus: Corpus,
    table: pd.DataFrame,
    root: Path,
    settings: InputSettings,
    workers: int | None,
    progress: Progress | None,
) -> Building:
    """Decode every utterance that is not yet in the arrays and append it, in the order of the table."""
    utterances = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    arrays = Building(folder)
    left = utterances[arrays.done :]
    with (
        contextlib.closing(arrays),
        contextlib.closing(decoded(corpus, root, settings, left, workers, arrays.parts)) as media,
    ):
        for utterance, found in zip(left, media, strict=True):
            arrays.append(arrays.done, str(utterance["utterance"]), found)
            if progress is not None:
                progress(arrays.done, len(utterances))
    return arrays
