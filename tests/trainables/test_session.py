import dataclasses
import errno
import math
import os
from pathlib import Path

import pytest
import torch

from trainables import checkpoint, corpora, networks, session
from trainables.batch import InputSettings
from trainables.errors import TrainingError
from trainables.session import Session, TrialSpecification

TIMED = ("time/", "memory/")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    wanted = networks.input_settings("chae", "small")
    settings = InputSettings(max_seconds=wanted.max_seconds, frame_size=wanted.frame_size)
    corpus = corpora.create("synthetic", num_speakers=12, utterances_per_speaker=8)
    return corpora.prepare(corpus, None, settings, tmp_path_factory.mktemp("cache"), workers=1)


@pytest.fixture
def make(store):
    def specification(folder=None, strategy="softmax", seed=0, **training):
        settings = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3} | training
        return TrialSpecification(
            trial=f"{strategy}-seed{seed}",
            arm=strategy,
            seed=seed,
            store=str(store.path),
            split={"protocol": "speaker_disjoint", "options": {"ratios": [6, 2, 2], "seed": 0}},
            network={"name": "chae", "preset": "small", "modalities": ["audio", "video"], "options": {}},
            strategy={"name": strategy, "options": {}},
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
    """Everything a trial reports except what depends on the machine's load."""
    return [{name: value for name, value in row.items() if not name.startswith(TIMED)} for row in rows]


def test_a_trial_reports_one_row_an_epoch_and_one_final_row(make):
    rows = list(Session(make()).run())
    assert [row["kind"] for row in rows] == ["epoch"] * 3 + ["final"]
    assert [row["epoch"] for row in rows[:3]] == [1, 2, 3]
    assert rows[-1]["epoch"] == min(rows[:3], key=lambda row: row["valid/joint_nll"])["epoch"]


def test_only_the_final_row_has_seen_the_test_split(make):
    *epochs, final = Session(make()).run()
    assert not any(name.startswith("test/") for row in epochs for name in row)
    assert {"test/nll/emotion", "test/uar/gender", "test/joint_nll", "test/weighted_nll"} <= set(final)


def test_the_names_of_a_row_are_the_documented_ones(make):
    row = next(Session(make()).run())
    per_split = {
        f"{metric}/{task}" for metric in ("nll", "uar", "accuracy", "macro_f1") for task in ("emotion", "gender")
    }
    expected = {f"valid/{name}" for name in per_split | {"joint_nll", "weighted_nll"}}
    expected |= {"train/nll/emotion", "train/nll/gender", "train/joint_nll", "train/weighted_nll"}
    expected |= {f"{kind}/{task}" for kind in ("weight", "raw_weight") for task in ("emotion", "gender")}
    kinds = ("largest_weight", "gradient/norm", "gradient/effective", "gradient/share")
    expected |= {f"{kind}/{task}" for kind in kinds for task in ("emotion", "gender")}
    expected |= {"weight/entropy", "gradient/conflict", "gradient/cosine/emotion:gender"}
    expected |= {"learning_rate/network", "learning_rate/strategy"}
    expected |= {"kind", "epoch", "step", "time/step_ms", "time/epoch_s", "time/diagnostics_s", "memory/peak_mb"}
    assert set(row) == expected


def test_every_name_of_a_row_is_documented(make):
    text = (Path(__file__).resolve().parents[2] / "docs" / "rows.md").read_text(encoding="utf-8")
    for name in {name for row in Session(make()).run() for name in row}:
        generic = name.replace("emotion:gender", "TASK1:TASK2").replace("emotion", "TASK").replace("gender", "TASK")
        split, _, rest = generic.partition("/")
        shown = f"SPLIT/{rest}" if f"`SPLIT/{rest}`" in text else generic
        assert f"`{shown}`" in text or split == "test", name


def test_probes_of_the_gradients_change_no_other_number(make):
    probed, plain = (numbers(Session(make(diagnose_every=every)).run()) for every in (2, 0))
    stripped = [{name: value for name, value in row.items() if not name.startswith("gradient/")} for row in probed]
    assert stripped == plain
    assert stripped != probed


def test_the_final_row_has_the_mean_of_the_epochs_gradients(make):
    *epochs, final = Session(make()).run()
    for name in ("gradient/norm/emotion", "gradient/conflict", "gradient/cosine/emotion:gender"):
        assert final[name] == pytest.approx(sum(row[name] for row in epochs) / len(epochs))


def test_a_row_tells_the_learning_rates_of_its_epoch(make):
    rows = list(Session(make(strategy="gradnorm", schedule="step", step_epochs=1, gamma=0.1)).run())
    assert [row["learning_rate/network"] for row in rows[:3]] == pytest.approx([1e-3, 1e-4, 1e-5])
    assert [row["learning_rate/strategy"] for row in rows[:3]] == pytest.approx([0.025, 0.0025, 0.00025])
    assert "learning_rate/strategy" not in next(Session(make(strategy="equal")).run())


def test_joint_and_weighted_losses_are_the_tasks_losses_at_the_weights_beside_them(make):
    for row in Session(make(strategy="uncertainty", learning_rate=1e-2)).run():
        weights = [row["weight/emotion"], row["weight/gender"]]
        raw = [row["raw_weight/emotion"], row["raw_weight/gender"]]
        assert sum(weights) == pytest.approx(1.0)
        assert weights == pytest.approx([value / sum(raw) for value in raw])
        if row["kind"] == "epoch":
            losses = [row["valid/nll/emotion"], row["valid/nll/gender"]]
            assert row["valid/joint_nll"] == pytest.approx(sum(losses) / 2)
            assert row["valid/weighted_nll"] == pytest.approx(sum(w * x for w, x in zip(weights, losses, strict=True)))


@pytest.mark.parametrize("strategy", ["equal", "softmax", "gradnorm"])
def test_the_same_seed_and_arm_give_bit_identical_metrics(make, strategy):
    assert numbers(Session(make(strategy=strategy)).run()) == numbers(Session(make(strategy=strategy)).run())


def test_another_seed_gives_another_trial(make):
    assert numbers(Session(make(seed=0)).run()) != numbers(Session(make(seed=1)).run())


def test_arms_of_one_seed_start_from_the_same_network(make):
    first, second = (Session(make(strategy=name)).learner.network.state_dict() for name in ("equal", "gradnorm"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("strategy", ["softmax", "gradnorm"])
@pytest.mark.parametrize("epochs_before", [1, 2])
def test_resumed_equals_uninterrupted_bit_for_bit(make, tmp_path, monkeypatch, strategy, epochs_before):
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    whole = numbers(Session(make(strategy=strategy)).run())
    first = Session(make(tmp_path, strategy=strategy)).run()
    before = [next(first) for _ in range(epochs_before)]
    del first
    after = list(Session(make(tmp_path, strategy=strategy)).run())
    assert numbers(before + after) == whole
    assert len(after) == len(whole) - epochs_before


def test_a_finished_trial_resumes_to_its_final_row_alone(make, tmp_path):
    rows = list(Session(make(tmp_path)).run())
    assert numbers(Session(make(tmp_path)).run()) == numbers(rows[-1:])


def test_a_checkpoint_of_another_specification_is_ignored(make, tmp_path):
    list(Session(make(tmp_path)).run())
    assert Session(make(tmp_path, learning_rate=1e-2)).epoch == 0
    assert Session(make(tmp_path)).epoch == 3


def test_a_trial_goes_on_with_other_probes_and_from_a_checkpoint_that_knows_none(make, tmp_path):
    list(Session(make(tmp_path)).run())
    assert Session(make(tmp_path, diagnose_every=2)).epoch == 3
    state = checkpoint.load(tmp_path / "last.pt", torch.device("cpu"))
    del state["gradients"]
    checkpoint.save(tmp_path / "last.pt", state)
    resumed = Session(make(tmp_path, diagnose_every=2))
    assert resumed.epoch == 3
    assert not any(name.startswith("gradient/") for name in list(resumed.run())[-1])


def test_a_damaged_checkpoint_is_named_and_never_used(make, tmp_path):
    list(Session(make(tmp_path)).run())
    path = tmp_path / "last.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"last.pt cannot be read .* delete it to start the trial anew"):
        Session(make(tmp_path))


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path):
    checkpoint.save(tmp_path / "last.pt", {"value": 1})
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save(tmp_path / "last.pt", {"value": lambda: None})
    assert checkpoint.load(tmp_path / "last.pt", torch.device("cpu"))["value"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_is_told_and_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "last.pt", {"value": 1})

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(TrainingError, match=r"last\.pt cannot be written: No space left on device"):
        checkpoint.save(tmp_path / "last.pt", {"value": 2})
    assert checkpoint.load(tmp_path / "last.pt", torch.device("cpu"))["value"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_loss_that_is_no_number_fails_the_trial_with_its_step(make):
    with pytest.raises(TrainingError, match="not a finite number at step"):
        list(Session(make(learning_rate=1e30, clip_norm=None, optimizer="sgd")).run())


def test_class_weights_change_training_and_leave_the_metric_alone(make):
    plain, weighted = (next(Session(make(class_weights=value)).run()) for value in (False, True))
    assert plain["train/nll/emotion"] != weighted["train/nll/emotion"]
    assert math.isfinite(weighted["valid/nll/emotion"])


def test_a_specification_travels_as_plain_values(make):
    specification = make()
    assert TrialSpecification(**specification.as_dict()) == specification
    assert dataclasses.asdict(specification) == specification.as_dict()
