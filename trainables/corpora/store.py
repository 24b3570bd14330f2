"""The prepared form of a corpus: memory-mapped, content-hashed, made once and shared by all trials of a machine.

Layout of a store's folder::

    manifest.json        what it was made from, with which settings, and the hash of its content
    utterances.parquet   the table: corpus columns, labels, num_frames, and where each utterance lies in the arrays
    audio.int16          16 kHz sound of all utterances, one after the other
    frames.uint8         faces of all utterances, one after the other, height x width x RGB

A store is written in a folder beside its final place and renamed when it is complete, so nothing that opens is half.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainables.batch import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from trainables.corpora.base import Corpus
from trainables.errors import CorpusError, MediaError

FORMAT = 1
"""Raised whenever a store written before could no longer be read correctly."""
_FILES = ("manifest.json", "utterances.parquet", "audio.int16", "frames.uint8")
_FEW = 64
"""Corpora with fewer utterances are prepared in this process: starting others takes longer."""
_CHUNK = 8
"""Utterances handed to a process at a time."""

_AHEAD = 4
"""Chunks decoded ahead of the writer, for each process: bounds the memory."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StoreSettings:
    """What the preparation does to every utterance.

    Attributes:
        max_seconds: utterances are cut after this many seconds.
        frame_size: height and width of a face frame, in pixels.
    """

    max_seconds: float = 6.0
    frame_size: int = 96

    @property
    def max_frames(self) -> int:
        """Longest utterance in frames of 40 ms."""
        return max(1, round(self.max_seconds * FRAME_RATE))


@dataclass(frozen=True)
class _Media:
    """The prepared signal of one utterance, or why there is none."""

    audio: NDArray[np.int16] | None = None
    frames: NDArray[np.uint8] | None = None
    problem: str | None = None


class Store:
    """A prepared corpus, open for reading. Pickles as its path: every process maps the same memory.

    Args:
        path: its folder.

    Raises:
        CorpusError: the folder is no complete store of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = _read_manifest(path)
        self.table = pd.read_parquet(path / "utterances.parquet")

    def __reduce__(self) -> tuple[type["Store"], tuple[Path]]:
        return Store, (self.path,)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the arrays and the table: equal hashes mean equal data."""
        return str(self.manifest["content_hash"])

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it has of ``("audio", "video")``."""
        return tuple(self.manifest["modalities"])

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Label -> names of its classes in the order of their indices."""
        return {label: tuple(names) for label, names in self.manifest["classes"].items()}

    @property
    def skipped(self) -> list[dict[str, str]]:
        """The utterances that could not be read, each with its reason."""
        return list(self.manifest["skipped"])

    def audio(self, index: int) -> NDArray[np.int16]:
        """Return the sound of an utterance at 16 kHz, ``(num_samples,)``, a view of the mapped file."""
        start, count = self._places["audio_start"][index], self._places["num_samples"][index]
        return self._audio[start : start + count]

    def frames(self, index: int) -> NDArray[np.uint8]:
        """Return the faces of an utterance, ``(num_frames, size, size, 3)``, a view of the mapped file."""
        start, count = self._places["frame_start"][index], self._places["num_frames"][index]
        return self._frames[start : start + count]

    def check_skipped(self, allowed: float) -> None:
        """Refuse a store too much of which could not be read.

        Args:
            allowed: the largest share of skipped utterances, 0 to 1.

        Raises:
            CorpusError: with the first of them.
        """
        total = len(self.table) + len(self.skipped)
        if len(self.skipped) > allowed * total:
            first = "; ".join(skip["problem"] for skip in self.skipped[:3])
            raise CorpusError(
                f"corpus '{self.manifest['corpus']}': {len(self.skipped)} of {total} utterances cannot be used, more than "
                f"the {allowed:.1%} that corpus.max_skipped allows: {first}"
            )

    def skipped_lines(self) -> list[str]:
        """Return one line for each skipped utterance."""
        return [f"skipped {skip['utterance']}: {skip['problem']}" for skip in self.skipped]

    @cached_property
    def _places(self) -> dict[str, NDArray[np.int64]]:
        return {
            name: self.table[name].to_numpy() for name in ("audio_start", "num_samples", "frame_start", "num_frames")
        }

    @cached_property
    def _audio(self) -> NDArray[np.int16]:
        return _mapped(self.path / "audio.int16", np.dtype(np.int16))

    @cached_property
    def _frames(self) -> NDArray[np.uint8]:
        size = int(self.manifest["settings"]["frame_size"])
        return _mapped(self.path / "frames.uint8", np.dtype(np.uint8)).reshape(-1, size, size, 3)


