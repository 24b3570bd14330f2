import contextlib
import threading

import numpy as np
import pandas as pd
import pytest
import torch

from trainables import corpora
from trainables.corpora import Batches, batches, default_cache, prepare
from trainables.errors import CorpusError
from trainables.inputs import InputSettings
from trainables.tasks import Task

EMOTION = Task("emotion", ("neutral", "anger", "happiness", "sadness"))
GENDER = Task("gender", ("female", "male"))


@pytest.fixture
def store():
    corpus = corpora.create("synthetic", num_speakers=4, utterances_per_speaker=5)
    return prepare(corpus, None, InputSettings(1.2, 16), default_cache())


def make(store, indices=None, modalities=("audio", "video"), batch_size=8, max_seconds=6.0):
    indices = np.arange(len(store.table)) if indices is None else np.asarray(indices)
    return Batches(store, indices, [EMOTION, GENDER], modalities, batch_size, max_seconds)


def same(first, second):
    return (
        torch.equal(first.num_frames, second.num_frames)
        and torch.equal(first.audio, second.audio)
        and torch.equal(first.video, second.video)
        and all(torch.equal(first.labels[name], second.labels[name]) for name in first.labels)
    )


def test_a_batch_holds_sound_pictures_and_labels_with_zeros_after_the_end(store):
    indices = [3, 11, 0]
    (batch,) = make(store, indices).ordered()
    longest = int(store.table["num_frames"].iloc[indices].max())
    assert batch.audio.shape == (3, longest * 640)
    assert batch.video.shape == (3, longest, 3, 16, 16)
    assert (batch.audio.dtype, batch.video.dtype) == (torch.float32, torch.uint8)
    for row, index in enumerate(indices):
        sound, frames = store.audio(index), store.frames(index)
        assert int(batch.num_frames[row]) == len(frames)
        assert np.array_equal(batch.audio[row, : len(sound)].numpy() * 32768, sound)
        assert np.array_equal(batch.video[row, : len(frames)].permute(0, 2, 3, 1).numpy(), frames)
        assert not batch.audio[row, len(sound) :].any()
        assert not batch.video[row, len(frames) :].any()
        assert EMOTION.classes[batch.labels["emotion"][row]] == store.table["emotion"][index]
        assert GENDER.classes[batch.labels["gender"][row]] == store.table["gender"][index]


def test_networks_that_read_other_modalities_share_what_was_decoded(store):
    nothing = make(store, modalities=(), batch_size=1)
    sound, both = nothing.reading(["audio"], 8), nothing.reading(["audio", "video"], 8)
    for first, second in zip(both.ordered(), make(store).ordered(), strict=True):
        assert same(first, second)
    (heard, *_), (seen, *_) = sound.ordered(), both.ordered()
    assert heard.video is None
    assert torch.equal(heard.audio, seen.audio)
    assert sound._decoded["audio"] is both._decoded["audio"]
    with pytest.raises(CorpusError, match="has no smell"):
        nothing.reading(["smell"], 8)


def test_what_is_kept_for_all_networks_together_is_bounded(store, monkeypatch):
    nothing = make(store, modalities=(), batch_size=1)
    longest = int(store.table["num_frames"].max())
    room = len(store.table) * longest * (2 * 640 + 3 * 16**2 - 1)
    monkeypatch.setattr(batches, "KEEP_DECODED_BYTES", room)
    assert nothing.reading(["audio"], 8)._decoded is not None
    assert nothing.reading(["video"], 8)._decoded is None  # with the sound that is kept already it would be too much
    (first, *_) = nothing.reading(["video"], 8).ordered()
    assert torch.equal(first.video, next(iter(make(store).ordered())).video)


def test_reading_for_every_batch_gives_the_same_as_keeping_everything_in_memory(store, monkeypatch):
    kept = list(make(store).epoch(seed=0, epoch=3))
    monkeypatch.setattr(batches, "KEEP_DECODED_BYTES", 0)
    read = list(make(store).epoch(seed=0, epoch=3))
    assert all(same(first, second) for first, second in zip(kept, read, strict=True))


