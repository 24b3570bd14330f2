"""Decoding the media of many utterances with all cores, in order, with bounded memory."""

import contextlib
import io
import math
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from joblib.externals.loky import ProcessPoolExecutor, cpu_count
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray

from trainables.ahead import in_turn
from trainables.corpora.base import MOST, Corpus, is_told
from trainables.corpora.faces import DETECTED, FIXED
from trainables.errors import CorpusError, MediaError
from trainables.inputs import SAMPLES_PER_FRAME, InputSettings

FEW = 64
"""Corpora with fewer utterances are decoded in this process: starting others takes longer."""
BYTES_AHEAD = 64 * 2**20
"""Of what is decoded and not yet taken; more only where every process holds one utterance and that is already more."""
BYTES_LAID = 256 * 2**20
"""The same for what lies in files, which is most often far less: how long an utterance is turns out when it is read."""
_CHUNK = 8
"""Most utterances that are handed to a process at a time."""
_AHEAD = 4
"""Most chunks that are under way or wait to be taken, for each process."""
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    # glibc else gives every array back to the system, which clears the pages of the next one: half the cost of a result
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**26),
}
"""Of the processes that decode: one for every core, so one thread each."""

Utterance = Mapping[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Media:
    """The prepared signal of one utterance, or why there is none; how its face was cut, where that was looked for."""

    audio: NDArray[np.int16] | None = None
    frames: NDArray[np.uint8] | None = None
    problem: str | None = None
    face: str | None = None


def decode(corpus: Corpus, root: Path, settings: InputSettings, utterance: Utterance) -> Media:
    """Return the sound and the faces of one utterance, of equal duration where there are both; text is no media."""
    utterance = {**utterance, MOST: settings.max_seconds}
    try:
        audio = corpus.load_audio(root, utterance) if "audio" in corpus.modalities else None
        video, face = _pictures(corpus, root, utterance, settings.frame_size)
    except MediaError as problem:
        return Media(problem=str(problem))
    except OSError as failure:  # here, or it would be told as a fault of the cache that is written
        return Media(problem=f"{utterance['utterance']} cannot be read: {failure.strerror or failure}")
    available = [
        length for length in (_audio_frames(audio), None if video is None else len(video)) if length is not None
    ]
    num_frames = min([settings.max_frames, *available])
    if num_frames == 0 or not (corpus.media or is_told(utterance.get("text"))):
        return Media(problem="there is nothing in it")
    return Media(
        None if audio is None else audio[: num_frames * SAMPLES_PER_FRAME],
        None if video is None else video[:num_frames],
        face=face,
    )


def _pictures(
    corpus: Corpus, root: Path, utterance: Utterance, size: int
) -> tuple[NDArray[np.uint8] | None, str | None]:
    """Return the faces of one utterance, and how they were cut if they were looked for."""
    if "video" not in corpus.modalities:
        return None, None
    if corpus.crop != DETECTED:
        return corpus.load_video(root, utterance, size), None
    faces = corpus.load_faces(root, utterance, size)
    return faces.pictures, DETECTED if faces.detected else FIXED


def decoded(
    corpus: Corpus,
    root: Path,
    settings: InputSettings,
    utterances: Sequence[Utterance],
    workers: int | None,
    parts: Path,
) -> Generator[Media, None, None]:
    """Yield the media of every utterance in order; its arrays hold only until the next one is asked for.

    Args:
        corpus: what they are utterances of.
        root: its folder.
        settings: what is done to every utterance.
        utterances: rows of its table.
        workers: processes; None takes as many as there are CPUs.
        parts: an empty folder. The processes lay what they decode into files there, again and again into the same few,
            which stay in memory: cheaper than sending it through a pipe.

    Raises:
        CorpusError: one of the processes was killed.
        OSError: a file in ``parts`` cannot be written.
    """
    decode_one = _Decode(corpus, root, settings)
    count = _count(utterances, workers)
    if count == 1:
        yield from map(decode_one, utterances)
        return
    size = settings.max_frames * (2 * SAMPLES_PER_FRAME + 3 * settings.frame_size**2)
    chunk, ahead = _portions(count, size, BYTES_LAID)
    free = deque(_Part(parts / str(number)) for number in range(ahead + 1))  # one more is being taken
    with _pool(count) as pool:
        used = deque[_Part]()

        def begin(some: Sequence[Utterance]) -> "Future[list[_Laid]]":
            used.append(free.popleft())
            begun: Future[list[_Laid]] = pool.submit(_lay_down, decode_one, some, used[-1].path)
            return begun

        tasks = (begin(some) for some in _in_chunks(utterances, chunk))
        with contextlib.closing(in_turn(tasks, ahead)) as taken:
            for laid in taken:
                part = used.popleft()
                yield from part.media(laid)
                free.append(part)


@dataclass(frozen=True)
class _Decode:
    corpus: Corpus
    root: Path
    settings: InputSettings

    def __call__(self, utterance: Utterance) -> Media:
        return decode(self.corpus, self.root, self.settings, utterance)


@dataclass(frozen=True)
class _Laid:
    """The media of one utterance without its arrays, and what of them lies in a file: samples, shape of the frames."""

    media: Media
    samples: int | None
    shape: tuple[int, ...] | None


def _lay_down(decode_one: _Decode, utterances: Sequence[Utterance], path: Path) -> list[_Laid]:
    """Decode some utterances and lay their arrays one after the other over whatever a file holds."""
    laid = []
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "wb", buffering=0) as file:
        for utterance in utterances:
            media = decode_one(utterance)
            for values in (media.audio, media.frames):
                write_all(file, bytes_of(values))
            samples = None if media.audio is None else len(media.audio)
            shape = None if media.frames is None else media.frames.shape
            laid.append(_Laid(replace(media, audio=None, frames=None), samples, shape))
    return laid


