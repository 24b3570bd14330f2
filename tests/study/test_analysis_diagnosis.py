from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from study.analysis import compare
from study.analysis.diagnosis import chances, clock_fit, clocks, collapses, saturations, twins
from study.analysis.front import front_table, pareto_front, position
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


@pytest.mark.parametrize("direction", [1, -1])
def test_clock_fit_recovers_the_clock(direction):
    steps = np.arange(40, 801, 40)
    fit = clock_fit(1 / (1 + np.exp(-direction * 2e-3 * steps)), steps, 1e-3)
    assert (fit.direction, fit.is_clock) == (direction, True)
    assert fit.deviation == pytest.approx(0, abs=1e-12)
    assert fit.rate_ratio == pytest.approx(1)


def test_weights_that_stay_or_move_otherwise_are_no_clock():
    steps = np.arange(40, 801, 40)
    assert not clock_fit([0.5] * 20, steps, 1e-3).is_clock
    assert not clock_fit(np.linspace(0.5, 0.1, 20), steps, 1e-4).is_clock


def test_clock_fit_refuses_what_it_cannot_fit():
    with pytest.raises(StudyError, match="as many weights as steps, got 2 and 1"):
        clock_fit([0.5, 0.6], [1], 1e-3)
    with pytest.raises(StudyError, match="weights between 0 and 1"):
        clock_fit([1.5], [1], 1e-3)


def test_clock_is_found_in_softmax_arms_only_and_needs_a_learning_rate(simulated):
    assert [finding.arms for finding in clocks(simulated)] == [("softmax",)]
    assert "softmax is a clock in 5 of 5 seeds" in clocks(simulated)[0].text
    assert clocks(replace(simulated, facts={})) == []


def test_arm_s_own_learning_rate_goes_before_that_of_the_study(simulated):
    arms = simulated.arms.copy()
    arms["options"] = [{"learning_rate": 0.05} if arm == "softmax" else {} for arm in arms["arm"]]
    assert clocks(replace(simulated, arms=arms)) == []


def test_collapse_is_told_with_its_weight_and_seeds(simulated):
    assert collapses(simulated) == []
    found = collapses(changed(simulated, "uncertainty", weight__gender=0.004))
    assert [finding.arms for finding in found] == [("uncertainty",)]
    assert "weight of 0.004 on gender (uniform is 0.5), below 5% of uniform in 5 of 5 seeds" in found[0].text


def test_twins_are_found_bit_for_bit(simulated):
    rows = simulated.rows.copy()
    copied = [column for column in rows if column.startswith(("train/", "valid/"))]
    rows.loc[rows["arm"] == "gradnorm", copied] = rows.loc[rows["arm"] == "softmax", copied].to_numpy()
    twin = replace(simulated, rows=rows)
    assert twins(simulated) == []
    assert [finding.arms for finding in twins(twin)] == [("softmax", "gradnorm")]
    one = rows.index[(rows["arm"] == "gradnorm") & (rows["kind"] == "epoch")][-1]
    rows.loc[one, "train/nll/gender"] = np.nextafter(rows.loc[one, "train/nll/gender"], 1)
    assert twins(replace(simulated, rows=rows)) == []


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
