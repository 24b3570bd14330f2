"""The tuning phase without Ray: segments become trials, results become history, and a kill loses nothing."""

import io
import itertools
import json
import math
import os
import re
import threading
from contextlib import contextmanager

import pytest
from rich.console import Console

from strategies.errors import UserError
from study import follow, records, tuning, tuning_run, warm_start
from study.analysis.tuning import at_edges, best_of, best_of_interval, configurations_table, from_plain, importances
from study.definition import Resources, validate
from study.errors import DefinitionError, StudyError
from study.methods import STATIC_GRID
from study.observing import Observers
from study.optuna_export import export
from study.pilot import tuning_epochs
from study.plan import make_plan
from study.plan_text import describe
from study.progress import Display, LineDisplay
from study.recorder import Recorder
from study.records import StudyFolder
from study.retry import Retries
from study.runner import _Told
from study.search.segments import Stage
from trainables import corpora

LOCK = {
    "title": "tiny",
    "tasks": [],
    "control": "equal",
    "reference_weights": {},
    "facts": {},
    "seeds": [0, 1],
    "definition": {"training": {"epochs": 4}},
}
RATE = {"low": 1e-4, "high": 1e-2, "log": True}


def definition(search=None, **changes):
    found = {"budget": {"trials": 3}, "seeds": 2, "space": {"training.learning_rate": RATE}} | (search or {})
    arms = [{"strategy": "equal"}, {"grid": {"step": 0.5}}, {"strategy": "gradnorm"}]
    content = {"name": "tiny", "arms": arms, "training": {"epochs": 4}, "search": found} | changes
    return validate(content, "test")


@pytest.fixture(scope="module")
def corpus():
    return corpora.create("synthetic")


@pytest.fixture
def start(tmp_path, corpus):
    """Return a function that begins, or goes on with, the tuning phase of a study."""

    def begin(search=None, name="tiny-12345678", **changes):
        folder = StudyFolder(tmp_path / name)
        folder.create()
        return tuning.Tuner(make_plan(definition(search, **changes), corpus), corpus, folder, "store")

    return begin


def rows_of(trial, best_rate=2e-3):
    """Rows of a trial that learns faster the nearer its learning rate is to the best one."""
    distance = abs(math.log10(trial.training["learning_rate"] / best_rate))
    luck = 0.01 * (trial.seed % 7)
    for epoch in range(trial.first + 1, trial.until + 1):
        loss = 1.0 + distance + luck + 1.0 / epoch
        yield {"kind": "epoch", "epoch": epoch, "step": 10 * epoch, "valid/joint_nll": loss}


def run_one(tuner, failure=None, observer=None):
    """Train the next segment; return it, or None if there is none."""
    trial = tuner.next()
    if trial is None:
        return None
    observer = observer or tuner
    observer.trial_started(trial)
    (tuner.folder.checkpoints / trial.trial).mkdir(parents=True, exist_ok=True)
    written = tuner.folder.checkpoints / trial.trial / "new"
    written.write_text(f"epoch {trial.until}")
    written.replace(written.with_name("last.pt"))
    for row in () if failure else rows_of(trial):
        observer.trial_reported(trial, row)
    observer.trial_ended(trial, {"error": failure, "traceback": ""} if failure else None)
    return trial


def run_all(tuner):
    trials = []
    while (trial := run_one(tuner)) is not None:
        trials.append(trial)
    assert tuner.campaign.done
    return trials


def lines(tuner):
    """The history without what depends on the clock."""
    found = [json.loads(line) for line in (tuner.folder.path / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("seconds", "at")} for line in found]


def test_a_segment_is_a_trial_that_sees_validation_alone_with_the_values_of_its_configuration(start):
    trial = start().next()
    assert (trial.trial, trial.arm, trial.seed) == ("equal-c000-seed1000", "equal", 1000)
    assert (trial.first, trial.until, trial.parent) == (0, 4, None)
    assert trial.training["learning_rate"] == 1e-4  # the definition's own comes first
    assert trial.training["diagnose_every"] == 0
    assert trial.folder.endswith("tuning/checkpoints/equal-c000-seed1000")


def test_every_method_gets_the_same_and_all_seeds(start):
    trials = run_all(start())
    assert len(trials) == 3 * 3 * 2
    for method in ("equal", STATIC_GRID, "gradnorm"):
        assert sorted(trial.seed for trial in trials if trial.arm == method) == [1000] * 3 + [1001] * 3