class _Part:
    """A file that one process lays arrays into and another takes them from, as often as wanted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def media(self, laid: Sequence[_Laid]) -> Generator[Media, None, None]:
        """Yield media with their arrays, views of the mapped file."""
        place = 0

        def take(size: int) -> NDArray[np.uint8]:
            nonlocal place
            place += size
            return self._content[place - size : place]

        if self.path.stat().st_size != len(self._content):
            self._content = np.memmap(self.path, np.uint8, mode="r")
        for each_laid in laid:
            samples, shape = each_laid.samples, each_laid.shape
            audio = None if samples is None else take(2 * samples).view(np.int16)
            frames = None if shape is None else take(math.prod(shape)).reshape(shape)
            yield replace(each_laid.media, audio=audio, frames=frames)


def bytes_of(values: NDArray[Any] | None) -> memoryview:
    """Return the content of an array in C order, without a copy where it lies so."""
    if values is None or not values.size:  # what is empty cannot be cast
        return memoryview(b"")
    return np.ascontiguousarray(values).reshape(-1).data.cast("B")


def write_all(file: io.RawIOBase, content: memoryview) -> None:
    """Write the whole content; a raw file may take less at a time."""
    while content:
        content = content[file.write(content) :]


def each(
    function: Callable[[Utterance], Result],
    utterances: Sequence[Utterance],
    workers: int | None = None,
    *,
    size: int = 0,
) -> Generator[Result, None, None]:
    """Yield ``function(utterance)`` for every utterance in order, by several processes where that is quicker.

    Args:
        function: what to do with each; picklable.
        utterances: rows of a corpus's table.
        workers: processes; None takes as many as there are CPUs.
        size: most bytes that a result has: decides how many are made ahead of whoever takes them.

    Raises:
        CorpusError: one of the processes was killed.
    """
    count = _count(utterances, workers)
    if count == 1:
        yield from map(function, utterances)
        return
    chunk, ahead = _portions(count, size)
    with _pool(count) as pool:
        tasks = (pool.submit(_all, function, some) for some in _in_chunks(utterances, chunk))
        with contextlib.closing(in_turn(tasks, ahead)) as taken:
            for results in taken:
                yield from results


@contextlib.contextmanager
def _pool(count: int) -> Iterator[ProcessPoolExecutor]:
    # Its processes do not run the caller's main module again, which a notebook or a script without a guard needs.
    # Ctrl-C reaches them too: what becomes of their work is for this process to say.
    quiet = (signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(count, env=_ENVIRONMENT, initializer=signal.signal, initargs=quiet)
    try:
        yield pool
    except TerminatedWorkerError as failure:
        raise CorpusError(
            "a process that decodes media was killed, as the system does when memory runs out; "
            "what is prepared already is kept"
        ) from failure
    finally:
        pool.shutdown(wait=True)  # for the few that are under way: killing it takes its manager by surprise


def _in_chunks(utterances: Sequence[Utterance], chunk: int) -> Iterator[Sequence[Utterance]]:
    return (utterances[start : start + chunk] for start in range(0, len(utterances), chunk))


def _count(utterances: Sequence[Utterance], workers: int | None) -> int:
    return 1 if len(utterances) < FEW else workers or int(cpu_count())


def _portions(processes: int, size: int, most: int = BYTES_AHEAD) -> tuple[int, int]:
    """Return the utterances of a chunk, and how many chunks may be under way or wait to be taken.

    >>> _portions(2, 0), _portions(2, 4_000_000), _portions(16, 40_000_000)
    ((8, 8), (4, 4), (1, 17))
    """
    share = most // (2 * processes)
    chunk = max(1, min(_CHUNK, share // max(size, 1)))
    ahead = min(_AHEAD * processes, most // max(1, chunk * size))
    return chunk, max(processes + 1, ahead)


def _all(function: Callable[[Utterance], Result], utterances: Iterable[Utterance]) -> list[Result]:
    return [function(utterance) for utterance in utterances]


def _audio_frames(audio: NDArray[np.int16] | None) -> int | None:
    """Return the length of a sound in frames of 40 ms, the last one begun."""
    return None if audio is None else -(-len(audio) // SAMPLES_PER_FRAME)
