import dataclasses
import errno
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

import strategies
from strategies.options import missing_options
from trainables import checkpoint, corpora, networks, session, trial_data
from trainables.errors import TrainingError
from trainables.inputs import InputSettings
from trainables.session import Session
from trainables.specification import TrialSpecification

TIMED = ("time/", "memory/")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    wanted = networks.input_settings("chae", "small")
    settings = InputSettings(max_seconds=wanted.max_seconds, frame_size=wanted.frame_size)
    corpus = corpora.create("synthetic", num_speakers=12, utterances_per_speaker=8)
    return corpora.prepare(corpus, None, settings, tmp_path_factory.mktemp("cache"), workers=1)


@pytest.fixture(scope="module")
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


def test_a_network_may_be_chosen_by_one_task_alone(make):
    alone = dataclasses.replace(make(epochs=4, learning_rate=3e-2), criterion={"gender": 1.0})
    *epochs, final = Session(alone).run()
    assert final["epoch"] == min(epochs, key=lambda row: row["valid/nll/gender"])["epoch"]
    assert final["valid/joint_nll"] == pytest.approx((final["valid/nll/emotion"] + final["valid/nll/gender"]) / 2)


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
    expected |= {f"{kind}/{task}" for kind in ("weight", "raw_weight", "mean_weight") for task in ("emotion", "gender")}
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


@pytest.fixture
def every_epoch(monkeypatch):
    """A checkpoint after every epoch."""
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)


@pytest.fixture(scope="module")
def whole(make):
    """What a trial reports that nothing disturbs."""
    return numbers(Session(make()).run())


def epoch_of(path):
    return checkpoint.load(path, torch.device("cpu"))["epoch"]


def stopped_after(specification, epochs):
    """Train some epochs of a trial and leave it; return its rows."""
    running = Session(specification).run()
    return [next(running) for _ in range(epochs)]


@pytest.mark.parametrize("strategy", ["softmax", "gradnorm"])
@pytest.mark.parametrize("epochs_before", [1, 2])
def test_resumed_equals_uninterrupted_bit_for_bit(make, tmp_path, every_epoch, strategy, epochs_before):
    whole = numbers(Session(make(strategy=strategy)).run())
    before = stopped_after(make(tmp_path, strategy=strategy), epochs_before)
    resumed = Session(make(tmp_path, strategy=strategy))
    assert resumed.epoch == epochs_before
    rows = list(resumed.run())
    assert rows[:epochs_before] == before
    assert numbers(rows) == whole
    assert resumed.take_notes() == []


def one_of_each_state():
    """One strategy for each set of things that strategies remember; the conformance kit resumes all, on toys."""
    made = {name: strategies.load(name) for name in strategies.names()}
    built = {name: strategies.create(name, 2) for name, kind in made.items() if not missing_options(kind, [])}
    return list({frozenset(strategy.state_dict()): name for name, strategy in built.items()}.values())


@pytest.mark.parametrize("strategy", one_of_each_state())
def test_every_kind_of_strategy_resumes_bit_for_bit(make, tmp_path, every_epoch, strategy):
    quick = {"strategy": strategy, "epochs": 2, "batch_size": 24, "diagnose_every": 0}
    running = Session(make(tmp_path / "whole", **quick)).run()
    whole = [next(running)]
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    whole += list(running)
    resumed = Session(make(tmp_path / "stopped", **quick))
    assert resumed.epoch == 1
    assert numbers(resumed.run()) == numbers(whole)


def test_a_finished_trial_trains_nothing_again(make, tmp_path):
    rows = list(Session(make(tmp_path)).run())
    again = Session(make(tmp_path))
    assert again.epoch == 3
    assert numbers(again.run()) == numbers(rows)


def test_a_checkpoint_of_another_specification_is_ignored(make, tmp_path):
    list(Session(make(tmp_path)).run())
    assert Session(make(tmp_path, learning_rate=1e-2)).epoch == 0
    assert Session(make(tmp_path)).epoch == 3


def test_a_trial_goes_on_with_other_probes(make, tmp_path):
    list(Session(make(tmp_path, diagnose_every=0)).run())
    resumed = Session(make(tmp_path, diagnose_every=2))
    assert resumed.epoch == 3
    assert not any(name.startswith("gradient/") for name in list(resumed.run())[-1])


def tear(path):
    path.write_bytes(path.read_bytes()[:1000])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def forget_format(path):
    path.write_bytes(path.read_bytes().replace(b"study-checkpoint 2", b"study-checkpoint 1", 1))


def be_older(path):
    torch.save({"format": 1, "epoch": 2}, path)


