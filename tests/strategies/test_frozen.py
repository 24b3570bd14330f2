"""Replayed weights: epoch by epoch, as their mean, and from the rows of a trial."""

import json

import pytest
import torch

from strategies import StrategyError, create
from strategies.base import TaskFacts
from strategies.frozen import FrozenWeighting
from strategies.testing import linear_steps
from study.records import StudyFolder
from trainables import corpora, networks
from trainables.inputs import InputSettings
from trainables.session import Session
from trainables.specification import TrialSpecification

TRAJECTORY = [[0.5, 0.5], [0.25, 0.75], [0.0, 3.0]]


def weights(strategy):
    return strategy.weights(torch.ones(strategy.num_tasks)).tolist()


def followed(strategy, epochs):
    found = []
    for _ in range(epochs):
        found.append(weights(strategy))
        strategy.after_epoch(torch.ones(strategy.num_tasks))
    return found


def from_file(path, *names):
    strategy = FrozenWeighting(len(names), trajectory=str(path))
    strategy.setup([TaskFacts(name) for name in names], seed=0)
    return strategy


def row(epoch, kind="epoch", **weights):
    return {"kind": kind, "epoch": epoch} | {f"raw_weight/{name}": weight for name, weight in weights.items()}


@pytest.fixture
def write(tmp_path):
    """Write the rows of a trial as a study does; a text stands for a line as it is."""

    def writer(*rows):
        folder = StudyFolder(tmp_path / "study")
        folder.create()
        folder.append("trial", {"event": "start"})
        path = folder.rows / "trial.jsonl"
        for each in rows:
            if isinstance(each, str):
                path.write_text(path.read_text() + each)
            else:
                folder.append("trial", {"event": "row", "row": each})
        folder.append("trial", {"event": "end", "status": "finished"})
        return path

    return writer


# given weights -------------------------------------------------------------------------------------------------------


def test_each_epoch_has_its_weights_and_the_last_ones_stay():
    assert followed(FrozenWeighting(2, trajectory=TRAJECTORY), 5) == [*TRAJECTORY, TRAJECTORY[-1], TRAJECTORY[-1]]


def test_the_mean_is_that_of_all_epochs_from_the_first_on():
    strategy = FrozenWeighting(2, trajectory=TRAJECTORY, replay="mean")
    for found in followed(strategy, 4):
        assert found == pytest.approx([0.25, 4.25 / 3])


def test_the_step_is_that_of_the_weights_whatever_the_losses():
    rows = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    strategy = FrozenWeighting(2, trajectory=[[0.25, 0.75]])
    for step in linear_steps(strategy, [rows] * 2, [torch.tensor([1.0, 9.0]), torch.zeros(2)]):
        assert (step.direction.tolist(), step.heads.tolist()) == ([0.5, 3.0], [0.25, 0.75])


def test_the_epoch_comes_back_from_a_checkpoint():
    strategy, fresh = (FrozenWeighting(2, trajectory=TRAJECTORY) for _ in range(2))
    strategy.after_epoch(torch.ones(2))
    fresh.load_state_dict(strategy.state_dict())
    assert weights(fresh) == [0.25, 0.75]


@pytest.mark.parametrize(
    "trajectory",
    [
        [],
        [[]],
        [[1.0, 2.0, 3.0]],
        [[0.5, 0.5], [1.0]],
        [0.5, 0.5],
        [["half", "half"]],
        [[None, 1.0]],
        [[10**400, 1.0]],
        3,
    ],
    ids=range(9),
)
def test_a_table_that_is_not_one_row_of_weights_an_epoch_is_refused(trajectory):
    message = "^strategy 'frozen': option 'trajectory' must be a list of epochs, each with 2 weights$"
    with pytest.raises(StrategyError, match=message):
        create("frozen", 2, trajectory=trajectory)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), 1e39])
def test_a_weight_that_is_negative_or_not_finite_is_refused(weight):
    message = "^strategy 'frozen': option 'trajectory' has a weight that is negative or not finite$"
    with pytest.raises(StrategyError, match=message):
        create("frozen", 2, trajectory=[[0.5, 0.5], [0.5, weight]])


def test_an_unknown_replay_is_refused_with_the_nearest():
    with pytest.raises(
        StrategyError, match=r"unknown replay 'epoch' \(known: epochs, mean\); did you mean 'epochs'\?$"
    ):
        create("frozen", 2, trajectory=TRAJECTORY, replay="epoch")


def test_the_trajectory_has_to_be_given():
    with pytest.raises(StrategyError, match="trajectory"):
        create("frozen", 2)


# rows of a trial -----------------------------------------------------------------------------------------------------


def test_the_rows_of_a_trial_are_read_by_task_and_not_by_order(write):
    path = write(
        row(1, emotion=0.75, gender=0.25), row(2, emotion=1.5, gender=0.5), row(2, "final", emotion=9.0, gender=9.0)
    )
    assert followed(from_file(path, "emotion", "gender"), 3) == [[0.75, 0.25], [1.5, 0.5], [1.5, 0.5]]
    assert followed(from_file(path, "gender", "emotion"), 2) == [[0.25, 0.75], [0.5, 1.5]]
    assert followed(from_file(path, "gender"), 2) == [[0.25], [0.5]]


