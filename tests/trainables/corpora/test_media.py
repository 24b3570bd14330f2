import numpy as np
import pytest
import soundfile

from trainables.corpora.media import read_audio, trimmed
from trainables.errors import MediaError


def tone(rate, seconds=0.5, hz=440.0, level=0.5):
    return level * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def written(path, sound, rate, **options):
    soundfile.write(path, sound, rate, **options)
    return path


def strongest_hz(samples):
    return np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / len(samples)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_any_rate_becomes_16_khz_with_the_same_pitch_and_loudness(tmp_path, rate, suffix):
    samples = read_audio(written(tmp_path / f"a.{suffix}", tone(rate), rate))
    assert samples.dtype == np.int16
    assert len(samples) == pytest.approx(8_000, abs=2)
    assert strongest_hz(samples) == pytest.approx(440, abs=3)
    assert np.abs(samples[1000:-1000].astype(int)).max() == pytest.approx(16_384, rel=0.01)


def test_16_khz_mono_is_passed_bit_by_bit(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32767, 4000).astype(np.int16)
    assert np.array_equal(read_audio(written(tmp_path / "a.wav", samples, 16_000)), samples)


def test_stereo_is_mixed_down_to_the_mean_of_its_channels(tmp_path):
    left = np.full(1600, 0.5)
    path = written(tmp_path / "a.wav", np.stack([left, left / 2], axis=1), 16_000)
    assert read_audio(path) == pytest.approx(np.full(1600, 0.375 * 32768), abs=1)


def test_loud_peaks_are_clipped_and_do_not_wrap_around(tmp_path):
    samples = read_audio(written(tmp_path / "a.wav", np.array([1.5, -1.5] * 100), 16_000, subtype="FLOAT"))
    assert (samples.max(), samples.min()) == (32767, -32768)


def test_a_file_that_is_no_sound_is_named(tmp_path):
    path = tmp_path / "text.wav"
    path.write_text("no sound")
    with pytest.raises(MediaError, match=r"text\.wav cannot be read as sound: [^\n]+$"):
        read_audio(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MediaError, match=r"gone\.wav cannot be read as sound"):
        read_audio(tmp_path / "gone.wav")


def test_a_header_without_samples_is_empty(tmp_path):
    with pytest.raises(MediaError, match=r"a\.wav is empty"):
        read_audio(written(tmp_path / "a.wav", np.zeros(0), 16_000))


def test_a_file_of_zero_bytes_is_named(tmp_path):
    (tmp_path / "a.wav").touch()
    with pytest.raises(MediaError, match=r"a\.wav cannot be read as sound"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("level", [0, 4])
def test_a_silent_file_is_named_with_the_threshold(tmp_path, level):
    with pytest.raises(MediaError, match=r"a\.wav is silent: no sample is louder than 4 of 32768"):
        read_audio(written(tmp_path / "a.wav", np.full(1600, level, np.int16), 16_000))


def test_a_very_quiet_file_is_not_silent(tmp_path):
    assert read_audio(written(tmp_path / "a.wav", np.full(1600, 5, np.int16), 16_000)).max() == 5


def test_samples_that_are_not_numbers_are_refused(tmp_path):
    sound = tone(16_000)
    sound[100] = np.nan
    with pytest.raises(MediaError, match=r"a\.wav has samples that are not numbers"):
        read_audio(written(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT"))


def test_trimming_keeps_the_sound_and_the_margin():
    speech = (10_000 * np.sign(tone(16_000, 1.0))).astype(np.int16)
    samples = np.concatenate([np.zeros(16_000, np.int16), speech, np.zeros(8_000, np.int16)])
    cut = trimmed(samples, 40.0, 0.1)
    assert len(cut) == pytest.approx(16_000 + 2 * 1_600, abs=2 * 400)
    assert np.abs(cut).sum(dtype=np.int64) == np.abs(speech).sum(dtype=np.int64)


def test_trimming_leaves_sound_without_silence_alone():
    speech = (10_000 * tone(16_000, 1.0)).astype(np.int16)
    assert np.array_equal(trimmed(speech, 40.0, 0.1), speech)
