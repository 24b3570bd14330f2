"""Stores that lie in object storage: copied to each machine once, then mapped like any other."""

import hashlib
import json
import platform
import shutil
from pathlib import Path
from typing import Any

from trainables.corpora.building import locked
from trainables.corpora.store import FILES, MANIFEST, Store, default_cache, open_store
from trainables.errors import CorpusError


def is_url(place: str) -> bool:
    """Return whether a place is a URL and not a folder.

    >>> is_url("s3://bucket/stores/iemocap-0123456789abcdef"), is_url("/data/stores")
    (True, False)
    """
    return "://" in place


def open_place(place: str) -> Store:
    """Return the store in a folder, or at a URL: then in the copy that this machine keeps in its cache.

    Raises:
        CorpusError: there is no complete store of this version, or it cannot be copied.
    """
    return open_store(local_copy(place, default_cache()) if is_url(place) else Path(place))


def local_copy(url: str, cache: Path) -> Path:
    """Return the folder of this machine's copy of a store, made unless it is there; other processes wait for it.

    Args:
        url: of the store's folder, of any kind that PyArrow opens: ``s3://``, ``gs://``, ``abfs://``, ``hdfs://``,
            ``file://``.
        cache: folder of all stores.

    Raises:
        CorpusError: the store cannot be reached or read, or the cache cannot be written.
    """
    system, folder = _reached(url)
    try:
        with system.open_input_stream(f"{folder}/{MANIFEST}") as file:
            content = file.read()
    except (OSError, ValueError) as failure:
        raise CorpusError(f"{url} is not a prepared corpus: {MANIFEST}: {_line(failure)}") from failure
    path = cache / f"{_corpus_of(content, url)}-{hashlib.sha256(content).hexdigest()[:16]}-copy"
    if not path.is_dir():
        _copy(system, folder, url, path)
    return path


def _copy(system: Any, folder: str, url: str, path: Path) -> None:  # noqa: ANN401  (PyArrow has no types)
    from pyarrow import fs

    building = path.parent / f".building-{path.name}-{platform.node()}"
    try:
        with locked(building, path) as to_do:
            if not to_do:
                return
            for name in FILES:
                fs.copy_files(f"{folder}/{name}", str(building / name), system, fs.LocalFileSystem())
            open_store(building)  # a copy that was cut short has other sizes than the manifest says
            (building / "lock").unlink()
            building.rename(path)
    except OSError as failure:
        shutil.rmtree(building, ignore_errors=True)
        raise CorpusError(f"{url} cannot be copied to {path.parent}: {_line(failure)}") from failure


def _reached(url: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        system, folder = fs.FileSystem.from_uri(url.rstrip("/"))
    except (OSError, ValueError) as failure:  # PyArrow's own exceptions are kinds of these
        raise CorpusError(f"{url} cannot be opened: {_line(failure)}") from failure
    return system, folder


def _corpus_of(manifest: bytes, url: str) -> str:
    try:
        return str(json.loads(manifest)["corpus"])
    except (ValueError, TypeError, KeyError):
        raise CorpusError(f"{url}/{MANIFEST} is damaged") from None


def _line(failure: BaseException) -> str:
    return " ".join(str(failure).split())