def test_a_kill_at_any_segment_changes_nothing(start, tmp_path):
    whole = start(name="whole")
    run_all(whole)
    for number in (1, 11):
        name = f"killed-{number}"
        killed = start(name=name)
        for _ in range(number):
            run_one(killed)
        killed.next()  # under way when it is killed
        with (killed.folder.path / "history.jsonl").open("a") as file:
            file.write('{"event": "told", "meth')
        resumed = start(name=name)
        run_all(resumed)
        key = lambda line: json.dumps(line, sort_keys=True)  # noqa: E731
        assert sorted(lines(resumed), key=key) == sorted(lines(whole), key=key)
        assert resumed.chosen() == whole.chosen()


def test_what_was_told_is_on_the_disk_before_the_next_segment_is_handed_out(start):
    tuner = start()
    run_one(tuner)
    assert [line["event"] for line in lines(tuner)].count("told") == 1
    assert len(tuner.campaign.history()) == len(lines(tuner))


def test_checkpoints_go_when_nobody_goes_on_from_them(start):
    tuner = start()
    run_one(tuner)
    assert list(tuner.folder.checkpoints.iterdir()) == []
    run_all(tuner)
    tuner.close()
    assert not tuner.folder.checkpoints.exists()


PBT = {"scheduler": "pbt", "searcher": "random", "budget": {"trials": 30, "epochs": 64}, "seeds": 2, "parallel": 4}
PBT |= {"options": {"population": 4, "interval": 1, "quantile": 0.5}}


def test_population_based_training_begins_from_checkpoints_that_are_kept(start):
    tuner = start(PBT, arms=[{"strategy": "equal"}])
    heirs = []
    while (trial := run_one(tuner)) is not None:
        if trial.parent is not None:
            heirs.append(trial)
            donor = tuner.folder.checkpoints / trial.parent
            assert donor.read_text() == f"epoch {donor.stem.removeprefix('epoch-')}"
    assert heirs
    chosen = tuner.chosen()["equal"]
    assert chosen[-1].until == 4
    tuner.close()
    found = records.load_tuning(StudyFolder(tuner.folder.path.parent))
    assert [stage["values"] for stage in found.methods[0].stages] == [dict(stage.values) for stage in chosen]


def test_a_schedule_is_confirmed_with_its_changes(start, corpus):
    tuner = start(PBT, arms=[{"strategy": "equal"}])
    run_all(tuner)
    stages = tuner.chosen()["equal"]
    plan = make_plan(definition(PBT, arms=[{"strategy": "equal"}]), corpus, {"equal": stages})
    (trial,) = plan.trials()[:1]
    for stage in stages:
        rate = stage.values["training.learning_rate"]
        assert trial.at(stage.first).training["learning_rate"] == rate


def test_a_configuration_that_fails_is_told_and_one_method_that_fails_is_left_out(start, corpus):
    tuner = start()
    while (trial := tuner.next()) is not None:
        tuner.trial_started(trial)
        failed = {"error": "not a finite number", "traceback": ""} if trial.arm == "gradnorm" else None
        for row in () if failed else rows_of(trial):
            tuner.trial_reported(trial, row)
        tuner.trial_ended(trial, failed)
    tuner.close()
    plan, lost = tuning_run.without_failed(make_plan(definition(), corpus, tuner.chosen()), tuner.chosen())
    assert lost == ["gradnorm"]
    assert [arm.arm for arm in plan.arms] == ["equal", STATIC_GRID]
    with pytest.raises(StudyError, match="every configuration of equal, the control, failed"):
        tuning_run.without_failed(plan, {})


JUDGES = {"single_task": True, "frozen_mean": "all", "scale_canary": {"task": "emotion", "arms": ["equal", "gradnorm"]}}


