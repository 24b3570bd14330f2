"""Decoding by several processes: light, in order, within bounds, gone at the end."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from trainables import corpora
from trainables.ahead import in_turn
from trainables.corpora.decoding import BYTES_AHEAD, FEW, _Decode, _portions, decoded, each
from trainables.errors import CorpusError
from trainables.inputs import SAMPLES_PER_FRAME, InputSettings

REPOSITORY = Path(__file__).parents[3]


class Task:
    """Counts what is begun; picklable."""

    def __init__(self, fatal=-1):
        self.fatal = fatal

    def __call__(self, utterance):
        if utterance["number"] == self.fatal:
            os._exit(1)
        return utterance["number"]


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def decoders():
    return [pid for pid in children() if b"loky" in Path(f"/proc/{pid}/cmdline").read_bytes() and not _is_tracker(pid)]


def _is_tracker(pid):
    return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_process_that_decodes_does_not_import_pytorch(tmp_path):
    work = [_Decode(corpora.load(name)(), Path(), InputSettings()) for name in corpora.names()[:7]]
    (tmp_path / "work").write_bytes(pickle.dumps(work))
    code = (
        "import pickle, sys; pickle.load(open(sys.argv[1], 'rb')); print(sorted({'torch', 'ray'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "work"], capture_output=True, text=True, env=environment, check=True
    )
    assert run.stdout.strip() == "[]"


def test_names_that_need_pytorch_are_there_when_asked_for():
    for name in corpora.__all__:
        assert getattr(corpora, name) is not None
    assert set(corpora.__all__) <= set(dir(corpora))
    with pytest.raises(AttributeError, match="no attribute 'batch'"):
        corpora.batch  # noqa: B018


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_processes_that_are_killed_are_told_in_one_line_and_none_is_left():
    utterances = [{"number": number} for number in range(2 * FEW)]
    results = each(Task(fatal=FEW), utterances, workers=2)
    assert next(results) == 0
    with pytest.raises(CorpusError, match=r"^a process that decodes media was killed[^\n]*is kept$"):
        list(results)
    assert not decoders()
    results = each(Task(), utterances, workers=2)
    assert next(results) == 0
    assert len(decoders()) == 2
    results.close()
    assert not decoders()


def test_processes_lay_what_they_decode_into_a_few_files_and_it_is_what_one_process_decodes(tmp_path):
    corpus = corpora.create("synthetic", num_speakers=8, utterances_per_speaker=12)
    utterances = [*corpus.read(Path()).to_dict("records")]
    settings = InputSettings(0.5, 9)  # an odd size: sound begins at odd bytes
    assert len(utterances) >= FEW
    laid = decoded(corpus, Path(), settings, utterances, 2, tmp_path)
    for alone, media in zip(decoded(corpus, Path(), settings, utterances, 1, tmp_path), laid, strict=True):
        assert np.array_equal(media.audio, alone.audio)
        assert np.array_equal(media.frames, alone.frames)
        assert media.problem is None
    _, ahead = _portions(2, settings.max_frames * (2 * SAMPLES_PER_FRAME + 3 * 81))
    assert 2 <= len([*tmp_path.iterdir()]) <= ahead + 1


def test_a_process_that_cannot_lay_down_what_it_decoded_says_so(tmp_path):
    corpus = corpora.create("synthetic", num_speakers=8, utterances_per_speaker=12)
    utterances = [*corpus.read(Path()).to_dict("records")]
    with pytest.raises(FileNotFoundError):
        next(decoded(corpus, Path(), InputSettings(0.5, 8), utterances, 2, tmp_path / "gone"))
    assert not decoders()


@pytest.mark.parametrize("processes", [1, 2, 16, 96])
@pytest.mark.parametrize("size", [0, 40_000, 4_000_000, 60_000_000, 2_000_000_000])
def test_what_is_decoded_ahead_is_bounded_by_its_size_and_keeps_every_process_busy(processes, size):
    chunk, ahead = _portions(processes, size)
    assert chunk >= 1
    assert ahead > processes
    assert ahead * chunk * size <= BYTES_AHEAD or ahead == processes + 1
    assert chunk * size <= max(size, BYTES_AHEAD / (2 * processes))


def test_tasks_are_begun_no_further_ahead_than_told_and_end_in_order():
    begun = []

    def tasks():
        for number in range(6):
            begun.append(number)
            future = Future()
            future.set_result(number)
            yield future

    results = in_turn(tasks(), ahead=2)
    for taken in range(6):
        assert next(results) == taken
        assert len(begun) == min(6, taken + 3)
    assert list(results) == []


def test_a_long_utterance_is_read_as_far_as_it_is_used(write_film, tmp_path, monkeypatch):
    from trainables.corpora import decoding, media, pictures
    from trainables.corpora.base import COLUMNS, Corpus

    film = write_film(tmp_path / "long.mp4", 3, seconds=8.0)
    frames, real = [], media.decoded_from

    def counted(container, stream, start_s):
        for frame in real(container, stream, start_s):
            frames.append(frame.time)
            yield frame

    for module in (media, pictures):
        monkeypatch.setattr(module, "decoded_from", counted)

    class Films(Corpus):
        name, modalities = "films", ("audio", "video")

    row = dict.fromkeys(COLUMNS) | {"utterance": "u", "audio": film.name, "video": film.name, "start_s": 1.0}
    whole = decoding.decode(Films(), tmp_path, InputSettings(60.0, 16), row)
    assert max(frames) > 7.9
    frames.clear()
    cut = decoding.decode(Films(), tmp_path, InputSettings(2.0, 16), row)
    assert max(frames) < 3.7  # two seconds from the first, half a second for the resampler
    assert (len(cut.audio), len(cut.frames)) == (32_000, 50)
    assert np.array_equal(cut.frames, whole.frames[:50])
    assert np.abs(cut.audio.astype(int) - whole.audio[:32_000]).max() <= 1
    late = decoding.decode(Films(), tmp_path, InputSettings(2.0, 16), row | {"end_s": 20.0})
    assert "before the range 1.000 to 20.000 s" in late.problem


def test_sound_is_read_as_far_as_it_is_used(write_sound, tmp_path):
    from trainables.corpora.media import read_audio

    path = write_sound(tmp_path / "long.wav", 1, seconds=3.0, rate=44_100)
    assert np.abs(read_audio(path, 0.5, most_s=1.0).astype(int) - read_audio(path, 0.5)[:16_000]).max() <= 1
    assert len(read_audio(path, 2.5, most_s=1.0)) == 8_000


def test_tasks_that_nobody_takes_are_cancelled():
    futures = [Future() for _ in range(4)]
    futures[0].set_result(0)
    results = in_turn(iter(futures), ahead=3)
    assert next(results) == 0
    results.close()
    assert [future.cancelled() for future in futures] == [False, True, True, True]
