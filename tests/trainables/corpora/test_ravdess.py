from pathlib import Path

import numpy as np
import pytest
import soundfile

from trainables import corpora
from trainables.batch import InputSettings
from trainables.corpora.ravdess import parse_name
from trainables.errors import CorpusError

NAME = "03-01-05-02-01-01-12.wav"


def write(path, rate=48_000, channels=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.3 * np.sin(2 * np.pi * 200 * np.arange(rate // 2) / rate)
    silence = np.zeros(rate // 2)
    soundfile.write(path, np.stack([np.concatenate([silence, sound, silence])] * channels, axis=1), rate)


@pytest.fixture
def corpus():
    return corpora.create("ravdess")


def test_a_file_name_tells_emotion_actor_gender_and_sentence(tmp_path, corpus):
    write(tmp_path / "Actor_12" / NAME)
    write(tmp_path / "Actor_11" / "03-01-02-01-02-02-11.wav")
    first, second = corpus.read(tmp_path).to_dict("records")
    assert (first["emotion"], first["speaker"], first["gender"]) == ("calm", "Actor_11", "male")
    assert (second["emotion"], second["speaker"], second["gender"]) == ("angry", "Actor_12", "female")
    assert first["text"] == "Dogs are sitting by the door"
    assert second["text"] == "Kids are talking by the door"
    assert Path(second["audio"]) == Path("Actor_12") / NAME


def test_the_actors_may_lie_one_folder_further_down(tmp_path, corpus):
    write(tmp_path / "speech" / "Actor_12" / NAME)
    row = corpus.read(tmp_path).iloc[0].to_dict()
    assert len(corpus.load_audio(tmp_path, row)) > 0


def test_suffixes_may_be_upper_case_and_macos_leftovers_are_ignored(tmp_path, corpus):
    write(tmp_path / "Actor_12" / NAME.replace("wav", "WAV"))
    (tmp_path / "Actor_12" / f"._{NAME}").write_text("resource fork")
    (tmp_path / "Actor_12" / "notes.txt").write_text("mine")
    assert len(corpus.read(tmp_path)) == 1


def test_song_and_video_are_left_out(tmp_path, corpus):
    for name in (NAME, "03-02-05-02-01-01-12.wav", "01-01-05-02-01-01-12.wav"):
        write(tmp_path / "Actor_12" / name)
    assert corpus.read(tmp_path)["utterance"].tolist() == [NAME.removesuffix(".wav")]


def test_the_silence_around_a_sentence_is_cut_if_asked(tmp_path, corpus):
    write(tmp_path / "Actor_12" / NAME)
    row = corpus.read(tmp_path).iloc[0].to_dict()
    assert len(corpus.load_audio(tmp_path, row)) == pytest.approx(0.7 * 16_000, abs=800)
    whole = corpora.create("ravdess", trim=False).load_audio(tmp_path, row)
    assert len(whole) == pytest.approx(1.5 * 16_000, abs=2)


@pytest.mark.parametrize(
    "name", ["03-01-09-01-01-01-12.wav", "angry.wav", "03-01-05-02-01-01-25.wav", "03-01-05-02.wav"]
)
def test_a_name_that_does_not_parse_is_refused_with_the_grammar(name):
    with pytest.raises(
        CorpusError, match=r"Actor_12/\S+ is not a RAVDESS file name: expected modality-channel-emotion-"
    ):
        parse_name(Path("Actor_12") / name)


def test_statistics_and_preparation_refuse_names_that_do_not_parse(tmp_path, corpus):
    write(tmp_path / "ravdess" / "Actor_12" / NAME)
    for name in ("angry.wav", "sad.wav"):
        write(tmp_path / "ravdess" / "Actor_12" / name)
    message = r"^Actor_12/angry\.wav is not a RAVDESS .* \(and 1 more: see study corpus check\); rename or remove it$"
    with pytest.raises(CorpusError, match=message):
        corpora.prepare(corpus, tmp_path / "ravdess", InputSettings(), tmp_path / "cache")
    with pytest.raises(CorpusError, match=message):
        corpora.stats(corpus, tmp_path / "ravdess")
    assert not (tmp_path / "cache").exists()


def test_archives_beside_the_folders_are_no_actors(tmp_path, corpus):
    write(tmp_path / "Actor_12" / NAME)
    (tmp_path / "Actor_12.zip").touch()
    assert len(corpus.read(tmp_path)) == 1


def test_a_missing_folder_says_what_was_expected(tmp_path, corpus):
    with pytest.raises(CorpusError, match=r"gone is not a folder: expected the folder of RAVDESS that holds Actor_01"):
        corpus.read(tmp_path / "gone")


def test_an_empty_folder_says_what_was_expected(tmp_path, corpus):
    with pytest.raises(CorpusError, match="has no folder Actor_01: expected the folder of RAVDESS"):
        corpus.read(tmp_path)


def test_actors_without_speech_say_what_was_expected(tmp_path, corpus):
    (tmp_path / "Actor_01").mkdir()
    with pytest.raises(CorpusError, match=r"has no speech of RAVDESS: expected Actor_01/03-01-01-01-01-01-01.wav"):
        corpus.read(tmp_path)


def test_the_real_corpus_has_its_published_speakers_and_emotions(ravdess, corpus):
    table = corpus.read(ravdess)
    assert table["speaker"].nunique() == 24
    assert set(table["emotion"]) == set(corpus.classes["emotion"])
    assert table.groupby("gender")["speaker"].nunique().to_dict() == {"female": 12, "male": 12}
    assert len(table) == 1_424
    emotions = table["emotion"].value_counts()
    assert emotions["neutral"] == 96  # half of the others: it has no strong intensity
    assert (emotions.drop(["neutral", "calm", "fearful"]) == 192).all()
    counts = table["speaker"].value_counts()
    assert (counts.drop(["Actor_01", "Actor_03"]) == 60).all()
    sound = corpus.load_audio(ravdess, table.iloc[0].to_dict())
    assert 0.8 < len(sound) / 16_000 < 3.5
