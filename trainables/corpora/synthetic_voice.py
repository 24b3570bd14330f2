"""Synthetic voices: glottal pulses through formant resonators (source-filter model, Fant 1960).

Pulse shape after Rosenberg 1971 (J. Acoust. Soc. Am. 49:583); resonators after Klatt 1980 (J. Acoust. Soc. Am. 67:971);
vowel formants are the male means of Peterson & Barney 1952 (J. Acoust. Soc. Am. 24:175, table II). The directions in
which emotions move pitch, range, rate, loudness and spectral tilt follow Scherer 2003 (Speech Communication 40:227,
table 2); their sizes are chosen for difficulty, not measured.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainables.inputs import SAMPLE_RATE, SAMPLES_PER_FRAME

VOWELS_HZ = np.array([[270, 2290, 3010], [530, 1840, 2480], [730, 1090, 2440], [570, 840, 2410], [300, 870, 2240]])
"""F1 to F3 of i, e, a, o, u."""
BANDWIDTHS_HZ = np.array([70.0, 100.0, 150.0])


@dataclass(frozen=True)
class Prosody:
    """How a voice is used: by emotion, as a difference from neutral.

    Attributes:
        pitch: shift of the mean of the logarithm of F0.
        swing: amplitude of the pitch contour, in the logarithm of F0.
        slope: rise of the logarithm of F0 from beginning to end.
        rate: factor of the syllables per second, as a logarithm.
        level: loudness, dB.
        brightness: spectral tilt; more is brighter.
    """

    pitch: float
    swing: float
    slope: float
    rate: float
    level: float
    brightness: float


PROSODY = (
    Prosody(pitch=0.00, swing=0.00, slope=-0.05, rate=0.00, level=0.0, brightness=0.0),
    Prosody(pitch=0.18, swing=0.05, slope=-0.22, rate=0.25, level=5.0, brightness=0.9),
    Prosody(pitch=0.26, swing=0.14, slope=0.18, rate=0.15, level=2.5, brightness=0.3),
    Prosody(pitch=-0.14, swing=-0.05, slope=-0.12, rate=-0.30, level=-5.0, brightness=-0.8),
)
"""Neutral, anger, happiness, sadness."""


@dataclass(frozen=True)
class VoiceBuild:
    """A speaker's voice: mean F0 (Hz), formant factor, habits of speaking."""

    pitch_hz: float
    formants: float
    rate: float
    swing: float
    brightness: float
    breath: float
    jitter: float
    liveliness: float


def draw_voice_build(gender: str, draws: np.random.Generator) -> VoiceBuild:
    """Draw a speaker's voice; the genders overlap in pitch and in formants."""
    female = gender == "female"
    return VoiceBuild(
        pitch_hz=float((190.0 if female else 122.0) * np.exp(draws.normal(0, 0.11))),
        formants=float((1.15 if female else 1.0) * np.exp(draws.normal(0, 0.045))),
        rate=float(4.3 * np.exp(draws.normal(0, 0.12))),
        swing=float(draws.uniform(0.05, 0.13)),
        brightness=float(draws.normal(0, 0.4)),
        breath=float(draws.uniform(0.02, 0.10) * (1.3 if female else 1.0)),
        jitter=float(draws.uniform(0.005, 0.02)),
        liveliness=float(draws.uniform(0.6, 1.25)),
    )


def synthesise(build: VoiceBuild, emotion: int, num_frames: int, draws: np.random.Generator) -> NDArray[np.int16]:
    """Return one utterance at 16 kHz, ``(num_frames * 640,)``."""
    num_samples = num_frames * SAMPLES_PER_FRAME
    prosody, strength = PROSODY[emotion], build.liveliness * draws.uniform(0.5, 1.4)
    edges = _syllable_edges(num_samples, build.rate * np.exp(strength * prosody.rate + draws.normal(0, 0.08)), draws)
    pitch = _pitch_contour(build, prosody, strength, num_samples, len(edges) - 1, draws)
    source = _source(pitch, build, draws)
    sound = _articulate(source, edges, build.formants * np.exp(draws.normal(0, 0.02)), draws)
    sound = _tilt(sound, build.brightness + strength * prosody.brightness + draws.normal(0, 0.25))
    return _record(sound, strength * prosody.level, draws)


