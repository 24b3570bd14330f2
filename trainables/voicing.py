"""Whether anybody speaks: how long a sound has a pitch that a voice can have."""

import numpy as np
from numpy.typing import NDArray

from trainables.inputs import SAMPLE_RATE

LOWEST, HIGHEST = 60.0, 600.0
"""Pitch of voices, Hz."""
LEAST_SECONDS = 0.1
"""Voiced sound in less than this is no speech: a single syllable has more."""
_FRAME, _HOP = 1024, 320
_PERIODIC = 0.35
"""Least share of a frame's energy that repeats with the pitch."""
_LOUD = 10 ** (-30 / 20)
"""Frames that are softer than the loudest by more than 30 dB are not looked at."""


def voiced_seconds(audio: NDArray[np.int16]) -> float:
    """Return for how many seconds a sound is voiced.

    A frame of 64 ms is voiced if its autocorrelation, over that of its window, has a peak of at least 0.35 where the
    period of a voice can be. Whispering is not voiced; a hum or an instrument of that pitch is.

    Args:
        audio: samples at 16 kHz, ``(L,)``.

    Reference:
        Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a
        sampled sound", 1993. https://www.fon.hum.uva.nl/paul/papers/Proceedings_1993.pdf

    >>> seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    >>> voiced_seconds((8000 * np.sin(2 * np.pi * 150 * seconds)).astype(np.int16)) > 0.9
    True
    >>> voiced_seconds(np.random.default_rng(0).normal(0, 3000, SAMPLE_RATE).astype(np.int16))
    0.0
    """
    sound = np.diff(audio.astype(np.float64), prepend=0.0)  # less of what lies below any voice
    if len(sound) < _FRAME:
        sound = np.pad(sound, (0, _FRAME - len(sound)))
    frames = np.lib.stride_tricks.sliding_window_view(sound, _FRAME)[::_HOP]
    levels = np.sqrt(np.square(frames).mean(axis=1))
    frames = frames[levels > max(levels.max() * _LOUD, 0.5)]
    if not len(frames):
        return 0.0
    window = np.hanning(_FRAME)
    repeats = _autocorrelation((frames - frames.mean(axis=1, keepdims=True)) * window)
    repeats /= _autocorrelation(window)
    first, last = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST)
    inner = repeats[:, first : last + 1]
    peaks = (inner >= repeats[:, first - 1 : last]) & (inner >= repeats[:, first + 1 : last + 2]) & (inner >= _PERIODIC)
    return float(peaks.any(axis=1).sum() * _HOP / SAMPLE_RATE)


def _autocorrelation(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the autocorrelation over its value without a shift, ``(..., B) -> (..., B)``."""
    spectrum = np.fft.rfft(frames, 2 * _FRAME)
    repeats = np.fft.irfft(np.square(np.abs(spectrum)))[..., :_FRAME]
    found: NDArray[np.float64] = repeats / np.maximum(repeats[..., :1], 1e-12)
    return found
