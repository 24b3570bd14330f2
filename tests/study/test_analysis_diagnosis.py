from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from study.analysis import compare
from study.analysis.clock import clock_fit
from study.analysis.diagnosis import chances, clocks, collapses, saturations, twins
from study.analysis.front import front_sentences, front_table, position
from study.analysis.pareto import pareto_front
from study.errors import StudyError


def changed(results, arm, **values):
    rows = results.rows.copy()
    for column, value in values.items():
        rows.loc[rows["arm"] == arm, column.replace("__", "/")] = value
    return replace(results, rows=rows)


def test_pareto_front_of_a_worked_case():
    points = np.array([[1, 5], [2, 3], [2, 4], [4, 2], [5, 2], [3, 3], [6, 1], [np.nan, 0]])
    assert pareto_front(points).tolist() == [True, True, False, True, False, False, True, False]


def test_equal_points_do_not_push_each_other_off_the_front():
    assert pareto_front(np.array([[1.0, 1.0], [1.0, 1.0]])).all()


@given(hnp.arrays(float, st.tuples(st.integers(1, 8), st.integers(1, 4)), elements=st.integers(0, 5).map(float)))
def test_every_point_off_the_front_is_dominated_by_one_on_it(points):
    front = pareto_front(points)
    assert front.any()
    for point in points[~front]:
        assert ((points[front] <= point).all(axis=1) & (points[front] < point).any(axis=1)).any()


@pytest.mark.parametrize(
    ("point", "where"),
    [
        ([2.0, 2.95], "between"),
        ([3, 3], "behind"),
        ([0.5, 2.5], "beyond"),
        ([1, 3], "between"),
        ([np.nan, 1], "unknown"),
    ],
)
def test_position_relative_to_the_front(point, where):
    assert position(np.array(point, dtype=float), np.array([[1.0, 3.0], [2.9, 2.9], [3.0, 1.0]])) == where


def test_planted_arm_lies_beyond_the_front_by_more_than_the_noise(simulated):
    table = front_table(simulated, "test").set_index("arm")
    assert table.at["gradnorm", "position"] == "beyond"
    assert table.at["gradnorm", "not_behind"] == table.at["gradnorm", "num_seeds"] == 5
    told = [note for note in compare(simulated).notes if note.startswith("gradnorm lies beyond")]
    assert "by more than the noise on every task" in told[0]


def test_place_within_the_noise_is_called_so(simulated):
    told = [note for note in compare(simulated).notes if note.startswith("softmax lies")]
    assert "but within the noise" in told[0]


def test_one_seed_is_said_to_tell_no_noise(simulate):
    told = [note for note in compare(simulate(num_seeds=1)).notes if "static front" in note]
    assert not any("within the noise" in note or "seed by seed" in note for note in told)
    assert any("with one seed, which tells no noise" in note for note in told)


def test_many_arms_are_told_of_by_place_and_each_once(simulate):
    dynamic = ("softmax", "uncertainty", "gradnorm", "dwa", "famo", "mgda")
    results = simulate(dynamic=dynamic, effects={"gradnorm": -0.1, "mgda": -0.1, "famo": 0.2})
    table = front_table(results, "test")
    told = front_sentences(results, table, "test")
    beyond = [note for note in told if note.startswith("Beyond the static front")]
    assert [note.rpartition(": ")[2] for note in beyond if "by more than the noise" in note] == ["gradnorm, mgda."]
    named = [name for note in told for name in note.rpartition(": ")[2].rstrip(".").split(", ")]
    assert sorted(named) == sorted(dynamic)


@pytest.mark.parametrize("direction", [1, -1])
def test_clock_fit_recovers_the_clock(direction):
    rate_sums = 1e-3 * np.arange(40, 801, 40)
    fit = clock_fit(1 / (1 + np.exp(-direction * 2 * rate_sums)), rate_sums)
    assert (fit.direction, fit.is_clock) == (direction, True)
    assert fit.deviation == pytest.approx(0, abs=1e-12)
    assert fit.rate_ratio == pytest.approx(1)


def test_weights_that_stay_or_move_otherwise_are_no_clock():
    steps = np.arange(40, 801, 40)
    assert not clock_fit([0.5] * 20, 1e-3 * steps).is_clock
    assert not clock_fit(np.linspace(0.5, 0.1, 20), 1e-4 * steps).is_clock


