import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.corpora import make_split, split_for_tasks
from trainables.corpora.splits import PARTS, k_fold, speaker_disjoint
from trainables.errors import CorpusError
from trainables.tasks import Task

DEALT = ("speaker_disjoint", "k_fold")
"""Protocols that deal the speakers."""
EMOTIONS = ("neutral", "anger", "happiness", "sadness")


def table_of(women, men, utterances=4):
    people = [(f"f{n}", "female") for n in range(women)] + [(f"m{n}", "male") for n in range(men)]
    rows = [(name, gender, EMOTIONS[n % 4]) for name, gender in people for n in range(utterances)]
    return pd.DataFrame(rows, columns=["speaker", "gender", "emotion"])


def parts_of(split, table):
    return {part: table.iloc[getattr(split, part)] for part in PARTS}


def check(split, table):
    """What every split must keep: all rows once, no speaker twice, both genders and all emotions everywhere."""
    rows = np.concatenate([split.train, split.valid, split.test])
    assert sorted(rows) == list(range(len(table)))
    parts = parts_of(split, table)
    speakers = [set(part["speaker"]) for part in parts.values()]
    assert sum(map(len, speakers)) == len(set().union(*speakers))
    for part in parts.values():
        assert set(part["gender"]) == {"female", "male"}
        assert set(part["emotion"]) == set(table["emotion"])


@given(st.integers(3, 20), st.integers(3, 20), st.integers(0, 2**31))
def test_no_speaker_is_in_two_parts_and_every_part_has_both_genders_and_all_emotions(women, men, seed):
    table = table_of(women, men)
    check(speaker_disjoint(table, seed=seed, labels=["emotion"]), table)


@given(st.integers(3, 8), st.integers(0, 7), st.integers(0, 2**31), st.integers(0, 5))
def test_folds_keep_the_same_rules(num_folds, fold, seed, more):
    table = table_of(num_folds + more, num_folds)
    check(k_fold(table, num_folds=num_folds, fold=fold % num_folds, seed=seed, labels=["emotion"]), table)


@given(st.integers(3, 8), st.integers(0, 2**31))
def test_every_utterance_is_tested_in_exactly_one_fold(num_folds, seed):
    table = table_of(num_folds + 2, num_folds + 1)
    tested = [k_fold(table, num_folds=num_folds, fold=fold, seed=seed).test for fold in range(num_folds)]
    assert sorted(np.concatenate(tested)) == list(range(len(table)))


def test_a_fold_is_validated_on_the_next_one():
    table = table_of(5, 5)
    folds = [k_fold(table, num_folds=5, fold=fold) for fold in range(5)]
    for fold in range(5):
        assert np.array_equal(folds[fold].valid, folds[(fold + 1) % 5].test)


