"""A split that leaks says so wherever its results are read; tasks that are numbers are planned like others."""

from dataclasses import replace

import pytest

from study import job, provenance
from study.analysis import compare
from study.definition import load
from study.errors import DefinitionError
from study.plan import make_plan
from study.plan_text import describe
from study.report import summary_lines
from study.report.markdown import markdown
from trainables import corpora
from trainables.corpora.synthetic import Synthetic
from trainables.inputs import InputSettings

WARNING = (
    "Protocol replication_random leaks speakers: 6 of 6 test speakers are in training, 6 of 6 validation speakers are "
    "in training; published for comparison only"
)
LEAKY = "split.protocol=replication_random"


class Rated(Synthetic):
    values = ("valence",)

    def read(self, root=None):
        return super().read(root).assign(valence=2.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    corpus = corpora.create("synthetic", num_speakers=6, utterances_per_speaker=20)
    return corpora.prepare(corpus, None, InputSettings(0.4, 16), tmp_path_factory.mktemp("cache"), workers=1)


def planned(*overrides, corpus=None):
    definition = load("weighting", list(overrides))
    return make_plan(definition, corpus or corpora.create("synthetic"))


def test_the_plan_says_how_the_corpus_is_divided_and_whether_that_leaks():
    assert describe(planned())["split"] == "speaker_disjoint (ratios=[6, 2, 2], seed=0)"
    assert describe(planned(LEAKY))["split"] == ("replication_random; leaks speakers: published for comparison only")


def test_the_lock_holds_the_warning_and_no_other_split_has_one(store):
    assert provenance.lock(planned(LEAKY), store)["facts"]["warning"] == WARNING
    assert "warning" not in provenance.lock(planned(), store)["facts"]


def test_a_run_prints_the_warning_once_before_anything_is_trained(store, tmp_path, monkeypatch):
    told = []

    class Display:
        def warn(self, line):
            told.append(line)

    monkeypatch.setattr(job, "prepare_store", lambda *arguments, **options: store)
    monkeypatch.setattr(job, "_run_locked", lambda *arguments, **options: told.append("trained"))
    job.run(load("weighting", [LEAKY]), tmp_path, Display())
    assert told == [WARNING, "trained"]
    told.clear()
    job.run(load("weighting", []), tmp_path, Display())
    assert told == ["trained"]


def test_report_and_summary_repeat_the_warning(simulate):
    results = simulate(num_seeds=2, num_epochs=2, dynamic=("softmax",))
    leaky = replace(results, facts={**results.facts, "warning": WARNING})
    text = markdown(leaky, compare(leaky), [])
    assert f"\n\n**{WARNING}.**\n" in text
    assert summary_lines(compare(leaky)).count(f"{WARNING}.") == 1
    assert "leaks" not in markdown(results, compare(results), [])


def test_the_fold_of_a_definition_can_be_set_and_makes_a_study_of_its_own():
    out = "split.protocol=leave_one_session_out"
    folds = [load("weighting", [out, f"split.options.fold={number}"]) for number in (0, 3)]
    assert [definition.split.options for definition in folds] == [{"fold": 0}, {"fold": 3}]
    assert folds[0].study != folds[1].study
    assert load("weighting", ["split.options.fold=3", out]).study == folds[1].study


def test_options_of_a_split_go_with_their_protocol():
    assert load("weighting", ["split.protocol=k_fold"]).split.options == {}
    assert load("weighting", ["split={protocol: k_fold, options: {num_folds: 3}}"]).split.options == {"num_folds": 3}
    assert load("weighting", ["split.options.seed=7"]).split.options == {"ratios": [6, 2, 2], "seed": 7}
    same = load("weighting", ["split.protocol=speaker_disjoint", "split.options.seed=7"])
    assert same.split.options == {"ratios": [6, 2, 2], "seed": 7}


def test_a_label_that_is_a_number_becomes_a_task_of_regression():
    plan = planned("tasks=[emotion, valence]", corpus=Rated())
    assert [(task.name, task.kind, task.num_outputs) for task in plan.tasks] == [
        ("emotion", "classification", 4),
        ("valence", "regression", 1),
    ]
    assert describe(plan)["tasks"] == "emotion (4 classes), valence (a number)"
    assert plan.trials()[0].make_tasks() == plan.tasks


def test_an_unknown_task_names_numbers_as_well():
    told = r"'valance' \(known: emotion, emotions, gender, valence\); did you mean 'valence'"
    with pytest.raises(DefinitionError, match=told):
        planned("tasks=[emotion, valance]", corpus=Rated())
