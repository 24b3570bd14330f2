"""Trials trained again: the same numbers, or the first ones that are not."""

import io
import json
import math
import shutil
from types import SimpleNamespace

import pytest
from rich.console import Console

from study import corpus_job, provenance, reproduction, verification
from study.definition import load
from study.errors import StudyError
from study.plan import make_plan
from study.progress import Display
from study.records import StudyFolder
from trainables import corpora
from trainables.session import Session

TRIAL = "softmax-seed0"
TINY = [
    "corpus.options={num_speakers: 12, utterances_per_speaker: 4}",
    "arms=[{strategy: equal}, {strategy: softmax}]",
    "seeds=1",
    "training.epochs=1",
]


@pytest.fixture
def display():
    return Display(Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A study of one trained trial, kept as a run keeps it."""
    definition = load("weighting", TINY)
    corpus = corpora.create(definition.corpus.name, **definition.corpus.options)
    store = corpus_job.prepare_store(definition, corpus, Display(Console(file=io.StringIO())))
    plan = make_plan(definition, corpus).with_table(store.table)
    folder = StudyFolder(tmp_path_factory.mktemp("home") / definition.study)
    folder.create()
    folder.write_text(folder.definition, definition.as_yaml())
    folder.write_text(folder.lock, json.dumps(provenance.lock(plan, store)))
    (specification,) = [trial for trial in plan.trials(str(store.path)) if trial.trial == TRIAL]
    session = Session(specification)
    folder.append(TRIAL, {"event": "start", "arm": "softmax", "seed": 0})
    for row in session.run():
        folder.append(TRIAL, {"event": "row", "row": row})
    folder.write_predictions(TRIAL, session.predictions.to_bytes())
    folder.append(TRIAL, {"event": "end", "status": "finished", "predictions": True})
    return folder


@pytest.fixture
def folder(run, tmp_path):
    """A copy of it that a test may spoil."""
    return StudyFolder(shutil.copytree(run.path, tmp_path / run.name))


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_trial_trained_again_gives_every_number_bit_for_bit_and_a_changed_one_is_found(folder, display):
    verdict = verification.verify(folder, TRIAL, display)
    assert not verdict.differences
    assert verdict.rows == 2
    assert verdict.numbers > 60
    assert verdict.lines[0].endswith("the same bit for bit (cpu)")

    rows = folder.rows / f"{TRIAL}.jsonl"
    recorded = folder.record(TRIAL).rows[0]["valid/joint_nll"]
    edit(rows, f'"valid/joint_nll": {recorded!r}', f'"valid/joint_nll": {recorded + 1e-9!r}')
    verdict = verification.verify(folder, TRIAL, display)
    assert {difference.name for difference in verdict.differences} == {"valid/joint_nll"}
    assert not verification.verify(folder, TRIAL, display, tolerance=1e-6).differences


def test_what_cannot_be_verified_is_told_in_one_line(folder, display):
    for trial, message in (
        ("softmax-seed7", "has no trial 'softmax-seed7'"),
        ("equal-seed0", "pending and has no rows"),
    ):
        with pytest.raises(StudyError, match=message):
            verification.verify(folder, trial, display)
    lock = folder.read_lock()
    lock["corpus"]["content_hash"] = "b" * 64
    folder.write_text(folder.lock, json.dumps(lock))
    with pytest.raises(StudyError, match="the corpus is another one than the study was run on"):
        verification.verify(folder, TRIAL, display)
    edit(folder.definition, "learning_rate: 0.001", "learning_rate: 0.01")
    with pytest.raises(StudyError, match=r"definition\.yaml was edited"):
        verification.verify(folder, TRIAL, display)


def test_versions_that_are_others_are_told_one_by_one(folder):
    lock = folder.read_lock()
    lock["versions"]["torch"] = "1.0.0"
    lock["git_commit"] = "0123456789abcdef"
    told = verification.differences_of(lock)
    assert any("the study was run with 1.0.0" in line for line in told)
    assert any("the study was run with 0123456789ab" in line for line in told)


def test_versions_of_earlier_rows_stay_in_the_lock():
    now = {"versions": {"torch": "3"}, "git_commit": "c", "facts": {}}
    before = {"versions": {"torch": "2"}, "git_commit": "b" * 40, "facts": {"earlier versions": "torch 1"}}
    assert provenance.with_earlier(now, before)["facts"] == {
        "earlier versions": f"torch 1; torch 2, git commit {'b' * 12}"
    }
    assert provenance.with_earlier(now, now) == now


def test_a_study_run_again_from_its_lock_is_compared_trial_by_trial(folder, display, tmp_path):
    def again(definition, home, display, address):
        made = shutil.copytree(folder.path, home / definition.study)
        return SimpleNamespace(folder=StudyFolder(made))

    found = reproduction.reproduce(folder.lock, tmp_path / "new", display, run=again)
    assert found.is_same
    assert found.lines[0].startswith("1 of 1 trials are the same bit for bit")
    recorded = folder.record(TRIAL).rows[0]["valid/joint_nll"]
    edit(folder.rows / f"{TRIAL}.jsonl", f'"valid/joint_nll": {recorded!r}', '"valid/joint_nll": 0.25')
    found = reproduction.compared(folder, found.folder, folder.read_lock(), 0.0)
    assert not found.is_same
    assert found.lines[0].startswith("0 of 1 trials")
    with pytest.raises(StudyError, match="is the home of the study itself"):
        reproduction.reproduce(folder.path, folder.path.parent, display, run=again)
    with pytest.raises(StudyError, match=r"expected the lock\.json of a study"):
        reproduction.reproduce(tmp_path / "none.json", tmp_path / "new", display, run=again)


def test_numbers_are_the_same_within_a_tolerance_of_their_size():
    assert verification.same(1000.0, 1001.0, 1e-2)
    assert not verification.same(1.0, 1.0 + 1e-15 * 4, 0.0)
    assert not verification.same(math.nan, 1.0, 1.0)
