from decimal import Decimal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from study import definition
from study.definition import Definition, load, validate
from study.errors import DefinitionError
from study.overriding import overridden

MINIMAL = {"name": "mine", "arms": [{"strategy": "equal"}]}


def test_every_shipped_definition_loads_and_survives_a_round_trip_through_yaml():
    for name in definition.shipped():
        loaded = load(name)
        again = validate(yaml.safe_load(loaded.as_yaml()), "the frozen file")
        assert again.identity == loaded.identity
        assert again.as_yaml() == loaded.as_yaml()


def test_weighting_compares_eleven_static_points_and_three_methods_over_five_seeds():
    loaded = load("weighting")
    assert loaded.seeds == (0, 1, 2, 3, 4)
    assert [getattr(arm, "strategy", "grid") for arm in loaded.arms] == ["grid", "softmax", "uncertainty", "gradnorm"]
    assert loaded.arms[0].grid.step == Decimal("0.1")


def test_a_number_of_seeds_means_the_first_so_many_and_a_list_means_itself():
    assert load("weighting", ["seeds=3"]).seeds == (0, 1, 2)
    assert load("weighting", ["seeds=[7, 9]"]).seeds == (7, 9)


def test_overrides_are_yaml_and_reach_into_parts_without_losing_their_neighbours():
    before, after = load("weighting"), load("weighting", ["training.epochs=3", "corpus.options={seed: 4}"])
    assert after.training.epochs == 3
    assert after.training.batch_size == before.training.batch_size
    assert after.corpus.options == {"seed": 4}


def test_settings_for_a_corpus_apply_to_it_alone_and_lose_against_overrides():
    content = MINIMAL | {"per_corpus": {"ravdess": {"training": {"epochs": 33}}}}
    text = yaml.safe_dump(content)

    def of(*overrides):
        return overridden(yaml.safe_load(text), overrides, "synthetic", "speaker_disjoint")

    assert "training" not in of()
    assert of("corpus.name=ravdess")["training"] == {"epochs": 33}
    assert of("training.epochs=2", "corpus.name=ravdess")["training"] == {"epochs": 2}


def test_a_protocol_is_settings_that_hold_together_and_lose_against_overrides():
    content = MINIMAL | {
        "per_corpus": {"ravdess": {"training": {"epochs": 33}}},
        "protocols": {
            "leaky": {
                "split": {"protocol": "replication_random"},
                "per_corpus": {"ravdess": {"training": {"epochs": 7}}},
            }
        },
    }

    def of(*overrides):
        return overridden(yaml.safe_load(yaml.safe_dump(content)), overrides, "synthetic", "speaker_disjoint")

    assert "split" not in of()
    assert of("protocol=leaky")["split"] == {"protocol": "replication_random"}
    assert "training" not in of("protocol=leaky")
    assert of("protocol=leaky", "corpus.name=ravdess")["training"] == {"epochs": 7}
    assert of("training.epochs=2", "protocol=leaky", "corpus.name=ravdess")["training"] == {"epochs": 2}


@pytest.mark.parametrize(
    ("name", "explicit"),
    [
        (
            "chae2018",
            [
                "split.protocol=replication_chae2018",
                "corpus.options.faces=published",
                "corpus.options.ties=published",
                "network.options.audio_norm=variance",
            ],
        ),
        ("mesm2021", ["split.protocol=replication_random", "split.options={ratios: [7, 1, 2]}"]),
    ],
)
def test_the_published_protocol_is_one_word_for_what_can_be_said_one_by_one(name, explicit):
    assert load(name, ["protocol=replication"]).identity == load(name, explicit).identity != load(name).identity
    again = yaml.safe_load(load(name, ["protocol=replication"]).as_yaml())
    assert definition.validate(again, "saved").identity == load(name, explicit).identity


@pytest.mark.parametrize(
    ("name", "protocol", "message"),
    [
        ("chae2018", "replicaton", "unknown protocol 'replicaton' (known: replication); did you mean 'replication'?"),
        ("weighting", "replication", "this definition has no protocols; how it splits is split.protocol"),
    ],
)
def test_a_protocol_that_is_not_there_is_refused(name, protocol, message):
    with pytest.raises(DefinitionError) as refusal:
        load(name, [f"protocol={protocol}"])
    assert message in str(refusal.value)


def test_identity_depends_on_what_changes_numbers_and_on_nothing_else():
    base = load("weighting").identity
    same = ["title=Other", "resources.cpus=2", "seeds=9", "corpus.root=elsewhere", "training.diagnose_every=5"]
    different = [
        "training.learning_rate=0.01",
        "corpus.options={seed: 1}",
        "arms=[strategy: equal]",
        "network.preset=paper",
    ]
    assert {load("weighting", [change]).identity for change in same} == {base}
    assert len({base, *(load("weighting", [change]).identity for change in different)}) == 1 + len(different)


def test_settings_that_are_newer_than_studies_leave_their_names_as_they_were():
    assert load("weighting").study == "weighting-b8082d2c"
    assert load("weighting", ["training.clip_strategy=true"]).study != "weighting-b8082d2c"
    own = "arms=[{strategy: equal, network: {modalities: [audio]}}]"
    assert load("weighting", [own]).identity != load("weighting", ["arms=[{strategy: equal}]"]).identity


def test_reference_weights_are_uniform_unless_given_and_sum_to_one():
    assert load("weighting").reference == {"emotion": 0.5, "gender": 0.5}
    assert load("weighting", ["reference_weights={emotion: 3, gender: 1}"]).reference == {
        "emotion": 0.75,
        "gender": 0.25,
    }


