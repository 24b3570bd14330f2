import pytest

from strategies.errors import UserError
from study.definition import GRID_FAMILY, load
from study.errors import DefinitionError
from study.plan import make_plan
from study.plan_text import describe
from trainables import corpora


def plan_of(*overrides):
    definition = load("weighting", list(overrides))
    return make_plan(definition, corpora.create(definition.corpus.name, **definition.corpus.options))


def test_the_grid_has_exact_decimals_everywhere():
    arms = [arm for arm in plan_of().arms if arm.strategy == "static"]
    assert [arm.arm for arm in arms][3] == "static-0.3-0.7"
    assert arms[3].label == "static 0.3/0.7"
    assert arms[3].options == {"weights": ["0.3", "0.7"]}
    assert arms[3].static_weights == (0.3, 0.7)
    assert len(arms) == 11


def test_the_whole_grid_is_one_method_and_a_static_arm_written_by_hand_joins_it():
    plan = plan_of(
        "arms=[{grid: {}}, {strategy: softmax}, {strategy: static, name: mine, options: {weights: [0.25, 0.75]}}]"
    )
    families = [arm.family for arm in plan.arms]
    assert families == [GRID_FAMILY] * 11 + ["softmax", GRID_FAMILY]
    assert plan.arms[-1].static_weights == (0.25, 0.75)


def test_the_control_equal_is_found_in_the_grid_or_by_name():
    assert plan_of().control == "static-0.5-0.5"
    assert plan_of("arms=[{strategy: equal}, {strategy: softmax}]").control == "equal"
    assert plan_of("control=softmax").control == "softmax"


def test_equal_weights_join_as_the_control_where_no_arm_has_them():
    plan = plan_of("arms=[{grid: {step: 0.2}}, {strategy: softmax}]")
    assert (plan.control, plan.arms[-1].static_weights) == ("equal", (0.5, 0.5))
    assert [arm.arm for arm in plan_of().arms if arm.arm == "equal"] == []


def test_an_arm_carries_what_its_strategy_says_of_itself():
    told = {arm.arm: arm.may_be_clock for arm in plan_of().arms}
    assert [arm for arm, clock in told.items() if clock] == ["softmax"]


def test_all_arms_share_seeds_and_everything_but_their_strategy():
    trials = plan_of("seeds=2").trials("store", "checkpoints")
    assert len(trials) == 28
    assert len({trial.trial for trial in trials}) == 28
    assert [trial.seed for trial in trials] == [0] * 14 + [1] * 14
    shared = {
        repr((trial.split, trial.network, trial.tasks, trial.training, trial.reference_weights, trial.store))
        for trial in trials
    }
    assert len(shared) == 1
    assert trials[0].folder == f"checkpoints/{trials[0].trial}"


def test_modalities_are_what_network_and_corpus_share_unless_named():
    assert plan_of().modalities == ("audio", "video")
    assert plan_of("corpus.name=ravdess").modalities == ("audio",)
    assert plan_of("network.modalities=[video]").modalities == ("video",)


def test_one_strategy_may_be_several_arms_under_names_of_their_own():
    plan = plan_of(
        "arms=[{strategy: equal}, {strategy: softmax}, {strategy: softmax, name: fast, options: {learning_rate: 0.1}}]"
    )
    assert [arm.arm for arm in plan.arms] == ["equal", "softmax", "fast"]
    with pytest.raises(DefinitionError, match="'softmax' is there twice"):
        plan_of("arms=[{strategy: equal}, {strategy: softmax}, {strategy: softmax}]")


def test_what_ravdess_needs_comes_from_the_definition_itself():
    assert plan_of("corpus.name=ravdess").definition.training.epochs != plan_of().definition.training.epochs


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "split.protocol=leave_one_speakr_out",
            "unknown split protocol 'leave_one_speakr_out' .*'leave_one_speaker_out'",
        ),
        ("split.options.fold=1", "unknown option of split protocol 'speaker_disjoint' 'fold' .*ratios"),
    ],
)
def test_a_protocol_is_checked_before_a_corpus_is_read(override, message):
    with pytest.raises(UserError, match=message):
        plan_of(override)


FOLDED = ("split.protocol=k_fold", "split.folds=[1, 3]", "seeds=2", "arms=[{strategy: equal}, {strategy: softmax}]")


def test_a_study_over_folds_has_a_trial_for_every_arm_seed_and_fold():
    plan = plan_of(*FOLDED)
    trials = plan.trials("store", "checkpoints")
    assert [trial.trial for trial in trials[:4]] == [
        "equal-seed0-fold1",
        "softmax-seed0-fold1",
        "equal-seed0-fold3",
        "softmax-seed0-fold3",
    ]
    assert plan.num_trials == len(trials) == 8
    assert [trial.fold for trial in trials] == [1, 1, 3, 3] * 2
    assert trials[2].split == {"protocol": "k_fold", "options": {"fold": 3}, "pooled": True}
    assert trials[2].folder == "checkpoints/equal-seed0-fold3"
    more = plan.with_seeds([5])
    assert more.num_trials == 12
    assert {trial.fold for trial in more.trials()} == {1, 3}


