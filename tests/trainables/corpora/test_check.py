import numpy as np
import pytest
import soundfile

from trainables import corpora
from trainables.corpora import check, stats
from trainables.corpora.ravdess import Ravdess
from trainables.corpora.synthetic import Synthetic
from trainables.errors import MediaError


class Three(Ravdess):
    """A small corpus that was published with three utterances of each of two speakers."""

    published_counts = {"Actor_01": 3, "Actor_02": 3}


class Mislabelled(Synthetic):
    def read(self, root=None):
        table = super().read(root)
        table.loc[0, "emotion"] = "boredom"
        return table


def write(root, emotions=(1, 2, 5), actors=(1, 2)):
    for actor in actors:
        (root / f"Actor_{actor:02d}").mkdir(parents=True)
        for emotion in emotions:
            sound = 0.3 * np.sin(np.arange(16_000) * 0.05)
            soundfile.write(
                root / f"Actor_{actor:02d}" / f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav", sound, 16_000
            )
    return root


def test_a_corpus_as_published_has_no_findings(tmp_path):
    assert check(Three(), write(tmp_path / "corpus")) == []


def test_missing_recordings_are_counted_by_speaker_and_in_all(tmp_path):
    root = write(tmp_path / "corpus")
    (root / "Actor_02" / "03-01-05-01-01-01-02.wav").unlink()
    findings = check(Three(), root)
    assert [finding.kind for finding in findings] == ["count", "count"]
    assert str(findings[0]) == "count: speaker Actor_02 has 2 utterances, published are 3"
    assert str(findings[1]) == "count: 5 utterances in all, published are 6"


def test_files_that_cannot_be_used_are_named(tmp_path):
    root = write(tmp_path / "corpus")
    (root / "Actor_01" / "03-01-01-01-01-01-01.wav").write_text("no sound")
    soundfile.write(root / "Actor_02" / "03-01-02-01-01-01-02.wav", np.zeros(1600), 16_000)
    findings = check(Three(), root)
    assert [(finding.kind, finding.subject) for finding in findings] == [
        ("media", "03-01-01-01-01-01-01"),
        ("media", "03-01-02-01-01-01-02"),
    ]
    assert "cannot be read as sound" in findings[0].message
    assert "is silent" in findings[1].message


def test_every_file_name_that_does_not_parse_is_a_finding_and_the_rest_is_checked_too(tmp_path):
    root = write(tmp_path / "corpus")
    (root / "Actor_01" / "03-01-99-01-01-01-01.wav").touch()
    (root / "Actor_02" / "mine.WAV").touch()
    (root / "Actor_02" / "03-01-02-01-01-01-02.wav").write_text("no sound")
    findings = check(Three(), root)
    assert [finding.kind for finding in findings] == ["name", "name", "media"]
    assert "Actor_01/03-01-99-01-01-01-01.wav is not a RAVDESS file name" in findings[0].message
    assert "Actor_02/mine.WAV is not a RAVDESS file name" in findings[1].message


def test_a_recording_that_is_there_twice_is_a_finding(tmp_path):
    root = write(tmp_path / "corpus")
    soundfile.write(root / "Actor_01" / "03-01-01-01-01-01-01.flac", np.full(1600, 0.1), 16_000)
    (finding,) = check(Three(), root)
    assert str(finding) == "corpus: utterance 03-01-01-01-01-01-01 is there 2 times"


class Faceless(Synthetic):
    def load_video(self, root, utterance, frame_size):
        if utterance["utterance"] == "s001_u002":
            raise MediaError("s001_u002.mp4 has no picture")
        return super().load_video(root, utterance, frame_size)


def test_a_video_that_cannot_be_used_is_a_finding():
    (finding,) = check(Faceless(num_speakers=2, utterances_per_speaker=4), None)
    assert (finding.kind, finding.subject) == ("media", "s001_u002")


class Unknown(Synthetic):
    def read(self, root=None):
        table = super().read(root)
        table.loc[table["speaker"] == "s001", "gender"] = None
        return table


def test_statistics_do_not_lose_speakers_of_unknown_gender():
    tables = stats(Unknown(num_speakers=3, utterances_per_speaker=4), None)
    assert tables["speaker"]["utterances"].tolist() == [4, 4, 4]
    assert tables["emotion"]["unknown"].sum() == 4


def test_a_missing_folder_is_a_finding(tmp_path):
    (finding,) = check(Three(), tmp_path / "gone")
    assert "is not a folder" in finding.message


def test_a_label_that_is_no_class_is_a_finding():
    (finding,) = check(Mislabelled(num_speakers=2, utterances_per_speaker=4), None)
    assert finding.message == "emotion 'boredom' is none of neutral, anger, happiness, sadness"


def test_statistics_count_classes_genders_speakers_and_seconds(tmp_path):
    tables = stats(Ravdess(trim=False), write(tmp_path / "corpus"))
    assert tables["emotion"].set_index("emotion")["all"].to_dict() == {"angry": 2, "calm": 2, "neutral": 2}
    assert tables["emotion"].set_index("emotion").loc["calm", ["female", "male"]].tolist() == [1, 1]
    assert tables["speaker"].to_dict("list") == {
        "speaker": ["Actor_01", "Actor_02"],
        "gender": ["male", "female"],
        "utterances": [3, 3],
    }
    (duration,) = tables["duration"].to_dict("records")
    assert duration["total_s"] == pytest.approx(6.0)
    assert duration["median_s"] == pytest.approx(1.0)


def test_the_built_in_corpus_is_sound():
    corpus = corpora.create("synthetic", num_speakers=4, utterances_per_speaker=4)
    assert check(corpus, None) == []
    assert stats(corpus, None)["speaker"]["utterances"].tolist() == [4] * 4


def test_the_real_corpus_lacks_only_recordings_of_two_actors(ravdess):
    findings = check(Ravdess(), ravdess)
    assert [finding.subject for finding in findings] == ["Actor_01", "Actor_03", "ravdess"]
    assert findings[0].message == "speaker Actor_01 has 52 utterances, published are 60"
    assert findings[2].message == "1424 utterances in all, published are 1440"