def _mapped(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, kind)
    return np.memmap(path, kind, mode="r")


def open_store(path: Path) -> Store:
    """Return the store in a folder.

    Raises:
        CorpusError: the folder is no complete store of this version.
    """
    return Store(path)


def _read_manifest(path: Path) -> dict[str, Any]:
    remedy = "delete the folder and prepare the corpus again"
    if missing := [name for name in _FILES if not (path / name).is_file()]:
        raise CorpusError(f"{path} is not a prepared corpus: it has no {missing[0]}; {remedy}")
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except ValueError as failure:
        raise CorpusError(f"{path}/manifest.json is damaged ({failure}); {remedy}") from failure
    if manifest.get("format") != FORMAT:
        raise CorpusError(f"{path} has format {manifest.get('format')}, this version reads {FORMAT}; {remedy}")
    for name, size in manifest["sizes"].items():
        if (path / name).stat().st_size != size:
            raise CorpusError(f"{path}/{name} has {(path / name).stat().st_size} bytes instead of {size}; {remedy}")
    return manifest


def default_cache() -> Path:
    """Return where prepared corpora are kept: ``STUDY_CACHE``, or the user's cache folder."""
    if given := os.environ.get("STUDY_CACHE"):
        return Path(given).expanduser().resolve()
    import platformdirs

    return Path(platformdirs.user_cache_dir("weighting-study"))


def prepare(
    corpus: Corpus,
    root: Path | None,
    settings: StoreSettings,
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
    table = corpus.read(place)
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


def _key(corpus: Corpus, table: pd.DataFrame, root: Path, settings: StoreSettings) -> str:
    """Return the hash of everything the store depends on: version, options, settings, labels, and the files as found."""
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
    """Remove what processes of this machine that are gone left half built; a cache may be shared with other machines."""
    for folder in cache.glob(".building-*"):
        _, owner, _, machine = folder.name.split("-", 3)
        if machine == platform.node() and not _alive(int(owner)):
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
    settings: StoreSettings,
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
    sizes = {name: (folder / name).stat().st_size for name in _FILES if name != "manifest.json"}
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
    for name in _FILES:
        _flush(folder / name)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _write_arrays(
    folder: Path,
    corpus: Corpus,
    table: pd.DataFrame,
    root: Path,
    settings: StoreSettings,
    workers: int | None,
    progress: Progress | None,
) -> tuple[list[dict[str, int]], list[dict[str, str]], "hashlib._Hash"]:
    """Decode every utterance and append it to the arrays, in the order of the table."""
    kept: list[dict[str, int]] = []
    skipped: list[dict[str, str]] = []
    digest = hashlib.sha256()
    samples = frames = 0
    utterances = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    media = _decoded(corpus, root, settings, utterances, workers)
    with (folder / "audio.int16").open("wb") as sound, (folder / "frames.uint8").open("wb") as pictures:
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
    corpus: Corpus, root: Path, settings: StoreSettings, utterances: list[dict[str, Any]], workers: int | None
) -> Iterator[_Media]:
    """Yield the media of every utterance in order, decoded by several processes; memory stays bounded."""
    count = workers or joblib.cpu_count()
    jobs = [(corpus, root, settings, utterances[start : start + _CHUNK]) for start in range(0, len(utterances), _CHUNK)]
    if count == 1 or len(utterances) < _FEW:
        for job in jobs:
            yield from _decode_chunk(job)
        return
    # joblib's processes do not run the caller's main module again, which a notebook or a script without a guard needs.
    pool = joblib.Parallel(count, return_as="generator", pre_dispatch=f"{_AHEAD} * n_jobs", batch_size=1)
    for chunk in pool(joblib.delayed(_decode_chunk)(job) for job in jobs):
        yield from chunk


def _decode_chunk(job: tuple[Corpus, Path, StoreSettings, list[dict[str, Any]]]) -> list[_Media]:
    corpus, root, settings, utterances = job
    return [_decode(corpus, root, settings, utterance) for utterance in utterances]


def _decode(corpus: Corpus, root: Path, settings: StoreSettings, utterance: Mapping[str, object]) -> _Media:
    """Return the sound and the faces of one utterance, of equal duration where there are both."""
    try:
        audio = corpus.load_audio(root, utterance) if "audio" in corpus.modalities else None
        video = corpus.load_video(root, utterance, settings.frame_size) if "video" in corpus.modalities else None
    except MediaError as problem:
        return _Media(problem=str(problem))
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
