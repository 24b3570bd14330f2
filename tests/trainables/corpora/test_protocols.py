"""Named protocols: who is where, what is refused, and that nothing leaks without saying so."""

import random
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainables.corpora import PROTOCOLS, is_replication, make_split, split_for_tasks
from trainables.corpora.splits import PARTS
from trainables.errors import CorpusError
from trainables.tasks import Task

EMOTION, GENDER = Task("emotion", ("neutral", "anger")), Task("gender", ("female", "male"))
PUBLISHED = ("train", "dev", "test")
FIXED = ("leave_one_session_out", "leave_one_speaker_out", "published")


def dyads(sessions=5, utterances=4):
    """Sessions of a woman and a man each, as in IEMOCAP; the first is published as train, the second as dev."""
    rows = [
        (f"Ses{number}", f"Ses{number}{letter}", gender, PUBLISHED[min(number - 1, 2)], emotion)
        for number in range(1, sessions + 1)
        for letter, gender in (("F", "female"), ("M", "male"))
        for emotion in ("neutral", "anger") * (utterances // 2)
    ]
    return pd.DataFrame(rows, columns=["session", "speaker", "gender", "domain", "emotion"])


def who(table, split):
    return [sorted(set(table["speaker"].iloc[getattr(split, part)])) for part in PARTS]


def parts_of(split):
    return [set(getattr(split, part).tolist()) for part in PARTS]


@st.composite
def tables(draw):
    """Any table: speakers of known and unknown gender, who turn up in several sessions and parts, or in one each."""
    speakers = draw(st.integers(1, 10))
    genders = draw(st.lists(st.sampled_from(["female", "male", None]), min_size=speakers, max_size=speakers))
    homes = draw(st.lists(st.integers(0, 3), min_size=speakers, max_size=speakers))
    wanders = draw(st.lists(st.booleans(), min_size=1, max_size=40)) if draw(st.booleans()) else [False]
    rows = []
    for number in range(draw(st.integers(6, 40))):
        speaker = number % speakers
        place = homes[speaker] + (number if wanders[number % len(wanders)] else 0)
        emotion = ("neutral", "anger")[(number // speakers) % 2]
        rows.append((f"s{speaker}", genders[speaker], f"session {place % 4}", PUBLISHED[place % 3], emotion))
    table = pd.DataFrame(rows, columns=["speaker", "gender", "session", "domain", "emotion"])
    return table if draw(st.booleans()) else table.assign(session=None)


OPTIONS = st.fixed_dictionaries(
    {"fold": st.integers(0, 4), "num_folds": st.integers(3, 5)},
    optional={
        "seed": st.integers(0, 2**31),
        "ratios": st.lists(st.floats(0.1, 9), min_size=3, max_size=3),
        "labels": st.sampled_from([[], ["emotion"], ["gender"], "emotion"]),
        "session": st.sampled_from(["session 1", "session 2"]),
    },
)


def attempt(protocol, table, options):
    """The split, or None where the protocol refuses."""
    known = PROTOCOLS[protocol].__kwdefaults__
    try:
        return make_split(protocol, table, **{name: value for name, value in options.items() if name in known})
    except CorpusError:
        return None


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=60)
@given(table=tables(), options=OPTIONS)
@example(table=dyads(), options={})
def test_no_speaker_is_in_two_parts_unless_the_protocol_is_a_replication_and_says_so(protocol, table, options):
    split = attempt(protocol, table, options)
    if split is None:
        return
    speakers = [set(names) for names in who(table, split)]
    assert all(speakers)
    leaks = sum(map(len, speakers)) > len(set().union(*speakers))
    if not is_replication(protocol):
        assert not leaks
    assert leaks == bool(split.warning)
    assert not leaks or f"Protocol {protocol} leaks speakers" in split.warning
    if protocol != "replication_chae2018":
        assert sorted(row for part in parts_of(split) for row in part) == list(range(len(table)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_but_the_leaky_ones_divides_a_corpus_of_dyads_without_a_warning(protocol):
    options = {"num_folds": 5, "seed": 0} if protocol == "k_fold" else {}
    split = make_split(protocol, dyads(), **options)
    assert bool(split.warning) == (protocol in ("replication_random", "replication_chae2018"))


def test_the_protocols_that_may_leak_are_those_that_are_called_replications():
    assert [name for name in PROTOCOLS if is_replication(name)] == [
        "replication_published",
        "replication_random",
        "replication_chae2018",
    ]


# leave one out ------------------------------------------------------------------------------------------------------


def test_leaving_a_session_out_tests_on_it_and_validates_on_the_next():
    table = dyads()
    assert who(table, make_split("leave_one_session_out", table, fold=0, labels=["gender", "emotion"])) == [
        ["Ses3F", "Ses3M", "Ses4F", "Ses4M", "Ses5F", "Ses5M"],
        ["Ses2F", "Ses2M"],
        ["Ses1F", "Ses1M"],
    ]
    _, valid, test = who(table, make_split("leave_one_session_out", table, session="Ses5"))
    assert (valid, test) == (["Ses1F", "Ses1M"], ["Ses5F", "Ses5M"])
    numbered = table.assign(session=table["session"].str[-1].astype(int))
    assert who(numbered, make_split("leave_one_session_out", numbered, session=5))[2] == ["Ses5F", "Ses5M"]


def test_ten_folds_of_one_speaker_each_come_in_the_published_order():
    table = dyads()
    folds = [who(table, make_split("leave_one_speaker_out", table, fold=fold)) for fold in range(10)]
    for session in range(1, 6):  # counted from 1, folds 2k-1 and 2k leave out session k
        both = {f"Ses{session}F", f"Ses{session}M"}
        first, second = folds[2 * session - 2], folds[2 * session - 1]
        assert (first[1], first[2]) == ([f"Ses{session}F"], [f"Ses{session}M"])
        assert (second[1], second[2]) == (first[2], first[1])
        assert set(first[0]) == set(second[0]) == set(table["speaker"]) - both
    assert sorted(fold[2][0] for fold in folds) == sorted(table["speaker"].unique())


def test_without_sessions_every_speaker_tests_once_and_the_next_one_validates():
    table = dyads().assign(session=None)
    folds = [who(table, make_split("leave_one_speaker_out", table, fold=fold)) for fold in range(10)]
    assert [fold[2] for fold in folds] == [[name] for name in sorted(table["speaker"].unique())]
    assert [fold[1] for fold in folds] == [*(fold[2] for fold in folds[1:]), folds[0][2]]


def test_a_fold_of_one_gender_refuses_gender_as_a_task_whatever_labels_are_asked_for():
    remedy = "test has no gender|valid has no gender"
    for options in ({}, {"labels": []}, {"labels": ["emotion"]}):
        with pytest.raises(CorpusError, match=remedy) as refusal:
            split_for_tasks("leave_one_speaker_out", dyads(), [EMOTION, GENDER], options)
        assert "use a protocol whose parts have both, such as leave_one_session_out" in str(refusal.value)
        assert str(refusal.value).endswith("or leave gender out of the tasks")
    assert split_for_tasks("leave_one_speaker_out", dyads(), [EMOTION]).warning == ""
    assert split_for_tasks("leave_one_session_out", dyads(), [EMOTION, GENDER]).warning == ""


def test_a_published_test_part_of_one_gender_refuses_gender_as_a_task():
    table = dyads()
    table = table[(table["domain"] != "test") | (table["gender"] == "male")].reset_index(drop=True)
    with pytest.raises(CorpusError, match=r"^test has no gender female: a recall over one gender means nothing"):
        split_for_tasks("published", table, [EMOTION, GENDER])


def test_a_session_without_a_class_is_named_with_what_to_do():
    table = dyads()
    table.loc[table["session"] == "Ses1", "emotion"] = "neutral"
    with pytest.raises(
        CorpusError, match=r"^test has no emotion anger: set the split's option labels to a list without"
    ):
        split_for_tasks("leave_one_session_out", table, [EMOTION])
    assert len(split_for_tasks("leave_one_session_out", table, [EMOTION], {"labels": []}).test) == 8


@pytest.mark.parametrize(
    ("protocol", "change", "options", "message"),
    [
        ("leave_one_session_out", {"session": None}, {}, "there are utterances without a session: 40 of 40"),
        ("leave_one_session_out", {"session": "Ses1"}, {}, "needs at least 3 sessions, but there are 1"),
        ("leave_one_session_out", {}, {"fold": 5}, "fold 5 of 5: expected a fold from 0 to 4"),
        ("leave_one_session_out", {}, {"session": "Ses6"}, "unknown session 'Ses6' .*did you mean 'Ses"),
        ("leave_one_session_out", {}, {"fold": "one"}, "cannot be used with fold='one'"),
        ("leave_one_speaker_out", {}, {"fold": -1}, "fold -1 of 10: expected a fold from 0 to 9"),
        ("leave_one_speaker_out", {"session": "Ses1"}, {}, "two speakers in every session, .* session Ses1 has 10"),
        ("leave_one_speaker_out", {"speaker": "a", "session": None}, {}, "at least 3 speakers, but there are 1"),
        ("published", {}, {"column": "domian"}, "unknown column of the published split 'domian' .*mean 'domain'"),
        ("published", {"domain": "improvised"}, {}, "no published split in column 'domain': it holds 'improvised'"),
        ("published", {"domain": None}, {}, "no published split in column 'domain'"),
        ("published", {"domain": "train"}, {}, "leaves the part valid empty: the corpus is too small"),
        ("replication_random", {}, {"ratios": [1, 2]}, "expected three positive numbers"),
    ],
)
def test_what_cannot_be_divided_so_is_refused_in_one_line(protocol, change, options, message):
    with pytest.raises(CorpusError, match=message) as refusal:
        make_split(protocol, dyads().assign(**change), **options)
    assert "\n" not in str(refusal.value)


# published and leaky ------------------------------------------------------------------------------------------------


def test_the_published_parts_are_taken_as_they_are():
    table = dyads()
    assert who(table, make_split("published", table))[1:] == [
        ["Ses2F", "Ses2M"],
        ["Ses3F", "Ses3M", "Ses4F", "Ses4M", "Ses5F", "Ses5M"],
    ]


def test_published_parts_that_share_a_speaker_are_refused_with_the_name_of_the_replication():
    table = dyads()
    table.loc[0, "domain"] = "test"
    message = (
        "split protocol 'published' would put speaker Ses1F into train and test: use one that divides by speaker, such "
        "as speaker_disjoint, or replication_published to compare with published numbers"
    )
    with pytest.raises(CorpusError, match=f"^{re.escape(message)}$"):
        make_split("published", table)
    split = make_split("replication_published", table)
    assert split.warning == (
        "Protocol replication_published leaks speakers: 1 of 7 test speakers are in training; published for comparison "
        "only"
    )


@pytest.mark.parametrize("protocol", FIXED)
def test_a_speaker_in_two_sessions_or_parts_never_gets_into_two_parts_of_a_split(protocol):
    table = dyads()
    table.loc[0, ["session", "domain"]] = ["Ses3", "test"]
    with pytest.raises(CorpusError, match=r"would put speaker Ses1F into|two speakers in every session"):
        make_split(protocol, table)


def test_random_utterances_keep_the_ratios_and_name_every_leaking_speaker():
    table = dyads(utterances=100)
    split = make_split("replication_random", table, ratios=[7, 1, 2], seed=3)
    assert [len(part) for part in parts_of(split)] == [700, 100, 200]
    assert sorted(np.concatenate([split.train, split.valid, split.test])) == list(range(1000))
    assert split.warning == (
        "Protocol replication_random leaks speakers: 10 of 10 test speakers are in training, 10 of 10 validation "
        "speakers are in training; published for comparison only"
    )
    assert np.array_equal(split.test, make_split("replication_random", table, ratios=[7, 1, 2], seed=3).test)
    assert not np.array_equal(split.test, make_split("replication_random", table, ratios=[7, 1, 2], seed=4).test)


@pytest.mark.parametrize(("size", "share"), [(2943, 57.7), (4784, 61.1), (10039, 60.4)])
def test_the_published_code_validates_on_what_it_trained_on_to_the_published_share(size, share):
    table = pd.DataFrame({"speaker": ["a"] * size, "gender": "female", "session": "1", "domain": "x", "emotion": "y"})
    split = make_split("replication_chae2018", table)
    train, valid, _ = parts_of(split)
    assert 100 * len(train & valid) / len(valid) == pytest.approx(share, abs=0.05)
    assert f"{len(train & valid)} of {len(valid)} validation utterances are trained on" in split.warning


def test_the_published_code_shuffles_anew_for_every_part():
    table = dyads(utterances=20)
    split = make_split("replication_chae2018", table, seed=5)
    shuffler = random.Random(5)
    orders = [list(range(200)) for _ in PARTS]
    for order in orders:
        shuffler.shuffle(order)
    assert parts_of(split) == [set(orders[0][:120]), set(orders[1][120:160]), set(orders[2][160:])]
