"""Making the prepared form of a corpus: every utterance decoded once, by all cores.

A store is written in a folder beside its final place and renamed when it is complete, so nothing that opens is half.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray

from trainables.batch import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME, InputSettings
from trainables.corpora.base import Corpus, read_table
from trainables.corpora.store import FILES, FORMAT, Store, open_store
from trainables.errors import CorpusError, MediaError

_FEW = 64
"""Corpora with fewer utterances are prepared in this process: starting others takes longer."""
_CHUNK = 8
"""Utterances handed to a process at a time."""
_AHEAD = 4
"""Chunks decoded ahead of the writer, for each process: bounds the memory."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Media:
    """The prepared signal of one utterance, or why there is none."""

    audio: NDArray[np.int16] | None = None
    frames: NDArray[np.uint8] | None = None
    problem: str | None = None


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
        root: its folder; None for a corpus that needs none.
        settings: what is done to every utterance.
        cache: folder of all stores.
        workers: processes that decode; None takes as many as there are CPUs.
        progress: called with (utterances done, utterances in all).

    Raises:
        CorpusError: the corpus cannot be read, none of its utterances can be used, or the cache cannot be written.
    """
    place = root.resolve() if root is not None else Path()
    table = read_table(corpus, place)
    key = _key(corpus, table, place, settings)
    path = cache / f"{corpus.name}-{key[:16]}"
    if path.is_dir():
        return open_store(path)
    try:
        _remove_stale(cache)
        with _building(cache, path) as building:
            _write(building, corpus, table, place, settings, key, workers, progress)
    except OSError as failure:
        raise CorpusError(
            f"the prepared corpus cannot be written to {cache}: {failure.strerror or failure}"
        ) from failure
    return open_store(path)


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


@contextlib.contextmanager
def _building(cache: Path, path: Path) -> Iterator[Path]:
    """Yield a folder to build in; put it in place when complete, remove it otherwise."""
    cache.mkdir(parents=True, exist_ok=True)
    building = cache / f".building-{os.getpid()}-{uuid.uuid4().hex[:8]}-{platform.node()}"
    building.mkdir()
    try:
        yield building
        with contextlib.suppress(FileExistsError, OSError):
            building.rename(path)
        if not path.is_dir():
            raise OSError(f"{path} could not be put in place")
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _remove_stale(cache: Path) -> None:
    """Remove what processes of this machine that are gone left half built; other machines may share the cache."""
    for folder in cache.glob(".building-*"):
        parts = folder.name.split("-", 3)
        if parts[3:] == [platform.node()] and parts[1].isdecimal() and not _alive(int(parts[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(
    folder: Path,
    corpus: Corpus,
    table: pd.DataFrame,
    root: Path,
    settings: InputSettings,
    key: str,
    workers: int | None,
    progress: Progress | None,
) -> None:
    kept, skipped, digest = _write_arrays(folder, corpus, table, root, settings, workers, progress)
    if not kept:
        reason = skipped[0]["problem"] if skipped else "it has no utterances"
        raise CorpusError(f"corpus '{corpus.name}': nothing of it can be used: {reason}")
    places = pd.DataFrame(kept).set_index("row")
    usable = table.loc[places.index].join(places).reset_index(drop=True)
    usable.to_parquet(folder / "utterances.parquet")
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
        "skipped": skipped,
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
) -> tuple[list[dict[str, int]], list[dict[str, str]], "hashlib._Hash"]:
    """Decode every utterance and append it to the arrays, in the order of the table."""
    kept: list[dict[str, int]] = []
    skipped: list[dict[str, str]] = []
    digest = hashlib.sha256()
    samples = frames = 0
    utterances = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    with (
        contextlib.closing(_decoded(corpus, root, settings, utterances, workers)) as media,
        (folder / "audio.int16").open("wb") as sound,
        (folder / "frames.uint8").open("wb") as pictures,
    ):
        for row, (utterance, found) in enumerate(zip(utterances, media, strict=True)):
            if found.problem is not None:
                skipped.append({"utterance": str(utterance["utterance"]), "problem": found.problem})
            else:
                place = {"row": row, "audio_start": samples, "frame_start": frames}
                place["num_samples"] = _append(sound, found.audio, digest)
                num_frames = _append(pictures, found.frames, digest)
                place["num_frames"] = num_frames or -(-place["num_samples"] // SAMPLES_PER_FRAME)
                samples, frames = samples + place["num_samples"], frames + num_frames
                kept.append(place)
            if progress is not None:
                progress(row + 1, len(utterances))
    return kept, skipped, digest


def _append(file: Any, values: NDArray[Any] | None, digest: "hashlib._Hash") -> int:  # noqa: ANN401
    if values is None:
        return 0
    content = np.ascontiguousarray(values).tobytes()
    digest.update(content)
    file.write(content)
    return len(values)


def _decoded(
    corpus: Corpus, root: Path, settings: InputSettings, utterances: list[dict[str, Any]], workers: int | None
) -> Generator[_Media, None, None]:
    """Yield the media of every utterance in order, decoded by several processes; memory stays bounded."""
    count = workers or joblib.cpu_count()
    jobs = [(corpus, root, settings, utterances[start : start + _CHUNK]) for start in range(0, len(utterances), _CHUNK)]
    if count == 1 or len(utterances) < _FEW:
        for job in jobs:
            yield from _decode_chunk(job)
        return
    # joblib's processes do not run the caller's main module again, which a notebook or a script without a guard needs.
    pool = joblib.Parallel(count, return_as="generator", pre_dispatch=f"{_AHEAD} * n_jobs", batch_size=1)
    stopped = threading.Event()
    chunks = pool(joblib.delayed(_decode_chunk)(job) for job in jobs if not stopped.is_set())
    try:
        for chunk in chunks:
            yield from chunk
    finally:
        stopped.set()
        for _ in chunks:  # the few that are under way: joblib kills its processes for results that nobody takes
            pass
        get_reusable_executor().shutdown(wait=True)  # idle, each holds PyTorch in memory for another five minutes


def _decode_chunk(job: tuple[Corpus, Path, InputSettings, list[dict[str, Any]]]) -> list[_Media]:
    corpus, root, settings, utterances = job
    return [_decode(corpus, root, settings, utterance) for utterance in utterances]


def _decode(corpus: Corpus, root: Path, settings: InputSettings, utterance: Mapping[str, object]) -> _Media:
    """Return the sound and the faces of one utterance, of equal duration where there are both."""
    try:
        audio = corpus.load_audio(root, utterance) if "audio" in corpus.modalities else None
        video = corpus.load_video(root, utterance, settings.frame_size) if "video" in corpus.modalities else None
    except MediaError as problem:
        return _Media(problem=str(problem))
    except OSError as failure:  # here, or it would be told as a fault of the cache that is written
        return _Media(problem=f"{utterance['utterance']} cannot be read: {failure.strerror or failure}")
    available = [
        length for length in (_audio_frames(audio), None if video is None else len(video)) if length is not None
    ]
    num_frames = min([settings.max_frames, *available])
    if num_frames == 0:
        return _Media(problem="there is nothing in it")
    return _Media(
        None if audio is None else audio[: num_frames * SAMPLES_PER_FRAME],
        None if video is None else video[:num_frames],
    )


def _audio_frames(audio: NDArray[np.int16] | None) -> int | None:
    """Return the length of a sound in frames of 40 ms, the last one begun."""
    return None if audio is None else -(-len(audio) // SAMPLES_PER_FRAME)