def test_controls_are_trained_with_what_was_chosen_for_the_arm_they_are_made_of(start, corpus):
    tuner = start(controls=JUDGES)
    run_all(tuner)
    asked = definition(controls=JUDGES)
    plan = make_plan(asked, corpus, tuner.chosen())
    arms = {arm.arm: arm for arm in plan.arms}
    rate = {name: stages[0].values["training.learning_rate"] for name, stages in tuner.chosen().items()}
    assert rate["equal"] != rate["gradnorm"]
    for name, made_of in {
        "only-emotion": "equal",
        "only-gender": "equal",
        "equal-x10-emotion": "equal",
        "gradnorm-frozen": "gradnorm",
        "gradnorm-x10-emotion": "gradnorm",
    }.items():
        assert arms[name].training == {"learning_rate": rate[made_of]}
    assert arms["gradnorm-x10-emotion"].options == arms["gradnorm"].options
    assert {method.name for method in plan.methods} == {"equal", STATIC_GRID, "gradnorm"}
    left, lost = tuning_run.without_failed(plan, {name: 1 for name in rate if name != "gradnorm"})
    assert lost == ["gradnorm"]
    assert [arm.arm for arm in left.arms] == ["equal", STATIC_GRID, "only-emotion", "only-gender", "equal-x10-emotion"]


def test_controls_of_a_schedule_follow_its_training_and_not_the_options_of_its_strategy(corpus):
    found = {
        "budget": {"trials": 3},
        "space": {"training.learning_rate": RATE, "strategy.alpha": {"low": 0.1, "high": 3}},
    }
    stages = (
        Stage(0, 2, {"training.learning_rate": 1e-3, "strategy.alpha": 1.0}),
        Stage(2, 4, {"training.learning_rate": 2e-3, "strategy.alpha": 2.0}),
    )
    arms = [{"strategy": "equal"}, {"strategy": "gradnorm"}]
    plan = make_plan(definition(found, controls=JUDGES, arms=arms), corpus, {"gradnorm": stages})
    trials = {trial.arm: trial for trial in plan.trials() if trial.seed == 0}
    assert trials["gradnorm-x10-emotion"].at(2).strategy["options"]["alpha"] == 2.0
    frozen = trials["gradnorm-frozen"].at(2)
    assert (frozen.training["learning_rate"], frozen.strategy) == (2e-3, {"name": "equal", "options": {}})


def test_a_full_disk_ends_the_search_in_one_line(start, monkeypatch):
    tuner = start()

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StudyError, match=r"history\.jsonl cannot be written: No space left on device; mend that"):
        run_one(tuner)


def test_the_confirmed_arms_are_the_chosen_configurations(start, corpus):
    tuner = start()
    run_all(tuner)
    plan = make_plan(definition(), corpus, tuner.chosen())
    arm = {arm.arm: arm for arm in plan.arms}
    best = tuner.chosen()["gradnorm"][0].values
    assert arm["gradnorm"].training == {"learning_rate": best["training.learning_rate"]}
    assert arm["gradnorm"].options["alpha"] == best["strategy.alpha"]
    assert arm[STATIC_GRID].label.startswith("static grid ")
    assert plan.control == "equal"
    assert {trial.seed for trial in plan.trials()} == {0, 1, 2, 3, 4}
    assert all(trial.until is None for trial in plan.trials())
    assert plan.trials()[2].training["learning_rate"] == best["training.learning_rate"]


# who looks on ------------------------------------------------------------------------------------------------------


def described_study(tuner, found):
    """Write the lock of the study of a tuner."""
    folder = StudyFolder(tuner.folder.path.parent)
    names = ("equal", STATIC_GRID, "gradnorm")
    arms = [{"arm": name, "label": name, "strategy": name, "family": name} for name in names]
    trials = [{"trial": f"{name}-seed{seed}", "arm": name, "seed": seed} for name in names for seed in (0, 1)]
    content = LOCK | {"arms": arms, "trials": trials, "definition": found.model_dump(mode="json")}
    (folder.path / ".driver").write_text("1")
    folder.lock.write_text(json.dumps(content))
    return folder


class Onlooker(LineDisplay):
    """Keeps the boards that it was shown."""

    def __init__(self):
        super().__init__(Console(file=io.StringIO(), width=300))
        self.boards = []

    @contextmanager
    def showing(self, board):
        self.boards.append(board)
        with super().showing(board):
            yield