def test_a_trial_of_a_study_without_folds_says_nothing_of_them():
    trial = plan_of("split.protocol=k_fold", "split.options.fold=2", "seeds=1").trials()[0]
    assert trial.split == {"protocol": "k_fold", "options": {"fold": 2}}
    assert trial.fold is None


def test_the_plan_says_how_many_folds_there_are_or_that_the_corpus_decides():
    told = describe(plan_of("split.protocol=k_fold", "split.folds=all", "seeds=2"))
    assert (told["folds"], told["trials"]) == ("5: all; tested as one pool", "140")
    plan = plan_of("split.protocol=leave_one_speaker_out", "split.folds=all", "seeds=2")
    told = describe(plan)
    assert told["folds"] == "all: how many depends on the corpus; tested as one pool"
    assert (told["trials"], told["epochs"]) == ("28 for each fold", "10 a trial, 280 for each fold")
    with pytest.raises(DefinitionError, match=r"how many folds there are depends on the corpus"):
        plan.trials()
    told = describe(plan.with_table(corpora.create("synthetic", num_speakers=4).read()))
    assert (told["folds"], told["trials"]) == ("4: all; tested as one pool", "112")
    assert "folds" not in describe(plan_of())


def test_folds_that_the_protocol_or_the_corpus_has_not_are_refused():
    with pytest.raises(UserError, match=r"split protocol 'speaker_disjoint' has no folds"):
        plan_of("split.folds=all")
    with pytest.raises(UserError, match=r"there is no fold 5: expected numbers from 0 to 4"):
        plan_of("split.protocol=k_fold", "split.folds=[1, 5]")
    plan = plan_of("split.protocol=leave_one_speaker_out", "split.folds=[0, 40]")
    with pytest.raises(UserError, match=r"there is no fold 40: expected numbers from 0 to 39"):
        plan.with_table(corpora.create("synthetic").read())


def own(*networks):
    arms = [f"{{strategy: softmax, name: arm{index}, network: {network}}}" for index, network in enumerate(networks)]
    return f"arms=[{{strategy: equal}}, {', '.join(arms)}]"


def test_an_arm_may_have_a_network_of_its_own_and_takes_the_rest_from_the_study():
    plan = plan_of("network.options={readout: mean, dropout: 0.2}", own("{modalities: [audio], options: {dropout: 0}}"))
    trials = {trial.arm: trial.network for trial in plan.trials() if trial.seed == 0}
    assert trials["equal"] == plan.network() == plan_of("network.options={readout: mean, dropout: 0.2}").network()
    assert trials["arm0"] == trials["equal"] | {"modalities": ["audio"], "options": {"readout": "mean", "dropout": 0}}
    assert describe(plan)["network"] == "chae, preset small, audio + video; arm0 on audio, dropout 0"


def test_a_static_arm_with_a_network_of_its_own_is_no_point_of_the_grid():
    plan = plan_of("arms=[{grid: {}}, {strategy: equal, name: sound, network: {modalities: [audio]}}]")
    assert [arm.family for arm in plan.arms] == [GRID_FAMILY] * 11 + ["sound"]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("{modalities: [vidio]}", r"arms: arm0: network.modalities: .*'vidio'.*did you mean 'video'\?"),
        ("{modalities: [audio], options: {lstm: pep}}", r"lstm is 'pep', but it must be one of torch, peephole"),
        ("{options: {max_seconds: 1.0}}", r"arms: arm0: network wants its input as .*max_seconds=1.0.* must agree"),
        ("{name: chaos}", r"unknown network 'chaos'"),
    ],
)
def test_a_network_of_an_arm_that_does_not_fit_is_refused_before_anything_runs(network, message):
    with pytest.raises(UserError, match=message):
        plan_of(own(network))


def test_chae2018_has_the_four_rows_of_table_1():
    definition = load("chae2018", ["corpus.name=synthetic"])
    plan = make_plan(definition, corpora.create("synthetic"))
    found = {trial.arm: (trial.strategy["name"], trial.network["modalities"]) for trial in plan.trials()}
    assert found == {
        "um-dynamic-a": ("softmax", ["audio"]),
        "um-dynamic-v": ("softmax", ["video"]),
        "mm-static": ("equal", ["audio", "video"]),
        "mm-dynamic": ("softmax", ["audio", "video"]),
    }
    assert plan.control == "mm-static"


def test_chae2018_keeps_the_sessions_of_iemocap_apart_unless_the_published_split_is_asked_for():
    proper, leaky = load("chae2018"), load("chae2018", ["split.protocol=replication_chae2018"])
    assert (proper.split.protocol, leaky.split.protocol) == ("leave_one_session_out", "replication_chae2018")
    assert proper.corpus.options == {"emotions": "four_strict", "domain": "improvised"}
    assert (proper.network.preset, proper.training.batch_size, proper.training.learning_rate) == ("paper", 1, 1e-4)
    assert make_plan(leaky, corpora.create("iemocap", **leaky.corpus.options)).num_trials == 20
