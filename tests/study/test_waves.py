"""Arms that judge others: what a definition asks for, what is made of whose rows, and when it runs."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from study import definition, waves
from study.analysis.control_arms import control_sentences, control_table
from study.analysis.delta import delta
from study.analysis.summary import control_arms, dynamic_arms, grid_arms, single_arms, static_arms
from study.errors import DefinitionError, StudyError
from study.observing import Observer
from study.plan import make_plan
from study.plan_text import describe, num_tests
from study.records import StudyFolder
from trainables import corpora

ARMS = "arms=[{strategy: equal}, {strategy: softmax}, {strategy: uncertainty}]"


def plan_of(controls, *overrides):
    chosen = definition.load("weighting", [ARMS, "seeds=2", f"controls={controls}", *overrides])
    return make_plan(chosen, corpora.create("synthetic"))


def by_name(plan):
    return {arm.arm: arm for arm in plan.arms}


def test_controls_become_arms_that_are_counted_and_are_no_methods():
    every = "{single_task: true, frozen_mean: all, effective_lr: [softmax], scale_canary: {task: gender, factor: 3}}"
    plan = plan_of(every)
    assert [arm.arm for arm in plan.arms if arm.role] == [
        *("only-emotion", "only-gender", "softmax-frozen", "uncertainty-frozen", "softmax-step"),
        *("equal-x3-gender", "softmax-x3-gender", "uncertainty-x3-gender"),
    ]
    assert plan.num_trials == 22
    assert num_tests(plan) == 2
    told = describe(plan)
    assert told["controls"].startswith("8 arms of the above, 16 trials; 3 of these arms are made of others' rows")
    assert told["smallest p"].startswith(
        "0.5 by the exact Wilcoxon test, 1 after Holm over 2 tests; to reach 0.05 takes 7"
    )
    trials = {trial.trial: trial for trial in plan.trials()}
    assert trials["only-gender-seed1"].criterion == {"gender": 1.0}
    assert trials["softmax-x3-gender-seed0"].loss_scales == {"gender": 3.0}
    assert trials["softmax-x3-gender-seed0"].strategy == trials["softmax-seed0"].strategy


def test_a_definition_without_controls_keeps_its_name():
    plain = definition.load("weighting", [ARMS])
    assert definition.load("weighting", [ARMS, "controls={}"]).identity == plain.identity
    assert definition.load("weighting", [ARMS, "controls={single_task: true}"]).identity != plain.identity


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ("{frozen_mean: [softmx]}", r"controls.frozen_mean: .*'softmx'.*softmax"),
        ("{frozen_mean: [equal]}", "weights of arm 'equal' are fixed"),
        ("{scale_canary: {task: emotoin}}", "controls.scale_canary.task: .*'emotoin'.*emotion"),
        ("{scale_canary: {task: emotion, factor: 1}}", "a factor of 1 changes nothing"),
        ("{scale_canary: {task: emotion, arms: [nobody]}}", "controls.scale_canary.arms: .*'nobody'"),
        ("{frozen: all}", "unknown key 'frozen' in controls .*frozen_mean"),
    ],
)
def test_a_control_that_makes_no_sense_is_told_in_one_line(controls, message):
    with pytest.raises(DefinitionError, match=message):
        plan_of(controls)


def test_step_lengths_need_the_probes_they_are_measured_by():
    with pytest.raises(DefinitionError, match="effective_lr needs the probes"):
        plan_of("{effective_lr: all}", "training.diagnose_every=0")


def test_frozen_mean_keeps_the_scale_and_drops_negative_weights():
    rows = [{"mean_weight/a": 3.0, "mean_weight/b": -2.0}, {"mean_weight/a": 1.0, "mean_weight/b": 4.0}]
    found = waves.frozen_mean(rows, ["a", "b"])
    assert found["strategy"] == {"name": "static", "options": {"weights": pytest.approx([2 / 3, 1 / 3])}}
    assert found["loss_scales"] == pytest.approx({"a": 3.0, "b": 3.0})
    assert waves.frozen_mean([{"mean_weight/a": 1.0}], ["a", "b"]) is None
    assert waves.frozen_mean([{"mean_weight/a": 0.25, "mean_weight/b": 0.75}], ["a", "b"])["loss_scales"] == {}


def test_step_length_is_that_of_the_sum_of_gradients():
    first, second, weights = np.array([3.0, 0.0]), np.array([1.0, 1.0]), np.array([0.2, 1.4])
    lengths = np.array([np.linalg.norm(first), np.linalg.norm(second)])
    row = {f"gradient/norm/{task}": length for task, length in zip("ab", lengths, strict=True)}
    row |= {f"gradient/effective/{t}": w * n for t, w, n in zip("ab", weights, lengths, strict=True)}
    row["gradient/cosine/a:b"] = float(first @ second / lengths.prod())
    ratio = np.linalg.norm(weights[0] * first + weights[1] * second) / np.linalg.norm((first + second) / 2)
    assert waves.step_length([row], ["a", "b"])["loss_scales"] == pytest.approx({"a": ratio, "b": ratio})
    assert waves.step_length([{}], ["a", "b"]) is None


class Told(Observer):
    def __init__(self):
        self.failed = {}

    def trial_ended(self, trial, failure):
        self.failed[trial.trial] = failure["error"]


@pytest.fixture
def folder(tmp_path):
    made = StudyFolder(tmp_path / "mine-12345678")
    made.create()
    return made


def report(folder, trial, status):
    folder.append(trial, {"event": "start"})
    row = {"kind": "epoch", "epoch": 1, "mean_weight/emotion": 0.25, "mean_weight/gender": 0.75}
    folder.append(trial, {"event": "row", "row": row})
    if status:
        folder.append(trial, {"event": "end", "status": status, "error": None})


def test_the_second_wave_is_made_of_trials_of_the_same_seed_that_have_finished(folder):
    plan = plan_of("{frozen_mean: all}")
    ran = []

    def run_trials(trials):
        ran.append([trial.trial for trial in trials])
        for trial in trials:
            report(
                folder, trial.trial, {"softmax-seed1": "failed", "uncertainty-seed0": ""}.get(trial.trial, "finished")
            )
        return True

    told = Told()
    waves.run(plan.trials(), plan.arms, folder, told, run_trials)
    assert len(ran[0]) == 6
    assert ran[1] == ["softmax-frozen-seed0", "uncertainty-frozen-seed1"]
    assert told.failed == {"softmax-frozen-seed1": "it is made of trial softmax-seed1, which has failed"}
    second = waves.second_wave(plan.trials(), plan.arms, folder).trials[0]
    assert second.strategy == {"name": "static", "options": {"weights": [0.25, 0.75]}}


def test_nothing_follows_a_first_wave_that_was_interrupted(folder):
    plan, ran = plan_of("{frozen_mean: all}"), []
    waves.run(plan.trials(), plan.arms, folder, Told(), lambda trials: bool(ran.append(len(trials))))
    assert ran == [6]


def judged(simulated):
    """The study with a frozen gradnorm that loses what gradnorm gains, a canary, and an arm of one task."""
    made = [
        ("gradnorm-frozen", "frozen_mean", "gradnorm", "", 0.05),
        ("softmax-x10-emotion", "scale_canary", "softmax", "emotion", 0.0),
        ("only-emotion", "single_task", "emotion", "", 0.0),
    ]
    arms, rows, trials = [simulated.arms], [simulated.rows], [simulated.trials]
    for name, role, of, scaled, shift in made:
        source = of if of in set(simulated.arms["arm"]) else "static-1-0"
        entry = simulated.arms[simulated.arms["arm"] == source].assign(
            arm=name, label=name, family=role, role=role, of=of, scaled=scaled
        )
        arms.append(entry)
        for tables, table in ((rows, simulated.rows), (trials, simulated.trials)):
            own = table[table["arm"] == source]
            tables.append(own.assign(arm=name, trial=own["trial"].str.replace(source, name, regex=False)))
        noise = np.random.default_rng(0).normal(0, 0.004, len(rows[-1]))
        rows[-1]["test/joint_nll"] += shift + noise
        if scaled:
            rows[-1][f"gradient/share/{scaled}"] = 0.9
    together = pd.concat(arms, ignore_index=True).fillna({"role": "", "of": "", "scaled": ""})
    return replace(
        simulated,
        arms=together,
        rows=pd.concat(rows, ignore_index=True),
        trials=pd.concat(trials, ignore_index=True),
    )


def test_control_arms_are_neither_grid_nor_methods(simulated):
    study = judged(simulated)
    assert control_arms(study) == ["gradnorm-frozen", "softmax-x10-emotion", "only-emotion"]
    for kind in (grid_arms, single_arms, dynamic_arms, static_arms):
        assert kind(study) == kind(simulated)
    assert delta(study, "test").baselines["emotion"] == "only-emotion"


def test_an_arm_is_held_against_its_frozen_mean_and_its_scaled_twin(simulated):
    study = judged(simulated)
    table = control_table(study, "test").set_index("arm")
    assert table.at["gradnorm-frozen", "difference"] == pytest.approx(-0.05, abs=0.01)
    assert table.at["gradnorm-frozen", "t_holm_p"] < 0.05
    assert table.at["softmax-x10-emotion", "share_scaled"] == pytest.approx(0.9)
    told = dict(control_sentences(study, control_table(study, "test")))
    assert "moving the weights helps, beyond where they are on average" in told["gradnorm-frozen"]
    assert "it follows the scale: the task's share of the step goes from" in told["softmax-x10-emotion"]
    assert control_table(simulated, "test").empty


def test_lock_with_roles_is_read_back(folder, tmp_path):
    from study.validation import checked_lock

    arm = {"arm": "a", "label": "a", "role": "frozen_mean", "of": "b", "loss_scales": {"emotion": 10.0}}
    lock = {"title": "", "arms": [arm], "tasks": [], "trials": [], "control": "a", "reference_weights": {}, "facts": {}}
    assert checked_lock(json.loads(json.dumps(lock)), "s")["arms"] == [arm]
    for change in ({"of": "../b"}, {"loss_scales": {"emotion": "10"}}):
        with pytest.raises(StudyError, match=r"which is no name|are no numbers"):
            checked_lock({**lock, "arms": [arm | change]}, "s")