def test_clock_fit_refuses_what_it_cannot_fit():
    with pytest.raises(StudyError, match="as many weights as moments, got 2 and 1"):
        clock_fit([0.5, 0.6], [1e-3])
    with pytest.raises(StudyError, match="weights between 0 and 1"):
        clock_fit([1.5], [1e-3])


def test_clock_is_found_in_arms_that_say_they_may_be_one(simulated):
    assert [finding.arms for finding in clocks(simulated)] == [("softmax",)]
    text = clocks(simulated)[0].text
    assert text.startswith(
        "softmax is a clock in 5 of 5 seeds: its weight on emotion follows sigmoid(2 x 0.001 x steps)"
    )
    renamed = simulated.arms.assign(strategy=simulated.arms["strategy"].replace("softmax", "mine"))
    assert [finding.arms for finding in clocks(replace(simulated, arms=renamed))] == [("softmax",)]
    assert clocks(replace(simulated, arms=simulated.arms.assign(may_be_clock=False))) == []


def test_no_clock_is_claimed_of_a_study_that_did_not_record_what_it_takes(simulated):
    assert clocks(replace(simulated, arms=simulated.arms.drop(columns="may_be_clock"))) == []
    assert clocks(replace(simulated, rows=simulated.rows.drop(columns="learning_rate/strategy"))) == []
    half = simulated.rows.copy()
    half.loc[(half["seed"] < 3) & (half["epoch"] == 1), "learning_rate/strategy"] = np.nan
    assert "softmax is a clock in 2 of 2 seeds" in clocks(replace(simulated, rows=half))[0].text


def test_clock_runs_by_the_strategy_s_own_learning_rate(simulated):
    assert clocks(changed(simulated, "softmax", learning_rate__strategy=0.05)) == []


def test_clock_under_a_schedule_runs_by_the_sum_of_the_learning_rates(simulated):
    rows = simulated.rows.copy()
    rates = 0.01 * 0.7 ** (rows["epoch"] - 1)
    passed = 40 * 0.01 * (1 - 0.7 ** rows["epoch"]) / (1 - 0.7)  # 40 steps an epoch
    own = rows["arm"] == "softmax"
    rows.loc[own, "weight/emotion"] = 1 / (1 + np.exp(2 * passed[own]))
    assert clocks(replace(simulated, rows=rows)) == []
    rows.loc[own, "learning_rate/strategy"] = rates[own]
    found = clocks(replace(simulated, rows=rows))
    assert (
        "follows sigmoid(2 x sum of learning rates) within 0.000 (root mean square; fitted rate 1.00" in found[0].text
    )


def collapsed(results, arm, seed, epochs, column="largest_weight/gender", weight=0.02):
    rows = results.rows.copy()
    chosen = (rows["arm"] == arm) & (rows["seed"] == seed) & rows["epoch"].isin(epochs) & (rows["kind"] == "epoch")
    rows.loc[chosen, column] = weight
    return replace(results, rows=rows)


def test_collapse_is_a_weight_that_stays_low_for_a_whole_epoch_even_if_it_recovers(simulated):
    assert collapses(simulated) == []
    study = collapsed(simulated, "uncertainty", 1, [4, 5, 6])
    found = collapses(collapsed(study, "uncertainty", 3, [7]))
    assert [finding.arms for finding in found] == [("uncertainty",)]
    end = simulated.rows.query("arm == 'uncertainty' and kind == 'final'")["weight/gender"].mean()
    assert found[0].text == (
        "uncertainty collapsed: its weight on gender stays below 5% of uniform (0.5) for whole epochs in 2 of 5 seeds, "
        f"first in epoch 4, for 2 epochs on average; at the end of training it is {end:.2g}."
    )


def test_a_weight_that_is_low_at_the_end_of_an_epoch_alone_has_not_collapsed(simulated):
    assert collapses(collapsed(simulated, "uncertainty", 1, range(1, 11), column="weight/gender")) == []


def test_rows_without_the_largest_weight_are_judged_by_that_at_the_end_of_the_epoch(simulated):
    older = replace(simulated, rows=simulated.rows.drop(columns=["largest_weight/emotion", "largest_weight/gender"]))
    assert collapses(older) == []
    found = collapses(collapsed(older, "uncertainty", 1, [9, 10], column="weight/gender"))
    assert "in 1 of 5 seeds, first in epoch 9, for 2 epochs" in found[0].text