def test_fifteen_and_fifteen_speakers_are_divided_nine_three_three_of_each_gender():
    table = table_of(15, 15)
    parts = parts_of(speaker_disjoint(table), table)
    for gender in ("female", "male"):
        counts = [part.loc[part["gender"] == gender, "speaker"].nunique() for part in parts.values()]
        assert counts == [9, 3, 3]


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    table = table_of(10, 10)
    first, again, other = (speaker_disjoint(table, seed=seed).test for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_order_of_the_rows_does_not_decide_who_goes_where():
    table = table_of(6, 6)
    shuffled = table.sample(frac=1, random_state=0).reset_index(drop=True)
    for part in PARTS:
        one = set(table.iloc[getattr(speaker_disjoint(table), part)]["speaker"])
        assert one == set(shuffled.iloc[getattr(speaker_disjoint(shuffled), part)]["speaker"])


def test_where_gender_is_a_task_too_few_known_speakers_of_a_gender_are_refused_with_the_counts():
    tasks = [Task("emotion", EMOTIONS), Task("gender", ("female", "male"))]
    with pytest.raises(CorpusError, match=r"needs 3 speakers of each gender, but there are 8 female, 0 male \(leave"):
        split_for_tasks("speaker_disjoint", table_of(8, 0), tasks)
    with pytest.raises(
        CorpusError, match="in each of 5 parts needs 5 speakers of each gender, but there are 6 female, 4"
    ):
        split_for_tasks("k_fold", table_of(6, 4), tasks, {"num_folds": 5, "labels": []})


@given(st.integers(0, 2), st.integers(3, 12), st.integers(0, 2**31), st.sampled_from(DEALT))
def test_where_gender_is_no_task_a_corpus_without_known_genders_is_divided(women, unknown, seed, protocol):
    table = table_of(women + unknown, 0)
    table.loc[~table["speaker"].isin([f"f{number}" for number in range(women)]), "gender"] = None
    options = {"num_folds": 3} if protocol == "k_fold" else {}
    split = split_for_tasks(protocol, table, [Task("emotion", EMOTIONS)], {"seed": seed, **options})
    parts = parts_of(split, table).values()
    assert sorted(np.concatenate([split.train, split.valid, split.test])) == list(range(len(table)))
    assert sum(part["speaker"].nunique() for part in parts) == women + unknown
    assert all(set(part["emotion"]) == set(EMOTIONS) for part in parts)


def test_a_column_of_genders_that_holds_nothing_at_all_is_no_obstacle():
    table = table_of(5, 5).assign(gender=None)
    split = speaker_disjoint(table)
    assert [table["speaker"].iloc[part].nunique() for part in (split.train, split.valid, split.test)] == [6, 2, 2]


def test_two_speakers_are_too_few_for_three_parts():
    with pytest.raises(CorpusError, match="into 3 parts needs 3 speakers, but there are 2"):
        make_split("speaker_disjoint", table_of(2, 0))


def test_both_genders_are_everywhere_also_when_gender_is_no_task_and_most_are_unknown():
    table = table_of(9, 3)
    table.loc[table["speaker"].isin([f"f{number}" for number in range(3, 9)]), "gender"] = None
    for part in parts_of(speaker_disjoint(table), table).values():
        known = part.drop_duplicates("speaker")["gender"].value_counts()
        assert (known["female"], known["male"]) == (1, 1)
        assert part["gender"].isna().any()


@pytest.mark.parametrize("protocol", DEALT)
def test_a_class_that_two_speakers_alone_have_is_named(protocol):
    table = table_of(5, 5)
    table["emotion"] = np.where(table["speaker"].isin(["f0", "m0"]), table["emotion"], "neutral")
    with pytest.raises(
        CorpusError, match=r"^emotion 'anger' is spoken by 2 of the speakers: .* [35] parts .* needs [35]$"
    ):
        make_split(protocol, table, labels=["emotion"])
    check_rows = make_split(protocol, table)  # nobody asked for all emotions
    assert len(check_rows.train) + len(check_rows.valid) + len(check_rows.test) == len(table)


def test_classes_that_no_pairing_of_speakers_brings_together_are_named():
    table = table_of(3, 3, utterances=3)
    spoken = {"f0": ["anger", "sadness"], "f1": ["anger", "sadness"], "m0": ["anger"], "m1": ["sadness"]}
    table["emotion"] = [
        dict(enumerate(spoken.get(name, []))).get(number % 3, "neutral") for number, name in enumerate(table["speaker"])
    ]  # f2 would have to be with m0 and with m1
    message = r"no speaker-disjoint split has every class in every part: \w+ has no emotion .* \(tried 1000\)"
    with pytest.raises(CorpusError, match=message):
        make_split("speaker_disjoint", table, labels=["emotion"])


@given(st.integers(0, 2**31), st.sampled_from(DEALT))
def test_speakers_are_dealt_again_until_a_rare_class_is_everywhere(seed, protocol):
    table = table_of(9, 9)
    rare = [f"f{number}" for number in range(6)]
    table["emotion"] = np.where(table["speaker"].isin(rare), table["emotion"], "neutral")
    options = {"num_folds": 3} if protocol == "k_fold" else {}
    check(make_split(protocol, table, seed=seed, labels=["emotion"], **options), table)


@given(st.integers(1, 8), st.integers(0, 2**31), st.sampled_from(DEALT))
def test_speakers_of_unknown_gender_are_not_lost(unknown, seed, protocol):
    table = table_of(5 + unknown, 5)
    table.loc[table["speaker"].isin([f"f{number}" for number in range(unknown)]), "gender"] = None
    split = make_split(protocol, table, seed=seed)
    assert sorted(np.concatenate([split.train, split.valid, split.test])) == list(range(len(table)))


def test_numbers_serve_as_names_of_speakers():
    table = table_of(4, 4)
    table["speaker"] = table.groupby("speaker").ngroup()
    check(speaker_disjoint(table, labels=["emotion"]), table)


def test_tasks_ask_for_their_classes_unless_the_options_name_others():
    table = table_of(5, 5)
    table["emotion"] = np.where(table["speaker"] == "f0", table["emotion"], "neutral")
    table["valence"] = 1.0
    tasks = [Task("emotion", EMOTIONS), Task("gender", ("female", "male")), Task("valence", kind="regression")]
    with pytest.raises(CorpusError, match="emotion 'anger' is spoken by 1 of the speakers"):
        split_for_tasks("speaker_disjoint", table, tasks)
    with pytest.raises(CorpusError, match="emotion 'anger' is spoken by 1 of the speakers"):
        split_for_tasks("speaker_disjoint", table, tasks[1:], {"labels": "emotion"})
    chosen = split_for_tasks("speaker_disjoint", table, tasks, {"labels": [], "seed": 4})
    assert np.array_equal(chosen.test, speaker_disjoint(table, seed=4).test)


def test_a_part_without_numbers_for_a_task_of_regression_is_refused():
    table = table_of(5, 5).assign(valence=np.nan)
    with pytest.raises(CorpusError, match="train has 0 utterances with a number for valence: its concordance needs"):
        split_for_tasks("speaker_disjoint", table, [Task("valence", kind="regression")])
    with pytest.raises(CorpusError, match=r"unknown label of the split 'valance' .*did you mean 'valence'"):
        split_for_tasks("speaker_disjoint", table, [Task("valance", kind="regression")])


def test_a_gender_of_another_name_is_refused():
    with pytest.raises(CorpusError, match=r"^gender 'f' is none of female, male$"):
        make_split("speaker_disjoint", table_of(4, 4).replace("female", "f"))


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("speaker_disjoint", {"ratios": 6}),
        ("speaker_disjoint", {"ratios": [6, 2, "2"]}),
        ("speaker_disjoint", {"ratios": [6, 2, float("inf")]}),
        ("speaker_disjoint", {"seed": -1}),
        ("k_fold", {"num_folds": "five"}),
        ("k_fold", {"seed": "one"}),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_in_one_line(protocol, options):
    (name,) = options
    with pytest.raises(CorpusError, match=rf"^split protocol '{protocol}' cannot be used with {name}=.*: [^\n]+$"):
        make_split(protocol, table_of(6, 6), **options)


def test_a_speaker_with_two_genders_is_named():
    table = table_of(4, 4)
    table.loc[0, "gender"] = "male"
    with pytest.raises(CorpusError, match="speaker f0 has utterances of both genders"):
        make_split("speaker_disjoint", table)


@pytest.mark.parametrize("ratios", [[6, 2], [6, 2, 0], [6, 2, -1]])
def test_ratios_are_three_positive_numbers(ratios):
    with pytest.raises(CorpusError, match=r"ratios are \[.*\]: expected three positive numbers"):
        make_split("speaker_disjoint", table_of(4, 4), ratios=ratios)


@pytest.mark.parametrize(("num_folds", "fold"), [(2, 0), (5, 5), (5, -1)])
def test_a_fold_that_does_not_exist_is_refused(num_folds, fold):
    with pytest.raises(CorpusError, match=f"fold {fold} of {num_folds}: expected at least 3 folds"):
        make_split("k_fold", table_of(9, 9), num_folds=num_folds, fold=fold)


def test_an_unknown_protocol_option_or_label_names_the_nearest():
    with pytest.raises(CorpusError, match=r"unknown split protocol 'kfold' .*did you mean 'k_fold'"):
        make_split("kfold", table_of(4, 4))
    with pytest.raises(CorpusError, match=r"unknown option of split protocol 'k_fold' 'folds' .*did you mean 'fold'"):
        make_split("k_fold", table_of(4, 4), folds=3)
    with pytest.raises(CorpusError, match=r"unknown label of the split 'emotions' .*did you mean 'emotion'"):
        make_split("speaker_disjoint", table_of(4, 4), labels=["emotions"])


@pytest.mark.parametrize("protocol", DEALT)
def test_every_protocol_divides_the_built_in_corpus(protocol):
    from trainables import corpora

    table = corpora.create("synthetic").read(None)
    check(make_split(protocol, table, labels=["emotion"]), table)


@pytest.mark.parametrize("protocol", DEALT)
def test_every_protocol_divides_real_speech(protocol, ravdess):
    from trainables import corpora

    table = corpora.create("ravdess").read(ravdess)
    check(make_split(protocol, table, labels=["emotion"]), table)
