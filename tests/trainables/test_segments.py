"""Trials that pause after some epochs and go on later, or begin from another's checkpoint: a search needs it."""

import os
from dataclasses import replace

import pytest
import torch

from trainables import checkpoint, corpora, networks, session
from trainables.errors import TrainingError
from trainables.inputs import InputSettings
from trainables.session import Session
from trainables.specification import TrialSpecification

TIMED = ("time/", "memory/")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    wanted = networks.input_settings("chae", "small")
    settings = InputSettings(max_seconds=wanted.max_seconds, frame_size=wanted.frame_size)
    corpus = corpora.create("synthetic", num_speakers=12, utterances_per_speaker=4)
    return corpora.prepare(corpus, None, settings, tmp_path_factory.mktemp("cache"), workers=1)


@pytest.fixture(scope="module")
def make(store):
    def specification(folder=None, strategy="softmax", options=None, **training):
        settings = {"epochs": 4, "batch_size": 12, "learning_rate": 1e-3, "diagnose_every": 0} | training
        return TrialSpecification(
            trial=f"{strategy}-seed0",
            arm=strategy,
            seed=0,
            store=str(store.path),
            split={"protocol": "speaker_disjoint", "options": {"ratios": [6, 2, 2], "seed": 0}},
            network={"name": "chae", "preset": "small", "modalities": ["video"], "options": {}},
            strategy={"name": strategy, "options": options or {}},
            tasks=[
                {"name": "emotion", "classes": list(store.classes["emotion"]), "kind": "classification"},
                {"name": "gender", "classes": list(store.classes["gender"]), "kind": "classification"},
            ],
            training=settings,
            reference_weights={"emotion": 0.5, "gender": 0.5},
            folder=None if folder is None else str(folder),
        )

    return specification


def numbers(rows):
    return [{name: value for name, value in row.items() if not name.startswith(TIMED)} for row in rows]


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
@pytest.mark.parametrize("strategy", ["softmax", "gradnorm"])
def test_segments_one_after_the_other_equal_a_trial_in_one_go(make, tmp_path, strategy, schedule):
    settings = {"strategy": strategy, "schedule": schedule, "step_epochs": 2}
    whole = numbers(Session(make(**settings)).run())
    rows = []
    for first, until in ((0, 1), (1, 3), (3, 4)):
        segment = replace(make(tmp_path, **settings), first=first, until=until)
        rows += numbers(Session(segment).run())
    assert rows == whole[:-1]


