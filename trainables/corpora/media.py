"""Reading sound files, whatever their rate and number of channels."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.batch import SAMPLE_RATE
from trainables.errors import MediaError

SILENCE = 4
"""A file whose loudest 16-bit sample is not above this (-78 dB of full scale) holds no speech."""


def read_audio(path: Path) -> NDArray[np.int16]:
    """Return the sound of a file, mixed to mono and resampled to 16 kHz, ``(samples,)``.

    Args:
        path: any format that libsndfile reads (wav, flac, ogg, mp3, ...).

    Raises:
        MediaError: the file cannot be read, is empty, or silent.
    """
    import soundfile

    try:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as failure:
        raise MediaError(f"{path} cannot be read as sound: {' '.join(str(failure).split())}") from failure
    if not len(sound):
        raise MediaError(f"{path} is empty: it has a header and no samples")
    if not np.isfinite(sound).all():
        raise MediaError(f"{path} has samples that are not numbers")
    return to_int16(_resampled(sound.mean(axis=1), rate), path)


def _resampled(sound: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    if rate == SAMPLE_RATE:
        return sound
    import soxr

    resampled: NDArray[np.float32] = soxr.resample(sound, rate, SAMPLE_RATE)
    return resampled


def to_int16(sound: NDArray[np.float32], path: Path) -> NDArray[np.int16]:
    """Return samples of -1..1 as 16-bit integers.

    Raises:
        MediaError: the sound is silent.
    """
    samples: NDArray[np.int16] = np.clip(np.round(sound * 32768.0), -32768, 32767).astype(np.int16)
    if np.abs(samples.astype(np.int32)).max(initial=0) <= SILENCE:
        raise MediaError(f"{path} is silent: no sample is louder than {SILENCE} of 32768")
    return samples


def trimmed(samples: NDArray[np.int16], below_peak_db: float, margin_s: float) -> NDArray[np.int16]:
    """Return the sound without the silence before and after it.

    Args:
        samples: 16 kHz sound ``(samples,)``.
        below_peak_db: windows of 25 ms quieter than this below the loudest one are silence.
        margin_s: seconds kept on either side.
    """
    window = SAMPLE_RATE // 40
    count = len(samples) // window
    if count < 2:
        return samples
    frames = samples[: count * window].reshape(count, window).astype(np.float64)
    loudness = np.sqrt((frames**2).mean(axis=1))
    speech = np.flatnonzero(loudness >= loudness.max() * 10 ** (-below_peak_db / 20))
    margin = round(margin_s * SAMPLE_RATE)
    start, stop = speech[0] * window - margin, (speech[-1] + 1) * window + margin
    return samples[max(0, start) : min(len(samples), stop)]