def test_a_static_weight_of_zero_is_a_choice_and_no_collapse(simulated):
    assert collapses(changed(simulated, "static-1-0", largest_weight__gender=0.0)) == []


def twinned(results, first, second, epochs):
    """The study as if two arms had trained the same network for some first epochs."""
    rows = results.rows.copy()
    copied = [column for column in rows if column.startswith(("train/", "valid/"))]
    early = (rows["kind"] == "epoch") & (rows["epoch"] <= epochs)
    rows.loc[early & (rows["arm"] == second), copied] = rows.loc[early & (rows["arm"] == first), copied].to_numpy()
    return replace(results, rows=rows)


def test_twins_are_found_bit_for_bit_with_the_steps_they_were_equal_for(simulated):
    assert twins(simulated) == []
    study = twinned(simulated, "softmax", "gradnorm", epochs=10)
    assert [finding.arms for finding in twins(study)] == [("softmax", "gradnorm")]
    assert twins(study)[0].text == (
        "softmax and gradnorm are twins: every epoch (400 steps) of their 5 common seeds is equal bit for bit, so they "
        "trained the same network."
    )
    rows = study.rows.copy()
    one = rows.index[(rows["arm"] == "gradnorm") & (rows["epoch"] == 1) & (rows["seed"] == 2)]
    rows.loc[one, "train/nll/gender"] = np.nextafter(rows.loc[one, "train/nll/gender"], 1)
    assert twins(replace(study, rows=rows)) == []


@pytest.mark.parametrize("epochs", range(1, 10))
def test_twins_that_separate_are_told_unless_a_method_may_need_that_long_to_start(simulated, epochs):
    found = twins(twinned(simulated, "softmax", "gradnorm", epochs))
    if epochs <= 2:
        assert found == []
    else:
        assert f"are twins for the first {epochs} of 10 epochs ({40 * epochs} steps) of their 5" in found[0].text


def test_the_seed_that_tells_two_arms_apart_first_decides_for_how_long_they_were_twins(simulated):
    study = twinned(simulated, "softmax", "gradnorm", epochs=10)
    rows = study.rows.copy()
    one = (rows["arm"] == "gradnorm") & (rows["seed"] == 2) & (rows["epoch"] == 5) & (rows["kind"] == "epoch")
    rows.loc[one, "valid/nll/gender"] += 1
    stopped = (rows["seed"] == 0) & (rows["epoch"] > 3) & (rows["arm"] == "softmax")
    assert "for the first 4 of 10 epochs (160 steps)" in twins(replace(study, rows=rows[~stopped]))[0].text
    assert "every epoch (400 steps)" in twins(replace(study, rows=study.rows[~stopped]))[0].text


def test_task_that_all_arms_solve_is_saturated_whatever_arms_do_that_never_train_it(simulated):
    rows = simulated.rows.copy()
    rows.loc[rows["arm"] != "static-1-0", "test/uar/gender"] = 0.995
    found = saturations(replace(simulated, rows=rows), "test")
    assert len(found) == 1
    assert "gender is saturated" in found[0].text
    rows.loc[rows["arm"] == "softmax", "test/uar/gender"] = 0.98
    assert saturations(replace(simulated, rows=rows), "test") == []


def test_two_seeds_that_differ_do_not_make_a_learned_task_look_unlearned(simulated):
    two = replace(
        simulated,
        rows=simulated.rows[simulated.rows["seed"] < 2],
        trials=simulated.trials[simulated.trials["seed"] < 2],
    )
    rows = two.rows.copy()
    rows.loc[(rows["arm"] == "softmax") & (rows["seed"] == 0), "test/uar/emotion"] = 0.36
    rows.loc[(rows["arm"] == "softmax") & (rows["seed"] == 1), "test/uar/emotion"] = 0.60
    assert chances(replace(two, rows=rows), "test") == []


def test_arm_at_chance_is_told_unless_it_never_trained_the_task(simulated):
    assert chances(simulated, "test") == []
    found = chances(changed(simulated, "softmax", test__uar__emotion=0.25), "test")
    assert found[0].text == "emotion is hardly learned beyond chance (recall 0.250) by: softmax (0.250)."