def test_an_epoch_has_every_utterance_once_and_keeps_the_last_incomplete_batch(store):
    epoch = list(make(store, batch_size=8).epoch(seed=0, epoch=0))
    assert [len(batch) for batch in epoch] == [8, 8, 4]
    drawn = torch.cat([batch.num_frames for batch in epoch]).sort().values
    assert torch.equal(drawn, torch.from_numpy(np.sort(store.table["num_frames"].to_numpy())))


def test_a_batch_of_one_is_a_batch(store):
    assert [len(batch) for batch in make(store, indices=[2]).epoch(seed=0, epoch=0)] == [1]


def test_seed_and_epoch_alone_decide_the_order(store):
    def first_batch(seed, epoch):
        return next(make(store).epoch(seed, epoch))

    reference = first_batch(1, 2)
    torch.manual_seed(99)
    np.random.default_rng(99).random()
    assert same(reference, first_batch(1, 2))
    assert not torch.equal(reference.audio[:, :640], first_batch(1, 3).audio[:, :640])
    assert not torch.equal(reference.audio[:, :640], first_batch(2, 2).audio[:, :640])


def test_taking_an_epoch_does_not_move_the_global_generators(store):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(make(store).epoch(seed=0, epoch=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_utterances_are_cut_at_the_longest_duration_wanted(store):
    for batch in make(store, max_seconds=0.4).ordered():
        assert batch.num_frames.tolist() == [10] * len(batch)
        assert batch.audio.shape[1] == 10 * 640
        assert batch.video.shape[1] == 10


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_modality_that_is_not_wanted_is_not_there(store, modality):
    (batch,) = make(store, modalities=(modality,), batch_size=100).ordered()
    assert (batch.audio is None) == (modality == "video")
    assert (batch.video is None) == (modality == "audio")


def test_a_missing_label_is_marked(store):
    store.table["emotion"] = store.table["emotion"].where(store.table.index != 2)
    store.table["valence"] = np.where(store.table.index == 2, np.nan, 0.5)
    tasks = [EMOTION, Task("valence", kind="regression")]
    (batch,) = Batches(store, np.arange(4), tasks, ["audio"], 8, 6.0).ordered()
    assert [task.present(batch.labels[task.name]).tolist() for task in tasks] == [[True, True, False, True]] * 2
    assert batch.labels["emotion"].dtype == torch.int64
    assert batch.labels["valence"].dtype == torch.float32


def test_a_label_that_the_store_lacks_is_named(store):
    with pytest.raises(CorpusError, match="has no label 'age'"):
        Batches(store, np.arange(4), [Task("age", ("old", "young"))], ["audio"], 8, 6.0)


def test_a_class_that_the_task_does_not_know_is_named(store):
    narrow = Task("emotion", ("neutral", "anger"))
    with pytest.raises(CorpusError, match=r"emotion '(happiness|sadness)' is none of neutral, anger"):
        Batches(store, np.arange(20), [narrow], ["audio"], 8, 6.0)


def test_a_modality_that_the_store_lacks_is_named(store):
    store.manifest["modalities"] = ["audio"]
    with pytest.raises(CorpusError, match=r"has no video \(it has: audio\)"):
        make(store)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("keep", [0, 2**30])
def test_batches_are_the_same_however_far_ahead_they_are_made(store, monkeypatch, keep):
    monkeypatch.setattr(batches, "KEEP_DECODED_BYTES", keep)
    made = {}
    for ahead in (1, 2, 9):
        monkeypatch.setattr(batches, "AHEAD", ahead)
        made[ahead] = list(make(store, batch_size=3).epoch(seed=4, epoch=1))
    for ahead in (2, 9):
        assert all(same(first, second) for first, second in zip(made[1], made[ahead], strict=True))
    assert not threads()


def test_no_more_batches_are_made_than_are_asked_for_and_two_ahead(store, monkeypatch):
    begun, real = [], Batches._batch
    monkeypatch.setattr(Batches, "_batch", lambda self, *given: begun.append(1) or real(self, *given))
    epoch = make(store, batch_size=1).epoch(seed=0, epoch=0)
    assert not begun
    next(epoch)
    epoch.close()  # waits for what is under way
    assert len(begun) <= 3


def test_leaving_an_epoch_early_ends_its_thread(store):
    for batch in make(store, batch_size=2).epoch(seed=0, epoch=0):
        assert len(threads()) == 1
        assert len(batch) == 2
        break
    assert not threads()
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(make(store, batch_size=2).ordered()) as ordered:
        next(ordered)
        raise KeyboardInterrupt
    assert not threads()


def test_a_store_that_cannot_be_read_fails_at_its_batch_and_ends_the_thread(store, monkeypatch):
    monkeypatch.setattr(batches, "KEEP_DECODED_BYTES", 0)
    broken = make(store, batch_size=4)
    real = store.audio

    def audio(index):
        if index == 9:
            raise OSError("the disk is gone")
        return real(index)

    monkeypatch.setattr(store, "audio", audio)
    taken = []
    with pytest.raises(OSError, match="the disk is gone"):
        taken.extend(len(batch) for batch in broken.ordered())
    assert not threads()


def test_transcripts_come_in_the_order_of_the_batch_and_are_empty_where_there_is_none(store):
    store.table["text"] = store.table["text"].where(store.table.index != 3)
    said = store.table["text"].fillna("").tolist()
    (batch,) = make(store, [4, 3, 0], modalities=("audio", "text")).ordered()
    assert batch.text == (said[4], "", said[0])
    assert said[4] != said[0] != ""
    assert batch.video is None
    epoch = [
        text for part in make(store, modalities=("text",), batch_size=3).epoch(seed=1, epoch=2) for text in part.text
    ]
    order = np.random.default_rng([1, 2]).permutation(len(said))
    assert epoch == [said[position] for position in order]


def test_transcripts_stay_when_a_batch_moves_and_are_divided_with_it(store):
    (batch,) = make(store, [0, 1, 2, 3, 4], modalities=("text",)).ordered()
    assert batch.to(torch.device("cpu")).text == batch.text
    assert tuple(text for part in batch.split(3) for text in part.text) == batch.text
    assert [len(part.text) for part in batch.split(3)] == [2, 2, 1]
    assert [part.text for part in next(make(store, [0, 1]).ordered()).split(2)] == [None, None]


def test_text_that_nobody_asked_for_is_not_there(store):
    assert next(make(store).ordered()).text is None


def test_a_store_without_any_transcript_is_refused_to_those_who_read_them(store):
    store.table["text"] = None
    with pytest.raises(CorpusError, match=r"has no transcripts: the column 'text' of its table is empty$"):
        make(store, modalities=("audio", "text"))
    assert next(make(store).ordered()).text is None


class Letters(corpora.Corpus):
    """Text alone; the third of its utterances says nothing."""

    name = "letters"
    classes = {"gender": ("female", "male")}
    modalities = ("text",)
    needs_root = False

    def read(self, root):
        rows = [
            {"utterance": f"u{number}", "speaker": f"s{number % 2}", "text": text, "gender": "male"}
            for number, text in enumerate(["Dear all,", "yours", None, "ever"])
        ]
        return pd.DataFrame(rows, columns=corpora.COLUMNS)


def test_a_corpus_may_have_text_alone_and_its_utterances_need_some(tmp_path):
    store = prepare(Letters(), None, InputSettings(1.2, 16), tmp_path)
    assert store.modalities == ("text",)
    assert [skip["utterance"] for skip in store.skipped] == ["u2"]
    (batch,) = Batches(store, np.arange(3), [GENDER], ["text"], 8, 6.0).ordered()
    assert batch.text == ("Dear all,", "yours", "ever")
    assert batch.num_frames.tolist() == [1, 1, 1]
    assert (batch.audio, batch.video) == (None, None)