def test_an_epoch_reported_twice_counts_once_with_its_last_weights(write):
    path = write(row(1, a=0.1), row(2, a=0.2), row(3, a=0.3), row(2, a=0.4), row(3, a=0.5), row(4, a=0.6))
    assert [found for (found,) in followed(from_file(path, "a"), 5)] == pytest.approx([0.1, 0.4, 0.5, 0.6, 0.6])


def test_the_mean_of_a_file_counts_every_epoch_once(write):
    path = write(row(1, a=1.0), row(2, a=5.0), row(2, a=2.0), row(2, "final", a=7.0))
    strategy = FrozenWeighting(1, trajectory=str(path), replay="mean")
    strategy.setup([TaskFacts("a")], seed=0)
    assert weights(strategy) == [1.5]


def test_a_line_torn_by_a_kill_is_passed_over(write):
    path = write(row(1, a=1.0), '{"event": "row", "row": {"kind": "ep', row(2, a=2.0), "[1, 2]\n", '{"row": 3}\n')
    assert followed(from_file(path, "a"), 2) == [[1.0], [2.0]]


def test_bytes_that_are_no_text_are_passed_over(write):
    path = write(row(1, a=1.0))
    path.write_bytes(path.read_bytes() + b'{"event": "row", "row": {"\xff\xfe\n')
    assert followed(from_file(path, "a"), 1) == [[1.0]]


def test_a_path_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(StrategyError, match=r"^option 'trajectory': .*nowhere.jsonl cannot be read: No such file"):
        from_file(tmp_path / "nowhere.jsonl", "a")
    with pytest.raises(StrategyError, match=r"^option 'trajectory': .* cannot be read: Is a directory$"):
        from_file(tmp_path, "a")


def test_a_file_without_rows_of_epochs_is_refused(write):
    for path in (write(), write(row(3, "final", a=1.0))):
        with pytest.raises(StrategyError, match=r"trial.jsonl has no rows of epochs; name the rows of one trial$"):
            from_file(path, "a")


def test_an_unknown_task_is_refused_with_the_nearest(write):
    path = write(row(1, emotion=0.5, gender=0.5))
    with pytest.raises(
        StrategyError,
        match=r"trial.jsonl: unknown task 'emotions' \(known: emotion, gender\); did you mean 'emotion'\?$",
    ):
        from_file(path, "gender", "emotions")


def test_a_weight_in_a_file_is_checked_as_a_given_one(write):
    with pytest.raises(StrategyError, match=r"trial.jsonl has a weight that is negative or not finite$"):
        from_file(write(row(1, a=-0.5)), "a")
    with pytest.raises(StrategyError, match=r"trial.jsonl must be a list of epochs, each with 1 weights$"):
        from_file(write(row(1, a="high")), "a")


@pytest.mark.parametrize("missing", ["epoch", "raw_weight/a"])
def test_an_epoch_without_its_number_or_its_weight_is_refused(write, missing):
    second = {name: value for name, value in row(2, a=1.0).items() if name != missing}
    with pytest.raises(StrategyError, match=f"trial.jsonl has a row of an epoch without '{missing}'$"):
        from_file(write(row(1, a=1.0), second), "a")


# a real trial --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    wanted = networks.input_settings("chae", "small")
    settings = InputSettings(max_seconds=wanted.max_seconds, frame_size=wanted.frame_size)
    corpus = corpora.create("synthetic", num_speakers=6, utterances_per_speaker=8)
    return corpora.prepare(corpus, None, settings, tmp_path_factory.mktemp("cache"), workers=1)


def trained(store, name, **options):
    tasks = [
        {"name": task, "classes": list(store.classes[task]), "kind": "classification"} for task in ("emotion", "gender")
    ]
    specification = TrialSpecification(
        trial=name,
        arm=name,
        seed=0,
        store=str(store.path),
        split={"protocol": "speaker_disjoint", "options": {"ratios": [2, 2, 2], "seed": 0}},
        network={"name": "chae", "preset": "small", "modalities": ["audio"], "options": {}},
        strategy={"name": name, "options": options},
        tasks=tasks,
        training={"epochs": 4, "batch_size": 8, "learning_rate": 1e-3},
        reference_weights={"emotion": 0.5, "gender": 0.5},
    )
    return list(Session(specification, torch.device("cpu")).run())


def test_a_trial_whose_weights_change_between_epochs_only_is_replayed_bit_for_bit(store, write):
    original = trained(store, "dwa", temperature=0.05)
    assert len({reported["raw_weight/emotion"] for reported in original}) == 3  # the first two epochs are alike
    replayed = trained(store, "frozen", trajectory=str(write(*original)))
    for found, expected in zip(replayed, original, strict=True):
        names = [name for name in expected if not name.startswith(("time/", "memory/"))]
        assert {name: found[name] for name in names} == {name: expected[name] for name in names}


def test_options_are_plain_values(write):
    path = str(write(row(1, a=1.0)))
    options = FrozenWeighting(1, trajectory=path).describe_options()
    assert json.loads(json.dumps(options)) == {"trajectory": path, "replay": "epochs"}