@pytest.mark.parametrize("damage", [tear, flip, forget_format, be_older, Path.unlink], ids=lambda each: each.__name__)
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(make, tmp_path, whole, every_epoch, damage):
    stopped_after(make(tmp_path), 2)
    damage(tmp_path / "last.pt")
    resumed = Session(make(tmp_path))
    assert resumed.epoch == 1
    rows, notes = numbers(resumed.run()), resumed.take_notes()
    assert rows == whole
    if damage is not Path.unlink:
        (note,) = notes
        assert re.search(r"last.pt (is damaged, or older|has format 1, this is 2).*goes on after epoch 1", note)
    assert [epoch_of(tmp_path / name) for name in ("previous.pt", "last.pt")] == [2, 3]


def test_a_trial_without_a_readable_checkpoint_starts_anew_and_says_so(make, tmp_path, every_epoch):
    stopped_after(make(tmp_path), 2)
    for name in ("last.pt", "previous.pt"):
        tear(tmp_path / name)
    resumed = Session(make(tmp_path))
    assert resumed.epoch == 0
    assert [note.endswith("the trial starts anew") for note in resumed.take_notes()] == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_never_pushes_out_the_good_one_before(make, tmp_path, every_epoch):
    stopped_after(make(tmp_path, epochs=4), 2)
    tear(tmp_path / "last.pt")
    stopped_after(make(tmp_path, epochs=4), 2)  # its row of epoch 1 again, and epoch 2
    assert [epoch_of(tmp_path / name) for name in ("previous.pt", "last.pt")] == [1, 2]


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it runs, not even a handler."""


def kill_at(monkeypatch, number):
    """End the process at its ``number``-th change of a folder, before it happens; return the changes that did."""
    done = []

    def guarded(change):
        def step(*arguments, **options):
            if len(done) >= number:
                raise KilledError
            done.append(change.__name__)
            return change(*arguments, **options)

        return step

    for owner, name in ((Path, "open"), (os, "fsync"), (Path, "replace"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, guarded(getattr(owner, name)))
    return done


@pytest.mark.parametrize("number", range(10))
def test_a_kill_at_any_moment_of_saving_leaves_a_state_that_goes_on_exactly(make, tmp_path, whole, every_epoch, number):
    rows = Session(make(tmp_path)).run()
    before = [next(rows), next(rows), next(rows)]
    with pytest.MonkeyPatch.context() as patching:
        kill_at(patching, number)
        with pytest.raises(KilledError):
            next(rows)
    resumed = Session(make(tmp_path))
    resumed_at = resumed.epoch
    assert resumed_at == (2 if number < 4 else 3)
    assert resumed.best.row["epoch"] <= resumed.epoch
    assert resumed.take_notes() == []
    found = list(resumed.run())
    assert found[:resumed_at] == before[:resumed_at]
    assert numbers(found) == whole
    best = checkpoint.load(tmp_path / "best.pt", torch.device("cpu"))
    assert (best["row"]["epoch"], best["epoch"]) == (whole[-1]["epoch"], 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt", "previous.pt"]


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_trial(make, tmp_path, whole, every_epoch, monkeypatch):

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    running = Session(make(tmp_path))
    assert numbers(running.run()) == whole
    (note,) = set(running.take_notes())
    assert re.search(r"last\.pt cannot be written: No space left on device; the trial goes on without it", note)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_runs_no_code(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was run"),)

    checkpoint.save(tmp_path / "last.pt", {"value": Malicious()})
    with pytest.raises(checkpoint.DamagedError, match="holds something else than numbers and plain values"):
        checkpoint.load(tmp_path / "last.pt", torch.device("cpu"))
    assert not (tmp_path / "was run").exists()


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


def test_trials_whose_networks_read_less_share_the_corpus_of_the_others(make):
    both = make()
    sound = dataclasses.replace(both, network={**both.network, "modalities": ["audio"]})
    trial_data._load_data.cache_clear()
    parts = [trial_data.data_of(specification).parts["train"] for specification in (sound, both, sound)]
    assert trial_data._load_data.cache_info().misses == 1
    assert parts[0].longest().video is None
    assert parts[0]._decoded is parts[1]._decoded is parts[2]._decoded


def test_class_weights_change_training_and_leave_the_metric_alone(make):
    plain, weighted = (next(Session(make(class_weights=value)).run()) for value in (False, True))
    assert plain["train/nll/emotion"] != weighted["train/nll/emotion"]
    assert math.isfinite(weighted["valid/nll/emotion"])


def test_a_specification_travels_as_plain_values(make):
    specification = make()
    assert TrialSpecification(**specification.as_dict()) == specification
    assert dataclasses.asdict(specification) == specification.as_dict()
