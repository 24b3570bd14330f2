"""Decoding the media of many utterances with all cores, in order, with bounded memory."""

import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray

from trainables.batch import SAMPLES_PER_FRAME, InputSettings
from trainables.corpora.base import Corpus
from trainables.errors import MediaError

FEW = 64
"""Corpora with fewer utterances are decoded in this process: starting others takes longer."""
_CHUNK = 8
"""Utterances handed to a process at a time."""
_AHEAD = 4
"""Chunks decoded ahead of whoever takes them, for each process: bounds the memory."""

Utterance = Mapping[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Media:
    """The prepared signal of one utterance, or why there is none."""

    audio: NDArray[np.int16] | None = None
    frames: NDArray[np.uint8] | None = None
    problem: str | None = None


def decode(corpus: Corpus, root: Path, settings: InputSettings, utterance: Utterance) -> Media:
    """Return the sound and the faces of one utterance, of equal duration where there are both."""
    try:
        audio = corpus.load_audio(root, utterance) if "audio" in corpus.modalities else None
        video = corpus.load_video(root, utterance, settings.frame_size) if "video" in corpus.modalities else None
    except MediaError as problem:
        return Media(problem=str(problem))
    except OSError as failure:  # here, or it would be told as a fault of the cache that is written
        return Media(problem=f"{utterance['utterance']} cannot be read: {failure.strerror or failure}")
    available = [
        length for length in (_audio_frames(audio), None if video is None else len(video)) if length is not None
    ]
    num_frames = min([settings.max_frames, *available])
    if num_frames == 0:
        return Media(problem="there is nothing in it")
    return Media(
        None if audio is None else audio[: num_frames * SAMPLES_PER_FRAME],
        None if video is None else video[:num_frames],
    )


def decoded(
    corpus: Corpus, root: Path, settings: InputSettings, utterances: Sequence[Utterance], workers: int | None
) -> Generator[Media, None, None]:
    """Yield the media of every utterance in order."""
    return each(_Decode(corpus, root, settings), utterances, workers)


@dataclass(frozen=True)
class _Decode:
    corpus: Corpus
    root: Path
    settings: InputSettings

    def __call__(self, utterance: Utterance) -> Media:
        return decode(self.corpus, self.root, self.settings, utterance)


def each(
    function: Callable[[Utterance], Result], utterances: Sequence[Utterance], workers: int | None = None
) -> Generator[Result, None, None]:
    """Yield ``function(utterance)`` for every utterance in order, by several processes where that is quicker.

    Args:
        function: what to do with each; picklable.
        utterances: rows of a corpus's table.
        workers: processes; None takes as many as there are CPUs.
    """
    count = workers or joblib.cpu_count()
    if count == 1 or len(utterances) < FEW:
        yield from map(function, utterances)
        return
    chunks = [utterances[start : start + _CHUNK] for start in range(0, len(utterances), _CHUNK)]
    # joblib's processes do not run the caller's main module again, which a notebook or a script without a guard needs.
    pool = joblib.Parallel(count, return_as="generator", pre_dispatch=f"{_AHEAD} * n_jobs", batch_size=1)
    stopped = threading.Event()
    results = pool(joblib.delayed(_all)(function, chunk) for chunk in chunks if not stopped.is_set())
    try:
        for found in results:
            yield from found
    finally:
        stopped.set()
        for _ in results:  # the few that are under way: joblib kills its processes for results that nobody takes
            pass
        get_reusable_executor().shutdown(wait=True)  # idle, each holds PyTorch in memory for another five minutes


def _all(function: Callable[[Utterance], Result], utterances: Iterable[Utterance]) -> list[Result]:
    return [function(utterance) for utterance in utterances]


def _audio_frames(audio: NDArray[np.int16] | None) -> int | None:
    """Return the length of a sound in frames of 40 ms, the last one begun."""
    return None if audio is None else -(-len(audio) // SAMPLES_PER_FRAME)