def test_a_definition_cannot_be_changed_after_loading():
    with pytest.raises(ValueError, match="frozen"):
        load("weighting").training.epochs = 1


MISTAKES = {
    "arms=[{strategy: equal, network: {modality: [audio]}}]": (
        r"unknown key 'modality' in arms.0.network \(known: name, preset, .*\); did you mean 'modalities'\?"
    ),
    "trainig.epochs=3": r"unknown key 'trainig' \(known: name, .*\); did you mean 'training'\?",
    "training.epoch=3": r"unknown key 'epoch' in training \(known: epochs, .*\); did you mean 'epochs'\?",
    "arms=[{strategy: equal, option: {}}]": r"unknown key 'option' in arms\.0 .*did you mean 'options'\?",
    "arms=[{strtegy: equal}]": "arms.0.strategy is missing",
    "training.epochs=0": "training.epochs is 0: input should be greater than or equal to 1",
    "training.diagnose_every=-1": "training.diagnose_every is -1: input should be greater than or equal to 0",
    "training.learning_rate=-1": r"training.learning_rate is -1: input should be greater than 0",
    "training.learning_rate=.nan": "training.learning_rate is nan: input should be a finite number",
    "training.optimizer=adan": "training.optimizer is 'adan': input should be 'adam', 'adamw' or 'sgd'",
    "arms=[grid: {step: 2}]": "step is 2: input should be less than or equal to 1",
    "arms=[]": "arms is .*at least 1 item",
    "seeds=0": "seeds is 0: a number of seeds lies between 1 and 10000",
    "seeds=1000000000000": "seeds is 1000000000000: a number of seeds lies between 1 and 10000",
    "seeds=[]": "seeds is .*at least 1 item",
    "seeds=[1, 1]": "seeds repeats 1: each may be named once",
    "seeds=[-1]": r"seeds.0 is -1: input should be greater than or equal to 0",
    "name=../escape": r"name is '../escape': string should match pattern",
    "reference_weights={emotoin: 1}": r"unknown task of reference_weights 'emotoin' \(known: emotion, gender\)",
    "reference_weights={emotion: -1}": "reference_weights.emotion is -1, but weights are not negative",
    "reference_weights={emotion: 0}": "reference_weights are all 0",
    "tasks=[]": "tasks is .*at least 1 item",
    "seeds": "--set seeds: expected KEY=VALUE",
    "seeds=[1": "--set seeds=.*the value is not YAML",
}


@pytest.mark.parametrize(("override", "message"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_line_that_says_where_and_what_is_allowed(override, message):
    with pytest.raises(DefinitionError, match=message) as told:
        load("weighting", [override])
    assert "\n" not in str(told.value)


def test_an_unknown_definition_names_those_that_exist():
    with pytest.raises(
        DefinitionError, match=r"unknown definition 'wieghting' \(known: .*weighting\); did you mean 'weighting'"
    ):
        load("wieghting")


def test_a_missing_file_and_a_file_that_is_no_definition_are_told_apart(tmp_path):
    with pytest.raises(DefinitionError, match=r"nowhere.yaml cannot be read"):
        load(str(tmp_path / "nowhere.yaml"))
    for text, message in {"- a list": "is not a definition", "a: [": "is not YAML", "": "is not a definition"}.items():
        path = tmp_path / "broken.yaml"
        path.write_text(text)
        with pytest.raises(DefinitionError, match=message):
            load(str(path))


def test_a_part_that_is_a_bare_word_is_one_line_in_a_file_as_well_as_in_an_override(tmp_path):
    path = tmp_path / "mine.yaml"
    for part in ("corpus: ravdess", "per_corpus: 3", "per_corpus: {synthetic: 3}", "corpus: {name: [1]}"):
        path.write_text(f"name: mine\narms: [{{strategy: equal}}]\n{part}\n")
        with pytest.raises(DefinitionError, match=part.partition(":")[0]) as told:
            load(str(path))
        assert "\n" not in str(told.value)
    with pytest.raises(DefinitionError, match="corpus is 'ravdess': input should be"):
        load("weighting", ["corpus=ravdess"])


def test_yaml_cannot_run_code(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\narms: [{strategy: equal}]\n")
    with pytest.raises(DefinitionError, match="is not YAML"):
        load(str(path))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
)
def test_no_content_whatever_gives_anything_but_a_definition_or_one_clear_line(value):
    for key in Definition.model_fields:
        assert "\n" not in complaint(MINIMAL | {key: value})


def complaint(content):
    try:
        validate(content, "file")
    except DefinitionError as told:
        return str(told)
    return ""


def test_folds_are_all_or_numbers_whose_order_does_not_matter():
    def folds(value):
        return load("weighting", ["split.protocol=k_fold", f"split.folds={value}"])

    assert folds("all").split.folds == "all"
    assert folds("[3, 1]").split.folds == (1, 3)
    assert folds("[3, 1]").study == folds("[1, 3]").study != folds("all").study
    assert folds("null").study == load("weighting", ["split.protocol=k_fold"]).study
    assert validate(yaml.safe_load(folds("[3, 1]").as_yaml()), "round trip").study == folds("[1, 3]").study


def test_studies_from_before_there_were_folds_keep_their_names():
    assert load("weighting").study == "weighting-b8082d2c"
    assert load("strategies").study == "strategies-39aa7817"


@pytest.mark.parametrize("value", ["3", "[]", "[-1]", "[a]", "some", "true", "[true]"])
def test_anything_else_is_no_choice_of_folds(value):
    with pytest.raises(DefinitionError, match=r"split\.folds is .*: expected all, or a list of the numbers of folds"):
        load("weighting", ["split.protocol=k_fold", f"split.folds={value}"])