def test_who_follows_a_search_sees_what_its_own_driver_shows(start, monkeypatch):
    search = {"scheduler": "asha", "budget": {"trials": 6}, "searcher": "random"}
    tuner = start(search)
    folder = described_study(tuner, definition(search))
    ended = threading.Event()
    monkeypatch.setattr("study.driver.running", lambda folder: None if ended.is_set() else 1)
    recorder = Observers(Recorder(tuner.folder), tuner)
    for number in range(5):
        run_one(tuner, "no room" if number == 1 else None, recorder)
    display = Onlooker()

    def go_on():
        while run_one(tuner, observer=recorder) is not None:
            pass
        tuner.close()
        ended.set()

    happening = follow.events(folder, poll_s=0.01)
    past = list(itertools.takewhile(lambda event: event["event"] != "now", happening))
    assert [past[0]["event"], past[0]["methods"]] == ["tuning", ["equal", STATIC_GRID, "gradnorm"]]
    thread = threading.Thread(target=go_on)
    thread.start()
    sent = [json.loads(json.dumps(event)) for event in [*past, {"event": "now"}, *happening]]
    thread.join()
    over = follow.show(iter(sent), display)
    assert over["event"] == "over"
    assert list(display.boards[0].lines()) == list(tuner.board().lines())
    assert display.boards[0].epochs_done == tuner.board().epochs_done
    assert {line.method: line.failed for line in display.boards[0].lines()} == {
        "equal": 0,
        STATIC_GRID: 1,
        "gradnorm": 0,
    }
    text = display.console.file.getvalue()
    assert "study tiny-12345678: tuning 3 methods" in text
    assert re.search(r"\[tuning, \d+/144 epochs\] gradnorm-c005-seed1001 after epoch \d: validation joint NLL", text)
    assert "6 of 6 trials to go" in text
    assert len(display.boards) == 2
    (tuned,) = [method for method in records.load_tuning(folder).methods if method.method == "gradnorm"]
    stopped = {each.number: each.epochs for each in tuned.configurations if each.state == "stopped"}
    tuner.close()  # a second time: nothing is said twice
    for number, epochs in stopped.items():
        rows = (tuner.folder.rows / f"gradnorm-c{number:03d}-seed1000.jsonl").read_text().splitlines()
        assert [json.loads(line).get("epoch") for line in rows if '"stopped"' in line] == [epochs]
    assert {each.state for each in tuned.configurations} == {"full", "stopped"}
    assert next(follow.events(folder))["event"] == "study"  # the search is over: nobody is shown it again


# trying again ------------------------------------------------------------------------------------------------------


def test_a_configuration_that_failed_is_tried_again_and_nothing_else(start):
    tuner = start()
    for number in range(6 * 3):
        run_one(tuner, failure="no room" if number == 7 else None)
    assert tuner.campaign.done
    tuner.close()
    before = lines(tuner)
    again = start()
    assert again.retry() == 1
    assert [trial.seed for trial in run_all(again)] == [1000, 1001]  # the second was not begun when the first failed
    again.close()
    assert lines(again)[: len(before)] == before
    assert [line["event"] for line in lines(again)[len(before) :]] == ["retry", "told", "told"]
    found = records.load_tuning(StudyFolder(again.folder.path.parent))
    assert {each.state for method in found.methods for each in method.configurations} == {"full"}
    assert start().campaign.chosen() == again.campaign.chosen()
    assert start().retry() == 0


def test_trials_of_a_choice_that_was_overtaken_are_set_aside_with_what_was_made_of_them(corpus, tmp_path):
    from study.waves import FROZEN_MEAN

    folder = StudyFolder(tmp_path / "tiny-12345678")
    folder.create()
    folder.tuning.create()
    found = definition(controls={"frozen_mean": ["gradnorm"]}, seeds=[0, 1])

    def plan(rate):
        return make_plan(found, corpus, {"gradnorm": (Stage(0, 4, {"training.learning_rate": rate}),)})

    display = Display(Console(file=io.StringIO(), width=300))
    first = plan(0.001)
    (made,) = [arm.arm for arm in first.arms if arm.role == FROZEN_MEAN]
    trials = [{"trial": trial.trial, "arm": trial.arm, "seed": trial.seed} for trial in first.trials()]
    arms = [{"arm": arm.arm, "label": arm.label, "strategy": arm.strategy, "family": arm.family} for arm in first.arms]
    folder.lock.write_text(json.dumps(LOCK | {"arms": arms, "trials": trials}))
    for trial in trials:
        folder.append(trial["trial"], {"event": "start"})
    folder.write_predictions("gradnorm-seed1", b"numbers")

    tuning_run.confirm(first, folder, display)
    tuning_run.confirm(plan(0.001), folder, display)
    assert display.console.file.getvalue() == ""
    tuning_run.confirm(plan(0.002), folder, display)
    aside = {path.name for path in (folder.tuning.path / "replaced").iterdir()}
    rows = {f"{arm}-seed{seed}.jsonl" for arm in ("gradnorm", made) for seed in (0, 1)}
    assert aside == rows | {"gradnorm-seed1.npz"}
    assert {path.name for path in folder.rows.iterdir()} == {f"{trial['trial']}.jsonl" for trial in trials} - rows
    told = display.console.file.getvalue()
    assert "gradnorm has another configuration than before" in told
    assert "2 trials are trained again" in told