def _syllable_edges(num_samples: int, rate: float, draws: np.random.Generator) -> NDArray[np.int64]:
    """Cut the utterance into syllables of uneven length, ``(syllables + 1,)``."""
    count = max(2, round(rate * num_samples / SAMPLE_RATE))
    lengths = draws.uniform(0.7, 1.3, count)
    return np.concatenate([[0], np.cumsum(lengths / lengths.sum() * num_samples)]).round().astype(np.int64)


def _pitch_contour(
    build: VoiceBuild, prosody: Prosody, strength: float, num_samples: int, syllables: int, draws: np.random.Generator
) -> NDArray[np.float64]:
    """Return F0 in Hz at every sample: level, slope, one swing per syllable, jitter."""
    time = np.linspace(0, 1, num_samples)
    level = np.log(build.pitch_hz) + strength * prosody.pitch + draws.normal(0, 0.06)
    slope = strength * prosody.slope + draws.normal(0, 0.06)
    swing = max(build.swing + strength * prosody.swing + draws.normal(0, 0.02), 0.01)
    waves = np.sin(2 * np.pi * (syllables / 2 * time + draws.random()))
    jitter = np.repeat(draws.normal(0, build.jitter, num_samples // 160 + 1), 160)[:num_samples]
    return np.asarray(np.exp(level + slope * (time - 0.5) + swing * waves + jitter))


def _source(pitch: NDArray[np.float64], build: VoiceBuild, draws: np.random.Generator) -> NDArray[np.float64]:
    """Return the derivative of Rosenberg's glottal flow (open 40 %, closing 16 % of a period) with breath noise."""
    phase = np.cumsum(pitch / SAMPLE_RATE) % 1
    opening = np.sin(np.pi * phase / 0.4) * (phase < 0.4)
    closing = -2.5 * np.sin(np.pi / 2 * (phase - 0.4) / 0.16) * ((phase >= 0.4) & (phase < 0.56))
    return opening + closing + build.breath * draws.normal(size=len(phase)) * (0.5 + phase)


def _articulate(
    source: NDArray[np.float64], edges: NDArray[np.int64], formants: float, draws: np.random.Generator
) -> NDArray[np.float64]:
    """Send each syllable through the resonators of a vowel of its own; loudness rises and falls with the syllable."""
    from scipy.signal import sosfilt  # here: it takes most of a second to import

    sound = np.zeros_like(source)
    for start, end in pairwise(edges):
        vowel = VOWELS_HZ[draws.integers(len(VOWELS_HZ))] * formants * np.exp(draws.normal(0, 0.03, 3))
        swell = np.sin(np.pi * np.linspace(0, 1, end - start)) ** 0.6 * draws.uniform(0.7, 1)
        part = sosfilt(_resonators(vowel), source[start:end] * swell)
        sound[start:end] = part / (np.sqrt(np.mean(part**2)) + 1e-9) * np.sqrt(np.mean(swell**2))
    return sound


def _resonators(formants_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Klatt's digital resonators in series as second-order sections, ``(3, 6)``."""
    radius = np.exp(-np.pi * BANDWIDTHS_HZ / SAMPLE_RATE)
    first, second = -2 * radius * np.cos(2 * np.pi * formants_hz / SAMPLE_RATE), radius**2
    zeros, ones = np.zeros_like(radius), np.ones_like(radius)
    return np.stack([1 + first + second, zeros, zeros, ones, first, second], axis=1)


def _tilt(sound: NDArray[np.float64], brightness: float) -> NDArray[np.float64]:
    """Brighten or dull the spectrum by a first difference or a leaky average."""
    from scipy.signal import lfilter

    amount = 0.7 * np.tanh(0.6 * brightness)
    filtered = lfilter([1, -amount], [1], sound) if amount > 0 else lfilter([1 + amount], [1, amount], sound)
    return np.asarray(filtered / (np.sqrt(np.mean(filtered**2)) + 1e-9))


def _record(sound: NDArray[np.float64], level_db: float, draws: np.random.Generator) -> NDArray[np.int16]:
    """Record at an unknown distance in a room that is never quite silent."""
    gain = 10 ** ((level_db + draws.normal(0, 2.0)) / 20)
    hiss = 10 ** (draws.uniform(-34, -20) / 20) * draws.normal(size=len(sound))
    return np.clip(2500 * (gain * sound + hiss), -32768, 32767).astype(np.int16)