def test_a_segment_never_looks_at_the_test_split_and_leaves_no_chosen_network(make, tmp_path):
    paused = Session(replace(make(tmp_path), until=4))
    rows = list(paused.run())
    assert [row["kind"] for row in rows] == ["epoch"] * 4
    assert not any(name.startswith("test/") for row in rows for name in row)
    assert paused.predictions is None
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_segment_that_was_killed_reports_the_epochs_of_its_own_again_and_no_others(make, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    list(Session(replace(make(tmp_path), until=1)).run())
    segment = replace(make(tmp_path), first=1, until=4)
    running = Session(segment).run()
    before = [next(running), next(running)]
    resumed = Session(segment)
    assert resumed.epoch == 3
    rows = list(resumed.run())
    assert rows[:2] == before
    assert [row["epoch"] for row in rows] == [2, 3, 4]


def begun_from(make, tmp_path, epoch=2, **settings):
    """Train a trial for some epochs, keep its checkpoint, and return another one that begins from it."""
    donor = replace(make(tmp_path / "donor"), until=epoch)
    list(Session(donor).run())
    os.link(tmp_path / "donor" / "last.pt", tmp_path / "donor" / f"epoch-{epoch}.pt")
    heir = replace(make(tmp_path / "heir", **settings), trial="heir", parent=f"donor/epoch-{epoch}.pt", first=epoch)
    return donor, heir


def test_a_trial_that_begins_from_another_with_the_same_values_goes_on_like_it(make, tmp_path):
    _, heir = begun_from(make, tmp_path)
    expected = numbers(Session(make()).run())[2:4]
    assert numbers(Session(replace(heir, until=4)).run()) == expected


def test_its_own_learning_rate_weight_decay_and_options_hold_from_the_first_step(make, tmp_path):
    _, heir = begun_from(make, tmp_path, learning_rate=5e-4, weight_decay=0.1, options={"temperature": 4.0})
    begun = Session(replace(heir, until=3))
    groups = begun.learner.optimizer.param_groups
    assert [group["lr"] for group in groups] == [5e-4, 5e-4]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert begun.learner.strategy.temperature == 4.0
    (row,) = begun.run()
    assert row["epoch"] == 3
    assert row["learning_rate/network"] == 5e-4
    assert begun.learner.optimizer.param_groups[0]["lr"] == 5e-4  # and not what the schedule of the other trial says


def test_fixed_weights_are_those_asked_for_and_not_those_of_the_other_trial(make, tmp_path):
    list(Session(replace(make(tmp_path / "donor", "static", {"weights": [0.9, 0.1]}), until=1)).run())
    os.link(tmp_path / "donor" / "last.pt", tmp_path / "donor" / "epoch-1.pt")
    own = make(tmp_path / "heir", "static", {"weights": [0.3, 0.7]})
    (row,) = Session(replace(own, trial="heir", parent="donor/epoch-1.pt", first=1, until=2)).run()
    assert row["weight/emotion"] == pytest.approx(0.3)


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_a_schedule_goes_on_where_it_was_at_the_new_rate(make, tmp_path, schedule):
    list(Session(replace(make(tmp_path / "donor", schedule=schedule, step_epochs=2), until=2)).run())
    os.link(tmp_path / "donor" / "last.pt", tmp_path / "donor" / "epoch-2.pt")
    own = make(tmp_path / "heir", schedule=schedule, step_epochs=2, learning_rate=3e-3)
    rows = list(Session(replace(own, trial="heir", parent="donor/epoch-2.pt", first=2, until=4)).run())
    alone = list(Session(make(schedule=schedule, step_epochs=2, learning_rate=3e-3)).run())
    rates = [[row["learning_rate/network"] for row in found] for found in (rows, alone[2:4])]
    assert rates[0] == pytest.approx(rates[1])


def test_an_heir_goes_on_from_its_own_checkpoint_once_it_has_one(make, tmp_path):
    _, heir = begun_from(make, tmp_path)
    list(Session(replace(heir, until=3)).run())
    (tmp_path / "donor" / "epoch-2.pt").unlink()
    assert [row["epoch"] for row in Session(replace(heir, first=3, until=4)).run()] == [4]


def test_a_checkpoint_to_begin_from_that_is_gone_or_of_another_network_is_told(make, tmp_path):
    _, heir = begun_from(make, tmp_path)
    other = {**heir.network, "modalities": ["audio"]}
    with pytest.raises(TrainingError, match="a checkpoint does not fit trial heir: "):
        Session(replace(heir, network=other))
    (tmp_path / "donor" / "epoch-2.pt").unlink()
    with pytest.raises(TrainingError, match=r"trial heir begins from .*donor/epoch-2\.pt, which is not there"):
        Session(heir)


CHANGES = ({"epoch": 2, "training": {"learning_rate": 5e-4}, "options": {"temperature": 4.0}},)


def test_a_trial_whose_values_change_equals_segments_that_hand_over(make, tmp_path):
    _, heir = begun_from(make, tmp_path, learning_rate=5e-4, options={"temperature": 4.0})
    *rows, final = numbers(Session(replace(make(), changes=CHANGES)).run())
    assert rows[:2] == numbers(Session(make()).run())[:2]
    assert rows[2:] == numbers(Session(replace(heir, until=4)).run())
    assert final["kind"] == "final"


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_trial_whose_values_change_resumes_bit_for_bit(make, tmp_path, monkeypatch, epochs):
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    whole = numbers(Session(replace(make(), changes=CHANGES)).run())
    running = Session(replace(make(tmp_path), changes=CHANGES)).run()
    for _ in range(epochs):
        next(running)
    resumed = Session(replace(make(tmp_path), changes=CHANGES))
    assert resumed.epoch == epochs
    assert numbers(resumed.run()) == whole


def test_a_checkpoint_does_not_remember_how_far_its_segment_went(make, tmp_path):
    list(Session(replace(make(tmp_path), until=2)).run())
    state = checkpoint.load(tmp_path / "last.pt", torch.device("cpu"))
    assert not {"first", "until", "parent", "changes"} & set(state["specification"].replace('"', " ").split())
