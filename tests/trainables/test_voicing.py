"""Voice is told from noise, and found in real speech."""

import numpy as np
import pytest
import soundfile
import soxr

from trainables.inputs import SAMPLE_RATE
from trainables.voicing import LEAST_SECONDS, voiced_seconds

SECONDS = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE


def sound(wave, peak=8000):
    return (wave / np.abs(wave).max() * peak).astype(np.int16)


def pulses(pitch):
    """A train of pulses, which is what a voice is before the mouth shapes it."""
    return sound(sum(np.cos(2 * np.pi * pitch * k * SECONDS) / k for k in range(1, int(4000 / pitch))))


@pytest.mark.parametrize("pitch", [80, 120, 220, 350, 550])
def test_a_pitch_that_voices_have_is_voiced_from_beginning_to_end(pitch):
    assert voiced_seconds(pulses(pitch)) == pytest.approx(2.0, abs=0.1)


def test_a_voice_is_heard_through_noise_and_only_while_it_lasts():
    noise = np.random.default_rng(0).normal(0, 40, len(SECONDS))
    half = pulses(150) * (SECONDS < 1.0) / 4
    found = voiced_seconds((half + noise).astype(np.int16))
    assert found == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("slope", [-1.0, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_noise_of_any_colour_is_not_voiced(slope, seed):
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=4 * SAMPLE_RATE))
    frequencies = np.maximum(np.fft.rfftfreq(4 * SAMPLE_RATE, 1 / SAMPLE_RATE), 1)
    assert voiced_seconds(sound(np.fft.irfft(spectrum / frequencies**slope))) < LEAST_SECONDS


@pytest.mark.parametrize(
    "silence",
    [np.zeros(0, np.int16), np.zeros(100, np.int16), np.zeros(SAMPLE_RATE, np.int16), np.ones(5000, np.int16)],
)
def test_silence_and_clips_shorter_than_a_frame_are_not_voiced(silence):
    assert voiced_seconds(silence) == 0.0


def test_mains_hum_is_below_any_voice():
    assert voiced_seconds(sound(np.sin(2 * np.pi * 50 * SECONDS))) == 0.0


def test_every_sentence_of_real_speech_is_voiced(ravdess):
    files = sorted(ravdess.rglob("*.flac"))[::10]
    assert len(files) > 50
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        speech = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
        assert voiced_seconds((speech * 32767).astype(np.int16)) >= LEAST_SECONDS, file.name
