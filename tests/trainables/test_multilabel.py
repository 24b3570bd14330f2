"""Tasks whose classes may be true at once: metrics beside scikit-learn, the loss, and the way through a corpus."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

from study.analysis.folds import pool, scores_of
from trainables import corpora, multilabel
from trainables.corpora.mosei import Mosei
from trainables.corpora.mosei_labels import EMOTIONS as SIX
from trainables.corpora.protocols import columns_of
from trainables.corpora.synthetic import EMOTIONS, Synthetic
from trainables.errors import CorpusError
from trainables.inputs import InputSettings
from trainables.predictions import predictions_of, read_predictions
from trainables.tasks import Task, class_weights, score, task_loss

TASK = Task("emotions", EMOTIONS, "multilabel", tuple(("emotion", name) for name in EMOTIONS))


@pytest.fixture
def drawn():
    draws = np.random.default_rng(0)
    return draws.normal(size=(40, 4)), (draws.random((40, 4)) < [0.5, 0.2, 0.7, 0.1]).astype(float)


def test_metrics_are_those_of_scikit_learn_averaged_over_classes(drawn):
    logits, labels = drawn
    found, said, chances = multilabel.scores(logits, labels), logits > 0, 1 / (1 + np.exp(-logits))
    assert found["uar"] == pytest.approx(np.mean([balanced_accuracy_score(labels[:, k], said[:, k]) for k in range(4)]))
    assert found["accuracy"] == pytest.approx(np.mean([accuracy_score(labels[:, k], said[:, k]) for k in range(4)]))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))
    assert found["nll"] == pytest.approx(log_loss(labels.ravel(), chances.ravel()))
    assert score(TASK, logits.astype(np.float32), labels) == pytest.approx(found, rel=1e-6)


def test_the_mean_of_both_recalls_is_the_published_weighted_accuracy(drawn):
    logits, labels = drawn
    said, yes = logits > 0, labels == 1
    hits, rejections = (said & yes).sum(0), (~said & ~yes).sum(0)
    positives, negatives = yes.sum(0), (~yes).sum(0)
    published = (hits * negatives / positives + rejections) / (2 * negatives)
    assert multilabel.scores(logits, labels)["uar"] == pytest.approx(published.mean())


def test_whoever_always_says_no_is_right_five_times_of_six():
    labels = np.eye(6)[np.arange(30) % 6]
    found = multilabel.scores(np.full((30, 6), -1.0), labels)
    assert found["accuracy"] == found["baseline_accuracy"] == pytest.approx(5 / 6)
    assert (found["uar"], found["macro_f1"]) == (0.5, 0.0)


def test_what_nobody_said_does_not_count(drawn):
    logits, labels = drawn
    fewer = labels.copy()
    fewer[20:, 1] = np.nan
    apart = [multilabel.scores(logits[:20, 1:2], labels[:20, 1:2])]
    apart += [multilabel.scores(logits[:, [k]], labels[:, [k]]) for k in (0, 2, 3)]
    found = multilabel.scores(logits, fewer)
    for metric in ("uar", "accuracy", "macro_f1", "baseline_accuracy"):
        assert found[metric] == pytest.approx(np.mean([each[metric] for each in apart]))
    fewer[:, 1] = np.nan
    assert multilabel.scores(logits, fewer) == multilabel.scores(logits[:, [0, 2, 3]], labels[:, [0, 2, 3]])
    assert all(math.isnan(value) for value in multilabel.scores(logits, np.full((40, 4), np.nan)).values())


def test_the_loss_starts_at_log_2_and_positive_weights_make_yes_and_no_alike():
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, torch.nan]])
    weights = class_weights(TASK, labels.numpy())
    assert weights.tolist() == [2.0, 1.0]
    zeros = torch.zeros(3, 2, requires_grad=True)
    assert task_loss(TASK, zeros, labels).item() == pytest.approx(TASK.facts.chance_loss) == pytest.approx(math.log(2))
    weighted = task_loss(TASK, zeros, labels, weights)
    assert weighted.item() == pytest.approx((2 * 1 + 4) / 5 * math.log(2))
    weighted.backward()
    assert zeros.grad[:, 0].sum().item() == pytest.approx(0, abs=1e-7)  # yes and no of the first class pull alike
    assert zeros.grad[2, 1] == 0
    nobody = task_loss(TASK, zeros, torch.full((3, 2), torch.nan))
    assert (nobody.item(), nobody.requires_grad) == (0.0, True)


def test_labels_come_from_the_columns_of_a_corpus(tmp_path):
    corpus = Synthetic(num_speakers=2, utterances_per_speaker=4)
    marks = corpus.multilabels["emotions"]
    assert Task("emotions", tuple(marks), "multilabel", tuple(marks.values())) == TASK
    store = corpora.prepare(corpus, None, InputSettings(0.9, 16), tmp_path, workers=1)
    store.table.loc[0, "emotion"] = None
    (batch,) = corpora.Batches(store, np.arange(8), [TASK], ("audio",), 8, 1.0).ordered()
    labels = batch.labels["emotions"]
    assert labels[0].isnan().all()
    assert labels[1:].argmax(1).tolist() == [EMOTIONS.index(name) for name in store.table["emotion"][1:]]
    assert labels[1:].sum(1).tolist() == [1] * 7
    strange = Task("emotions", ("joy",), "multilabel", (("emotion", "joy"),))
    with pytest.raises(CorpusError, match="emotions: unknown emotion 'joy'"):
        corpora.Batches(store, np.arange(8), [strange], ("audio",), 8, 1.0)


def test_the_emotions_of_mosei_are_columns_of_their_own_and_all_must_be_in_every_part():
    marks = Mosei().multilabels["emotions"]
    task = Task("emotions", tuple(marks), "multilabel", tuple(marks.values()))
    assert task.classes == SIX
    assert columns_of([task, Task("gender", ("female", "male")), TASK]) == [*SIX, "gender", "emotion"]
    assert Mosei(policy="dominant").multilabels["emotions"]["anger"] == ("emotion", "anger")


def test_a_task_is_the_same_after_its_way_through_a_lock():
    assert Task.from_dict(TASK.as_dict()) == TASK
    assert Task("gender", ("female", "male")).as_dict() == {
        "name": "gender",
        "classes": ["female", "male"],
        "kind": "classification",
    }


def test_predictions_of_folds_are_scored_as_one(drawn):
    logits, labels = (part.astype(np.float32) for part in drawn)
    names = np.array([f"u{number}" for number in range(40)])
    halves = [
        predictions_of([TASK], names[part], {"emotions": (logits[part], labels[part])}, {})
        for part in (slice(0, 25), slice(25, 40))
    ]
    kept = [read_predictions(half.to_bytes()) for half in halves]
    row = scores_of(pool(dict(enumerate(kept)), "arm"), {"emotions": 1.0}, {"emotions": 1.0})
    expected = multilabel.scores(logits, labels)
    assert {name.split("/")[1]: value for name, value in row.items() if name.endswith("emotions")} == expected
    assert row["test/joint_nll"] == expected["nll"]


def test_a_fold_that_lacks_an_answer_has_no_mean_over_classes():
    whole = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert multilabel.has_both(whole, whole)
    assert not multilabel.has_both(whole[:1], whole)
    assert multilabel.has_both(whole[:1], whole[:1])


def test_searched_thresholds_are_the_best_of_all_that_are_tried(drawn):
    logits, labels = drawn
    found = multilabel.best_thresholds(logits, labels)
    tried = np.log(np.arange(0.05, 1, 0.05) / (1 - np.arange(0.05, 1, 0.05)))
    for k in range(4):
        best = [f1_score(labels[:, k], logits[:, k] > odds, zero_division=0) for odds in tried]
        assert found[k] == pytest.approx(tried[int(np.argmax(best))], rel=1e-6)
    at = multilabel.scores_at(found, logits, labels)
    assert at["searched_macro_f1"] == pytest.approx(f1_score(labels, logits > found, average="macro"))
    assert at["searched_accuracy"] == pytest.approx(np.mean((logits > found) == labels))
    assert at["searched_macro_f1"] >= multilabel.scores(logits, labels)["macro_f1"]
    assert set(at) == set(multilabel.SEARCHED)


def test_what_nobody_said_and_what_is_never_true_decides_no_threshold(drawn):
    logits, labels = drawn
    fewer = labels.copy()
    fewer[20:, 1], fewer[:, 2] = np.nan, 0
    assert multilabel.best_thresholds(logits, fewer)[1] == multilabel.best_thresholds(logits[:20], labels[:20])[1]
    assert multilabel.best_thresholds(logits, fewer)[2] == 0
    assert multilabel.scores_at(np.zeros(4), logits, labels)["searched_uar"] == multilabel.scores(logits, labels)["uar"]


def test_thresholds_of_each_fold_hold_for_its_own_utterances(drawn):
    logits, labels = (part.astype(np.float32) for part in drawn)
    names = np.array([f"u{number}" for number in range(40)])
    parts, own = (slice(0, 25), slice(25, 40)), (np.full(4, -1, np.float32), np.full(4, 1, np.float32))
    folds = {
        fold: read_predictions(
            predictions_of(
                [TASK], names[part], {"emotions": (logits[part], labels[part])}, {}, {"emotions": odds}
            ).to_bytes()
        )
        for fold, (part, odds) in enumerate(zip(parts, own, strict=True))
    }
    row = scores_of(pool(folds, "arm"), {"emotions": 1.0}, {"emotions": 1.0})
    said = np.concatenate([logits[part] > odds for part, odds in zip(parts, own, strict=True)])
    assert row["test/searched_macro_f1/emotions"] == pytest.approx(f1_score(labels, said, average="macro"))
    without = {
        fold: predictions_of([TASK], names[part], {"emotions": (logits[part], labels[part])}, {})
        for fold, part in enumerate(parts)
    }
    assert "test/searched_macro_f1/emotions" not in scores_of(pool(without, "arm"), {"emotions": 1}, {"emotions": 1})