# what reports read -------------------------------------------------------------------------------------------------


@pytest.fixture
def tuned(start):
    tuner = start({"budget": {"trials": 20}, "searcher": "random", "parallel": 20})
    run_all(tuner)
    tuner.close()
    return StudyFolder(tuner.folder.path.parent)


def test_the_importance_of_what_was_planted_is_found(tuned):
    method = records.load_tuning(tuned).methods[2]
    shares = importances(method)
    assert next(iter(shares)) == "training.learning_rate"
    assert shares["training.learning_rate"] > 0.4
    assert sum(shares.values()) == pytest.approx(1.0)


def test_a_choice_at_the_end_of_its_range_is_told():
    content = {
        "search": {"budget": {"trials": 2}},
        "done": True,
        "methods": [
            {
                "method": "equal",
                "space": {"training.learning_rate": RATE, "training.batch_size": {"choices": [8, 16]}},
                "configurations": [
                    {
                        "number": 0,
                        "values": {"training.learning_rate": 0.01, "training.batch_size": 16},
                        "origin": "random",
                        "state": "full",
                        "epochs": 4,
                        "losses": [1.0],
                        "seconds": 1.0,
                        "failure": None,
                    }
                ],
                "chosen": 0,
                "front": [0],
                "stages": [],
                "spent": {"trials": 1, "epochs": 4, "seconds": 1.0},
            }
        ],
    }
    assert at_edges(from_plain(content, "here").methods[0]) == [("training.learning_rate", 0.01, "high")]
    content["methods"][0]["chosen"] = 3
    with pytest.raises(StudyError, match=r"here holds no tuning phase \(configuration 3 was chosen and is not there\)"):
        from_plain(content, "here")
    with pytest.raises(StudyError, match="here holds no tuning phase"):
        from_plain([], "here")


def test_best_of_m_is_the_mean_over_all_subsets():
    from itertools import combinations

    losses = [0.9, 0.4, 0.7, 0.4, 1.3]
    expected = [sum(map(min, combinations(losses, m))) / math.comb(len(losses), m) for m in range(1, len(losses) + 1)]
    assert best_of(losses).tolist() == pytest.approx(expected)
    low, high = best_of_interval(losses)
    assert (low <= best_of(losses) + 1e-12).all()
    assert (best_of(losses) <= high + 1e-12).all()
    assert low[-1] == pytest.approx(0.4)


def test_every_configuration_is_in_the_table(tuned):
    table = configurations_table(records.load_tuning(tuned))
    assert len(table) == 3 * 20
    assert table["chosen"].sum() == 3
    assert set(table["state"]) == {"full"}


def test_the_export_holds_every_trial_and_opens_with_optuna(tuned, tmp_path):
    import optuna

    path = export(tuned, tmp_path / "out.db")
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    loaded = optuna.load_study(study_name=f"{tuned.name} gradnorm", storage=storage)
    method = records.load_tuning(tuned).methods[2]
    assert [trial.value for trial in loaded.trials] == [each.losses[0] for each in method.configurations]
    assert loaded.best_trial.number == method.chosen
    assert loaded.best_params["training.learning_rate"] == method.best.values["training.learning_rate"]
    storage.remove_session()
    storage.engine.dispose()
    with pytest.raises(StudyError, match="there is no folder"):
        export(tuned, tmp_path / "nowhere" / "out.db")


def test_a_study_without_a_search_has_nothing_to_export(tmp_path):
    with pytest.raises(StudyError, match="has searched nothing: it has no section search"):
        export(StudyFolder(tmp_path / "plain"))


# warm start --------------------------------------------------------------------------------------------------------


