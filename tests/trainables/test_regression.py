"""A task whose label is a number, from the corpus to the rows: valence with gaps, trained by 1 - concordance."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from trainables import corpora, networks
from trainables.corpora.synthetic import EMOTIONS, Synthetic
from trainables.errors import CorpusError
from trainables.inputs import InputSettings
from trainables.session import Session
from trainables.specification import TrialSpecification
from trainables.tasks import Task, concordance

VALENCE = {"neutral": 0.0, "anger": -1.5, "happiness": 1.5, "sadness": -0.75}


class Rated(Synthetic):
    """The built-in corpus with a valence that follows the emotion; every fifth utterance has none, every third no
    gender."""

    values = ("valence",)

    def read(self, root=None):
        table = super().read(root)
        table["valence"] = table["emotion"].map(VALENCE) + 0.1 * (np.arange(len(table)) % 3)
        table.loc[table.index % 5 == 0, "valence"] = np.nan
        table.loc[table["speaker"].isin(["s000", "s001", "s002", "s003"]), "gender"] = None
        return table


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    wanted = networks.input_settings("chae", "small")
    settings = InputSettings(max_seconds=wanted.max_seconds, frame_size=wanted.frame_size)
    corpus = Rated(num_speakers=12, utterances_per_speaker=8)
    return corpora.prepare(corpus, None, settings, tmp_path_factory.mktemp("cache"), workers=1)


@pytest.fixture
def make(store):
    def specification(strategy="softmax", kinds=("classification", "regression"), **training):
        tasks = {
            "emotion": {"name": "emotion", "classes": list(EMOTIONS), "kind": "classification"},
            "valence": {"name": "valence", "classes": [], "kind": "regression"},
        }
        chosen = [task for task in tasks.values() if task["kind"] in kinds]
        return TrialSpecification(
            trial=f"{strategy}-seed0",
            arm=strategy,
            seed=0,
            store=str(store.path),
            split={"protocol": "speaker_disjoint", "options": {"ratios": [6, 2, 2], "seed": 0}},
            network={"name": "chae", "preset": "small", "modalities": ["audio", "video"], "options": {}},
            strategy={"name": strategy, "options": {}},
            tasks=chosen,
            training={"epochs": 2, "batch_size": 8, "learning_rate": 1e-3} | training,
            reference_weights={task["name"]: 1 / len(chosen) for task in chosen},
        )

    return specification


def test_numbers_and_gaps_come_through_the_store_as_they_are(store):
    rows = np.arange(len(store.table))
    batches = corpora.Batches(store, rows, [Task("valence", kind="regression")], ("audio",), 8, 1.0)
    expected = Rated(num_speakers=12, utterances_per_speaker=8).read()["valence"].to_numpy(np.float32)
    np.testing.assert_array_equal(batches.labels("valence"), expected)
    batch = next(batches.ordered())
    assert batch.labels["valence"].dtype == torch.float32
    assert batch.labels["valence"].isnan().tolist() == [True, False, False, False, False, True, False, False]


@pytest.mark.parametrize("strategy", ["equal", "softmax", "gradnorm", "uncertainty"])
def test_a_trial_with_a_task_of_regression_reports_its_concordance(make, strategy):
    rows = list(Session(make(strategy, class_weights=True)).run())
    assert [row["kind"] for row in rows] == ["epoch", "epoch", "final"]
    for row in rows:
        assert row["valid/nll/valence"] == pytest.approx(1 - row["valid/ccc/valence"])
        assert -1 <= row["valid/ccc/valence"] <= 1
        assert "valid/uar/valence" not in row
        joint = 0.5 * row["valid/nll/emotion"] + 0.5 * row["valid/nll/valence"]
        assert row["valid/joint_nll"] == pytest.approx(joint)
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    assert {"test/ccc/valence", "test/mse/valence", "test/uar/emotion"} <= set(rows[-1])


def test_the_score_is_that_of_the_labelled_utterances_of_the_test_speakers(make, store):
    session = Session(make("equal", epochs=1))
    *_, final = session.run()
    outputs = []
    with torch.inference_mode():
        for batch in session._data["test"].ordered():
            outputs.append(session.learner.network(batch)["valence"].squeeze(1))
    split = corpora.split_for_tasks("speaker_disjoint", store.table, session.tasks)
    mean, deviation = corpora.units_of(store, session.tasks, split.train)["valence"]
    targets = torch.tensor((store.table["valence"].to_numpy(np.float32)[split.test] - mean) / deviation)
    told = ~targets.isnan()
    assert 0 < int((~told).sum()) < len(targets)
    expected = concordance(torch.cat(outputs)[told].double(), targets[told].double())
    assert final["test/ccc/valence"] == pytest.approx(float(expected), abs=1e-6)


def test_valence_alone_is_learned_and_the_best_epoch_is_kept(make):
    *epochs, final = Session(make("equal", kinds=("regression",), epochs=18, learning_rate=3e-3)).run()
    assert final["valid/ccc/valence"] == max(row["valid/ccc/valence"] for row in epochs) > 0.3


def test_check_and_statistics_know_numbers():
    corpus = Rated(num_speakers=2, utterances_per_speaker=10)
    assert corpora.check(corpus, None) == []
    (spread,) = corpora.describe(corpus, None).tables()["valence"].to_dict("records")
    values = corpus.read()["valence"]
    assert (spread["utterances"], spread["missing"]) == (16, 4)
    assert spread["mean"] == pytest.approx(values.mean())
    assert (spread["min"], spread["max"]) == (values.min(), values.max())


class Wrong(Rated):
    def read(self, root=None):
        table = super().read(root)
        table["valence"] = table["valence"].astype(object)
        table.loc[3, "valence"] = "high"
        table.loc[7, "valence"] = math.inf
        return table


class Silent(Rated):
    def read(self, root=None):
        return super().read(root).assign(valence=np.nan)


def test_check_names_what_is_no_number_and_a_label_that_nobody_has():
    (finding,) = corpora.check(Wrong(num_speakers=2, utterances_per_speaker=8), None)
    assert str(finding) == "label: 2 utterances have a valence that is no number: s000_u003, s000_u007"
    (finding,) = corpora.check(Silent(num_speakers=2, utterances_per_speaker=4), None)
    assert str(finding) == "label: no utterance has a valence"


def test_a_label_with_an_infinite_number_or_a_word_is_refused_before_training(tmp_path):
    store = corpora.prepare(
        Rated(num_speakers=4, utterances_per_speaker=4), None, InputSettings(0.4, 16), tmp_path, workers=1
    )
    task = Task("valence", kind="regression")
    for strange in (math.inf, "high"):
        store.table = store.table.assign(valence=pd.Series([strange, *[1.0] * 15], dtype=object))
        with pytest.raises(CorpusError, match=rf"valence of s000_u000 is '?{strange}'?, but must be a finite number"):
            corpora.Batches(store, np.arange(16), [task], ("audio",), 8, 1.0)


class RatedFromOneToFive(Rated):
    """The same valence on the scale of a questionnaire."""

    def read(self, root=None):
        table = super().read(root)
        table["valence"] = 3 + table["valence"] / 2
        return table


def test_the_scale_of_a_rating_changes_nothing_but_rounding(tmp_path, make):
    wanted = networks.input_settings("chae", "small")
    settings = InputSettings(max_seconds=wanted.max_seconds, frame_size=wanted.frame_size)
    other = corpora.prepare(
        RatedFromOneToFive(num_speakers=12, utterances_per_speaker=8), None, settings, tmp_path, workers=1
    )
    plain = list(Session(make("equal")).run())
    rated = list(Session(dataclasses.replace(make("equal"), store=str(other.path))).run())
    for one, two in zip(plain, rated, strict=True):
        for name in ("valid/nll/valence", "valid/ccc/valence", "valid/mse/valence", "valid/nll/emotion"):
            assert two[name] == pytest.approx(one[name], abs=1e-3), name


def test_numbers_are_measured_in_units_of_the_training_part(store):
    task, train = Task("valence", kind="regression"), np.arange(32)
    units = corpora.units_of(store, [task, Task("emotion", EMOTIONS)], train)
    measured = corpora.Batches(store, train, [task], ("audio",), 8, 1.0, units).labels("valence")
    assert np.nanmean(measured) == pytest.approx(0, abs=1e-6)
    assert np.nanstd(measured) == pytest.approx(1, abs=1e-6)
    assert list(units) == ["valence"]


def test_predictions_of_ratings_are_on_the_scale_of_the_corpus(make, store):
    session = Session(make(epochs=1))
    *_, final = session.run()
    said = session.predictions
    ratings = store.table.set_index("utterance").loc[said.utterances, "valence"].astype(float)
    assert said.labels["valence"] == pytest.approx(ratings.to_numpy(), abs=1e-5, nan_ok=True)
    known = ~np.isnan(said.labels["valence"])
    values, labels = torch.from_numpy(said.values["valence"][known]), torch.from_numpy(said.labels["valence"][known])
    assert concordance(values.double(), labels.double()).item() == pytest.approx(final["test/ccc/valence"], abs=1e-5)