def test_a_search_starts_from_what_an_earlier_one_has_chosen(tuned, corpus, tmp_path):
    (tuned.path / "lock.json").write_text("{}")
    earlier = records.load_tuning(tuned)
    folder = StudyFolder(tmp_path / "later-12345678")
    plan = make_plan(definition({"start_from": [tuned.name]}), corpus)
    found = warm_start.with_points(plan, folder)
    assert [method.points for method in found.methods] == [(each.best.values,) for each in earlier.methods]
    assert not folder.path.exists()
    assert describe(found)["starts from"] == f"{tuned.name}: 3 configurations are tried first"
    warm_start.keep_points(found, folder)
    (tuned.path / "tuning" / "tuning.json").unlink()
    assert warm_start.with_points(plan, folder) == found  # kept: resumes whatever became of it
    with pytest.raises(StudyError, match=r"search\.start_from: study .* has searched nothing, or not begun to"):
        warm_start.with_points(plan, folder, fresh=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {"training.learning_rate": {"low": 1, "high": 9}}}, r"study tiny has chosen for method 'equal'"),
        ({"space": {"training.weight_decay": {"low": 0, "high": 1}}}, "it has no training.weight_decay, which is"),
    ],
)
def test_a_warm_start_from_another_space_is_refused(tuned, corpus, tmp_path, change, message):
    (tuned.path / "lock.json").write_text("{}")
    plan = make_plan(definition({"start_from": ["tiny"]} | change), corpus)
    with pytest.raises(UserError, match=message):
        warm_start.with_points(plan, StudyFolder(tmp_path / "later-12345678"))
    arms = [{"strategy": "equal", "tuned": False}, {"strategy": "dwa"}]
    plan = make_plan(definition({"start_from": ["tiny"]}, arms=arms), corpus)
    with pytest.raises(UserError, match=r"study tiny has tuned equal, .*, and none of the methods .* here: dwa"):
        warm_start.with_points(plan, StudyFolder(tmp_path / "later-12345678"))


def test_a_warm_start_from_a_search_without_results_is_refused(start, corpus, tmp_path):
    tuner = start()
    tuner.close()
    (tuner.folder.path.parent / "lock.json").write_text("{}")
    plan = make_plan(definition({"start_from": ["tiny"]}), corpus)
    with pytest.raises(StudyError, match=r"study tiny in .* has finished no trial of its search"):
        warm_start.with_points(plan, StudyFolder(tmp_path / "later-12345678"))


def test_a_warm_start_from_nothing_is_told(tuned, tmp_path, monkeypatch, corpus):
    (tuned.path / "lock.json").write_text("{}")
    folder = StudyFolder(tmp_path / "later-12345678")
    plan = make_plan(definition({"start_from": ["tinny"]}), corpus)
    with pytest.raises(StudyError, match=r"unknown study 'tinny'.* tiny-12345678.*; MLflow has no search of that name"):
        warm_start.with_points(plan, folder)
    assert not (tmp_path / "mlflow.db").exists()
    values = {"equal": {"training.learning_rate": "0.005"}}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    monkeypatch.setattr("study.mlflow_store.chosen_runs", lambda uri, study: values)
    methods = warm_start.with_points(plan, folder).methods
    assert methods[0].points == ({"training.learning_rate": 0.005},)


# what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"space": {"training.learning_rate": {"low": 1, "high": 0.1}}},
            r"search\.space\.training\.learning_rate is {'low': 1, 'high': 0\.1}: the range is upside down",
        ),
        (
            {"methods": {"gradnorm": {"strategy.alpha": {"low": 1, "high": 1}}}},
            r"search\.methods\.gradnorm\.strategy\.alpha .* holds one value",
        ),
        ({"space": {"training.learning_rate": {"low": 0.1, "hihg": 1}}}, "unknown key 'hihg' .* did you mean 'high'"),
        ({"space": {"training.learning_rate": {"choices": []}}}, "0 choices: a search needs at least two"),
        ({"space": {"training.epochs": {"choices": [1, 2]}}}, r"search\.space: training\.epochs is the same for all"),
        (
            {"space": {"training.batch_size": {"low": 4, "high": 64}}},
            "cannot have .*batch_size is 26.*valid integer.*; integer: true searches whole numbers alone",
        ),
        ({"searcher": "tpee"}, r"search\.searcher is 'tpee': .* did you mean 'tpe'"),
        ({"scheduler": "ahsa"}, r"search\.scheduler is 'ahsa': .* did you mean 'asha'"),
        ({"objective": "joint_nl"}, "say its direction.* did you mean 'joint_nll'"),
        ({"objective": []}, r"search\.objective is \[\]: it needs a metric"),
        ({"budget": 12}, r"search\.budget is 12: expected limits, such as {trials: 12}"),
        ({"scheduler": "asha", "options": {"graec": 1}}, r"search\.options: unknown option .*did you mean 'grace'"),
        (
            {"scheduler": "pbt", "searcher": "random", "budget": {"trials": 1}},
            r"search\.budget: scheduler pbt needs a population of at least 2, and the budget funds 1",
        ),
        ({"space": {"strategy.alhpa": {"low": 0, "high": 1}}}, "nearest: alpha|did you mean|alpha"),
        ({"space": {"training.optimizer": {"choices": ["adam", "foo"]}}}, "cannot have .*'foo'"),
        (
            {"space": {"network.options.dropout": {"low": 0.0, "high": 2.0}}},
            r"search\.space: method 'equal' cannot have .*dropout is 2\.0, but it must be a number in",
        ),
        ({"space": {"network.options.dropuot": {"low": 0.0, "high": 0.5}}}, "dropout"),
        ({"objective": "uar/emotoin"}, "unknown metric of the trials 'uar/emotoin'.*uar/emotion"),
        ({"objective": "loss"}, "say its direction"),
        ({"objective": "test/joint_nll"}, "validation alone"),
        ({"budget": {"epochs": 3}}, r"search\.budget\.epochs is 3, which cannot fund one trial per method"),
        ({"budget": {}}, "at least one of trials"),
        ({"methods": {"dwaa": {}}}, "unknown method 'dwaa'"),
        (
            {"scheduler": "pbt", "searcher": "tpe"},
            r"search\.scheduler pbt cannot work with searcher tpe.* use searcher",
        ),
        (
            {"scheduler": "pbt", "searcher": "random", "space": {"training.optimizer": {"choices": ["adam", "sgd"]}}},
            "goes on from checkpoints of other values, and training.optimizer cannot change",
        ),
        (
            {"searcher": "grid", "budget": {"trials": 2}},
            r"search\.searcher grid: method 'static_grid': a grid over .* has at least 6 points",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_line(corpus, search, message):
    with pytest.raises(UserError, match=message) as told:
        make_plan(definition(search), corpus)
    assert "\n" not in str(told.value)


def test_tuning_seeds_are_never_those_of_the_comparison():
    with pytest.raises(DefinitionError, match=r"seeds has 1001, which search\.seeds tunes with: use fresh seeds"):
        definition(seeds=[1, 1001])


def test_a_search_over_folds_is_refused():
    with pytest.raises(DefinitionError, match=r"search and split\.folds"):
        definition(split={"protocol": "k_fold", "folds": "all"})


@pytest.mark.parametrize(
    ("training", "message"),
    [({"epochs": 3}, "epochs is the same for all arms"), ({"learning_rate": -1}, "greater than 0"), ({"lr": 1}, "lr")],
)
def test_an_arms_own_training_is_checked(training, message):
    with pytest.raises(DefinitionError, match=message):
        validate({"name": "own", "arms": [{"strategy": "equal", "training": training}]}, "test")


def test_an_arm_may_have_a_learning_rate_of_its_own_and_others_keep_their_identity(corpus):
    plain = validate({"name": "own", "arms": [{"strategy": "equal"}]}, "test")
    own = validate({"name": "own", "arms": [{"strategy": "equal", "training": {"learning_rate": 0.01}}]}, "test")
    assert own.identity != plain.identity
    assert make_plan(own, corpus).trials()[0].training["learning_rate"] == 0.01
    assert validate(own.model_dump(mode="json"), "again").identity == own.identity


def test_the_plan_tells_what_is_searched(corpus):
    told = describe(make_plan(definition(), corpus))
    assert told["tuning seeds"] == "2: 1000, 1001"
    assert told["tuning"].startswith("9 configurations, 18 trials, 72 epochs; then")
    assert told["tunes gradnorm"].startswith("3: training.learning_rate 0.0001..0.01 (log)")


# the feed of the runner --------------------------------------------------------------------------------------------


def test_a_feed_is_asked_as_long_as_there_is_room_and_drained_when_all_has_ended(start):
    tuner = start()
    told = _Told(Retries((), Resources()), tuner, 2, tuner)
    first, second = told.hand_out(), told.hand_out()
    assert told.hand_out() is None  # no room
    assert not told.is_drained
    for trial in (first, second):
        tuner.trial_started(trial)
        for row in rows_of(trial):
            tuner.trial_reported(trial, row)
        told.trial_ended(trial, None)
    while (trial := told.hand_out()) is not None:
        tuner.trial_started(trial)
        for row in rows_of(trial):
            tuner.trial_reported(trial, row)
        told.trial_ended(trial, None)
    assert told.is_over
    assert tuner.campaign.done


def test_a_segment_that_is_postponed_is_handed_out_first_in_the_next_round(start):
    tuner = start()
    retries = Retries((), Resources())
    told = _Told(retries, tuner, 1, tuner)
    trial = told.hand_out()
    tuner.trial_started(trial)
    told.trial_ended(trial, {"error": "disk full", "kind": "passing"})
    assert retries.next_round(1).trials == (trial,)
    again = _Told(retries, tuner, 1, tuner)
    assert again.hand_out() == trial


# the report --------------------------------------------------------------------------------------------------------


def test_the_report_tells_what_each_method_was_given_and_that_winners_look_too_good(tuned, simulated):
    from dataclasses import replace

    from study.analysis import compare
    from study.report.tuning import tuning as tuning_section
    from study.report.tuning import tuning_figure

    results = replace(simulated, tuning=records.load_tuning(tuned))
    section = tuning_section(results, compare(simulated), ["tuning"])
    paragraph, spent, chosen, figure = section.blocks[:4]
    assert "all 3 methods were tuned alike: 20 trials for each" in paragraph.text
    assert "no result" in paragraph.text
    assert [row[2:4] for row in spent.rows] == [("20", "160")] * 3
    assert [row[0] for row in chosen.rows] == ["equal", STATIC_GRID, "gradnorm"]
    assert "learning_rate 0.00" in chosen.rows[0][3]
    assert figure.stem == "tuning"
    drawn = tuning_figure(results)
    assert [axis.get_title() for axis in drawn.axes] == ["equal", STATIC_GRID, "gradnorm"]
    curve = drawn.axes[0].get_lines()[0].get_ydata()
    assert list(curve) == pytest.approx(list(best_of(results.tuning.methods[0].losses(4, ("random",)))))


def test_a_study_without_a_search_has_no_such_section(simulated):
    from study.analysis import compare
    from study.report.tuning import tuning as tuning_section
    from study.report.tuning import tuning_figure

    assert tuning_section(simulated, compare(simulated), []).blocks == ()
    assert tuning_figure(simulated) is None


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"trials": 3}, {"equal": 24, "gradnorm": 24}),
        ({"trials": 3, "epochs": 20}, {"equal": 20, "gradnorm": 20}),
        ({"hours": 0.1}, {"equal": 360, "gradnorm": 180}),
        ({"hours": 0.001}, {"equal": 32, "gradnorm": 32}),  # what is begun before the first result is known
        ({"wall_clock_hours": 0.1}, {"equal": 480, "gradnorm": 480}),  # 4 trials at a time, in turns
        ({"wall_clock_hours": 1e-6}, {"equal": 8, "gradnorm": 8}),
    ],
)
def test_a_pilot_tells_how_far_a_budget_goes(corpus, budget, expected):
    plan = make_plan(definition({"budget": budget}, arms=[{"strategy": "equal"}, {"strategy": "gradnorm"}]), corpus)
    assert tuning_epochs(plan, {"equal": 1.0, "gradnorm": 2.0}, 4) == pytest.approx(expected)


def test_a_plan_whose_budget_is_time_says_who_knows_how_much_that_is(corpus):
    assert (
        "--pilot measures about how many" in describe(make_plan(definition({"budget": {"hours": 1}}), corpus))["tuning"]
    )


def test_a_pilot_measures_every_distinct_training_once_and_tells_what_the_whole_takes():
    from study import job
    from study.progress import Display

    small = {"name": "synthetic", "options": {"num_speakers": 12, "utterances_per_speaker": 4}}
    arms = [{"strategy": "equal"}, {"strategy": "equal", "name": "again", "training": {"learning_rate": 0.01}}]
    search = {"space": {"network.options.dropout": {"low": 0.0, "high": 0.5}}}
    told = job.piloted(definition(search, corpus=small, network={"modalities": ["video"]}, arms=arms), Display(None))
    assert told["pilot"].startswith("3 epochs measured")  # as written, and with the least and the most dropout
    assert re.fullmatch(r"\d+ MB of checkpoints \(.* MB each\)", told["disk"])
    assert told["disk of tuning"].endswith("while it lasts, none afterwards")
    assert re.match(r"about .* with \d+ trials at a time", told["here"])
