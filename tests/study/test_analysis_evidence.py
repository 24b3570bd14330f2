"""Effects, resampling, fronts, single tasks, ranks and budgets, each against a reference or a closed form."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from study.analysis import compare
from study.analysis.budgets import at_equal_tuning, cost_adjusted, equal_tuning, value_at
from study.analysis.delta import delta
from study.analysis.effects import detectable, hedges_g, improvement, power
from study.analysis.front import static_reference
from study.analysis.pareto import distance_behind, exclusive_volume, hypervolume, pareto_front
from study.analysis.ranks import critical_difference, mean_ranks
from study.analysis.regret import front_distances, regret_table
from study.analysis.resampling import bootstrap_interval, jackknife_interval, mean_interval
from study.analysis.selection import choices, gaps, seeds_for, underpowered
from study.analysis.statistics import t_interval, wilcoxon_p
from study.analysis.summary import seed_values, summarise
from study.analysis.tuning import Configuration, TunedMethod, Tuning
from study.errors import StudyError
from study.report.blocks import Paragraph
from study.report.evidence import budgets
from study.report.text import summary_lines, tuned_lines
from study.report.writing import tables
from study.search.settings import Objective, Search
from study.search.space import Space

NUMBERS = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))


def final(results, arm, values):
    """The study with a column of one arm's final rows replaced, one value a seed."""
    rows = results.rows.copy()
    own = (rows["kind"] == "final") & (rows["arm"] == arm)
    for column, numbers in values.items():
        rows.loc[own, column] = numbers
    return replace(results, rows=rows)


# effects --------------------------------------------------------------------------------------------------------------


def test_hedges_g_is_the_corrected_mean_in_deviations():
    differences = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert hedges_g(differences) == pytest.approx(3 / np.std(differences, ddof=1) * 0.7978846, rel=1e-6)  # J(4)
    approximate = 1 - 3 / (4 * 29 - 1)
    many = list(np.linspace(-1, 2, 30))
    assert hedges_g(many) == pytest.approx(np.mean(many) / np.std(many, ddof=1) * approximate, rel=1e-3)


def test_hedges_g_is_unbiased():
    generator = np.random.default_rng(0)
    found = [hedges_g(generator.normal(0.8, 1.0, 6)) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)
    assert np.mean([np.mean(d) / np.std(d, ddof=1) for d in generator.normal(0.8, 1.0, (4000, 6))]) > 0.9


def test_effect_of_equal_differences_has_no_deviation_to_be_measured_in():
    assert hedges_g([0.0, 0.0]) == 0
    assert hedges_g([0.1, 0.1, 0.1]) == np.inf
    assert hedges_g([1.0]) is None
    assert np.isnan(hedges_g([1.0, 2.0]))


@given(st.integers(1, 30), st.data())
def test_share_of_seeds_won_has_scipys_exact_interval(count, data):
    won = data.draw(st.integers(0, count))
    share = improvement([-1.0] * won + [1.0] * (count - won))
    reference = stats.binomtest(won, count).proportion_ci(0.95, "exact")
    assert share.value == won / count
    assert (share.low, share.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_ties_count_half():
    assert improvement([0.0, 0.0]).value == 0.5
    assert improvement([]) is None


def test_power_is_that_of_the_noncentral_t():
    critical = stats.t.ppf(0.975, 9)
    expected = stats.nct.sf(critical, 9, 0.9 * np.sqrt(10)) + stats.nct.cdf(-critical, 9, 0.9 * np.sqrt(10))
    assert power(0.9, 10) == pytest.approx(expected, abs=1e-6)
    assert power(0.0, 7, 0.01) == pytest.approx(0.01)
    assert power(detectable(8, 0.0125), 8, 0.0125) == pytest.approx(0.8, abs=1e-3)
    assert power(1.0, seeds_for(1.0)) >= 0.8 > power(1.0, seeds_for(1.0) - 1)
    with pytest.raises(StudyError, match="at least 2 seeds, got 1"):
        detectable(1)


# Wilcoxon -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5, 9, 13, 30, 50])
def test_wilcoxon_is_scipys_exact_test(count):
    generator = np.random.default_rng(count)
    for _ in range(10):
        differences = generator.normal(0.3, 1.0, count)
        assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-9)


def test_wilcoxon_stays_exact_with_ties():
    generator = np.random.default_rng(1)
    every = stats.PermutationMethod(n_resamples=10**6)
    for _ in range(10):
        differences = generator.integers(1, 4, 9) * generator.choice([-1.0, 1.0], 9)
        assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(differences, method=every).pvalue)


def test_many_seeds_give_scipys_approximation():
    differences = np.random.default_rng(2).normal(0.1, 1.0, 300)
    reference = stats.wilcoxon(differences, method="asymptotic", correction=True).pvalue
    assert wilcoxon_p(differences) == pytest.approx(reference, rel=1e-6)


# resampling -----------------------------------------------------------------------------------------------------------


def test_bootstrap_interval_is_scipys_within_the_noise_of_the_draws():
    values = np.random.default_rng(3).lognormal(size=25)
    expanded = 2 * stats.norm.cdf(np.sqrt(25 / 24) * stats.t.ppf(0.975, 24)) - 1
    settled = {"method": "percentile", "confidence_level": expanded, "n_resamples": 20_000, "rng": 0}
    found, reference = bootstrap_interval(values), stats.bootstrap((values,), np.mean, **settled).confidence_interval
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=0.05)
    assert found.high - found.mean > found.mean - found.low  # skewed to the right
    assert found == bootstrap_interval(values)


def test_interval_of_a_mean_is_students_below_twenty_seeds_and_the_bootstraps_from_there():
    values = np.random.default_rng(4).normal(size=30)
    assert mean_interval(values[:19]) == t_interval(values[:19])
    assert mean_interval(values[:20]).method == "bootstrap"
    assert mean_interval(values).half_width == pytest.approx(t_interval(values).half_width, rel=0.15)
    same = bootstrap_interval([2.0] * 20)
    assert (same.low, same.high) == (2.0, 2.0)
    with pytest.raises(StudyError, match="finite"):
        mean_interval([*values, np.nan])
    with pytest.raises(StudyError, match="between 0 and 1"):
        bootstrap_interval(values, 1.0)


def test_draws_are_of_whole_seeds_so_that_intervals_of_sums_agree():
    generator = np.random.default_rng(5)
    one = generator.normal(size=24)
    assert bootstrap_interval(one + 3).low == pytest.approx(bootstrap_interval(one).low + 3)
    opposite = bootstrap_interval(one - one)
    assert opposite.half_width == 0


@given(st.lists(NUMBERS, min_size=2, max_size=8))
def test_jackknife_of_a_mean_is_students_interval(values):
    found, reference = jackknife_interval(float, np.array(values)), t_interval(values)
    assert found.half_width == pytest.approx(reference.half_width, abs=1e-6)
    assert jackknife_interval(float, np.array(values[:1])) is None


def test_a_study_of_many_seeds_has_bootstrap_intervals_and_says_hint_by_them(simulate):
    results = simulate(num_seeds=20, num_epochs=2)
    assert summarise(results, "test/joint_nll")["softmax"].interval.method == "bootstrap"
    table = compare(results).table.set_index("arm")
    clear = (table["difference/low"] > 0) | (table["difference/high"] < 0)
    assert clear[table["verdict"].isin(["better", "worse", "hint"])].all()
    assert not clear[table["verdict"] == "unclear"].any()


# front ----------------------------------------------------------------------------------------------------------------

POINTS = hnp.arrays(float, st.tuples(st.integers(1, 7), st.integers(1, 4)), elements=st.integers(0, 5).map(float))


@settings(max_examples=60)
@given(POINTS)
def test_hypervolume_of_whole_numbers_is_the_number_of_unit_cells(points):
    objectives = points.shape[1]
    cells = np.stack(np.meshgrid(*[np.arange(6)] * objectives, indexing="ij"), axis=-1).reshape(-1, objectives)
    inside = (cells[:, None, :] >= points[None]).all(axis=2).any(axis=1)
    assert hypervolume(points, np.full(objectives, 6.0)) == pytest.approx(inside.sum())


@given(POINTS)
def test_what_a_point_adds_is_the_difference_of_two_hypervolumes(points):
    reference = np.full(points.shape[1], 6.0)
    added = hypervolume(points, reference) - hypervolume(points[1:], reference)
    assert exclusive_volume(points[0], points[1:], reference) == pytest.approx(added, abs=1e-9)


def test_hypervolume_leaves_out_what_is_no_better_than_the_reference():
    reference = np.array([2.0, 2.0])
    assert hypervolume(np.array([[3.0, 0.0], [np.nan, 0.0]]), reference) == 0
    with pytest.raises(StudyError, match="1 to 4 objectives, got 5"):
        hypervolume(np.zeros((1, 5)), np.ones(5))
    with pytest.raises(StudyError, match=r"shape \(1, 3\), but the reference 2"):
        hypervolume(np.zeros((1, 3)), reference)
    with pytest.raises(StudyError, match="must be finite"):
        hypervolume(np.zeros((1, 2)), np.array([np.inf, 1.0]))


@given(POINTS)
def test_distance_is_where_the_point_meets_the_surface(points):
    point, others = points[0], points[1:]
    if not len(others):
        assert np.isnan(distance_behind(point, others))
        return
    distance = distance_behind(point, others)
    assert not (others < point - distance).all(axis=1).any()
    assert (others <= point - distance).all(axis=1).any()


def test_front_of_thousands_of_points_takes_no_memory_for_their_pairs():
    points = np.random.default_rng(6).random((20_000, 3))
    front = pareto_front(points)
    best = points[front]
    assert not ((best[:, None] <= best[None]).all(axis=2) & (best[:, None] < best[None]).any(axis=2)).any()


def test_planted_arm_lies_beyond_the_front_by_its_effect(simulated):
    found = front_distances(simulated, "test")
    table = found.table.set_index("arm")
    assert table.at["gradnorm", "distance"] == pytest.approx(-0.05, abs=0.02)
    assert table.at["gradnorm", "high"] < 0 < table.at["uncertainty", "high"]
    assert table.at["gradnorm", "gain/low"] > 0
    assert found.reference == pytest.approx({"emotion": np.log(4), "gender": np.log(2)})
    assert found.grid.mean < np.log(4) * np.log(2)


def test_regret_is_the_paired_difference_to_the_chosen_and_to_the_oracle(simulated):
    static = static_reference(simulated, "test")
    table = regret_table(simulated, "test", static).set_index(["arm", "metric", "against"])
    values = seed_values(simulated, "test/joint_nll")
    expected = t_interval((values.loc["gradnorm"] - values.loc[static.best]).tolist())
    assert table.loc[("gradnorm", "joint_nll", "chosen"), ["regret", "low", "high"]].tolist() == pytest.approx(
        [expected.mean, expected.low, expected.high]
    )
    recall = seed_values(simulated, "test/uar/gender")
    best = table.at[("softmax", "uar/gender", "oracle"), "static"]
    grid = recall[recall.index.str.startswith("static")]
    assert grid.mean(axis=1).idxmax() == best
    regret = table.at[("softmax", "uar/gender", "oracle"), "regret"]
    assert regret == pytest.approx(recall.loc[best].mean() - recall.loc["softmax"].mean())
    assert regret_table(simulated, "test", None).empty


# single tasks, ranks, budgets -----------------------------------------------------------------------------------------


def test_delta_is_the_mean_relative_gain_over_single_tasks_of_the_same_seed(simulated):
    study = final(simulated, "static-1-0", {"test/uar/emotion": [0.5, 0.5, 0.5, 0.4, 0.5]})
    study = final(study, "static-0-1", {"test/uar/gender": 0.8})
    study = final(study, "softmax", {"test/uar/emotion": 0.6, "test/uar/gender": 0.6})
    found = delta(study, "test")
    row = found.table.set_index("arm").loc["softmax"]
    per_seed = [(20 - 25) / 2] * 3 + [(50 - 25) / 2] + [(20 - 25) / 2]
    assert row["delta"] == pytest.approx(np.mean(per_seed))
    assert row["high"] == pytest.approx(t_interval(per_seed).high)
    assert found.baselines == {"emotion": "static-1-0", "gender": "static-0-1"}
    assert found.by_joint


def test_delta_names_the_tasks_that_nobody_trained_alone(simulate, simulated, without):
    assert delta(simulate(num_tasks=3, num_epochs=2), "test").lacking == ("emotion", "gender", "valence")
    lost = without(simulated, *(f"static-1-0-seed{seed}" for seed in range(5)))
    assert delta(lost, "test").lacking == ("emotion",)
    assert delta(lost, "test").table.empty


def test_delta_is_not_divided_by_next_to_nothing(simulated):
    study = final(simulated, "static-1-0", {"test/uar/emotion": [0.5, 0.01, 0.5, -0.2, 0.5]})
    assert delta(study, "test").table.set_index("arm").at["softmax", "num_seeds"] == 3


def test_mean_ranks_share_ties_and_depend_on_the_pool():
    values = pd.DataFrame({0: [1.0, 2.0, 2.0], 1: [3.0, 1.0, 2.0]}, index=list("abc"))
    assert mean_ranks(values).to_dict() == {"a": 2.0, "b": 1.75, "c": 2.25}
    assert mean_ranks(values.loc[["a", "b"]]).to_dict() == {"a": 1.5, "b": 1.5}


def test_critical_difference_groups_what_pairwise_tests_cannot_tell_apart():
    noise = np.random.default_rng(0).normal(size=(4, 12))
    values = pd.DataFrame(noise + np.array([[0.0], [0.2], [3.0], [3.1]]), index=list("abcd"))
    values[12] = [np.nan, 0, 0, 0]  # a corpus that lacks a method
    found = critical_difference(values, "corpora")
    assert found.groups == (("a", "b"), ("c", "d"))
    assert (found.num_blocks, found.blocks) == (12, "corpora")
    pair = stats.wilcoxon(values.loc["a", :11] - values.loc["c", :11]).pvalue
    assert pair < found.p_values.at["a", "c"] <= 6 * pair
    with pytest.raises(StudyError, match="2 methods and 2 corpora that have all of them, got 4 and 1"):
        critical_difference(values[[0, 12]], "corpora")


def test_at_equal_time_a_slow_arm_is_read_off_where_the_time_of_the_fastest_ends(simulated):
    table = cost_adjusted(simulated, ["gradnorm"]).set_index(["arm", "budget"])
    assert table.at[("gradnorm", "epochs"), "epochs"] == 10
    assert table.at[("gradnorm", "seconds"), "epochs"] == pytest.approx(10 / 1.2)
    assert table.at[("gradnorm", "seconds"), "seconds"] == pytest.approx(20)
    lowest = simulated.rows[(simulated.rows["arm"] == "gradnorm") & (simulated.rows["kind"] == "epoch")]
    curve = lowest.pivot(index="epoch", columns="seed", values="valid/joint_nll").cummin()
    expected = (2 / 3 * curve.loc[8] + 1 / 3 * curve.loc[9]).mean()
    assert table.at[("gradnorm", "seconds"), "valid/joint_nll"] == pytest.approx(expected)
    assert table.at[("gradnorm", "epochs"), "t_holm_p"] < 0.05
    assert np.isnan(table.at[("softmax", "epochs"), "t_holm_p"])


def test_an_arm_with_no_whole_epoch_in_that_time_has_no_value():
    assert np.isnan(value_at(np.ones((3, 2)), 0.9)).all()
    assert value_at(np.array([[3.0], [1.0]]), 7).tolist() == [1.0]


def test_without_times_there_is_no_comparison_at_equal_time(simulated):
    rows = simulated.rows.drop(columns=["time/epoch_s"])
    assert set(cost_adjusted(replace(simulated, rows=rows), [])["budget"]) == {"epochs"}
    assert cost_adjusted(replace(simulated, rows=rows.iloc[:0]), []).empty


def test_at_equal_tuning_a_method_with_more_trials_is_read_off_earlier():
    table = at_equal_tuning({"many": [3.0, 1.0, 2.0], "few": [2.0, 1.5], "none": []}).set_index("method")
    assert table["equal_trials"].tolist() == [2, 2]
    assert table["best_of/1"].to_dict() == pytest.approx({"many": 2, "few": 1.75})
    assert table["best_of/2"].to_dict() == pytest.approx({"many": 4 / 3, "few": 1.5})
    assert table["best"].to_dict() == {"many": 1, "few": 1.5}
    longer = at_equal_tuning({"a": range(21), "b": range(30)})
    assert [name for name in longer if "/" in name] == [f"best_of/{m}" for m in (1, 2, 4, 8, 16, 21)]
    assert at_equal_tuning({}).empty


def searched(simulated, origins, direction="minimize"):
    """A study after a search: gradnorm needs luck, uncertainty does well at once."""
    search = Search(objective=(Objective(metric="joint_nll", direction=direction),))
    tried = {"gradnorm": [0.9, 0.9, 0.9, 0.3], "uncertainty": [0.5, 0.5, 0.5, 0.5, None]}
    methods = [
        TunedMethod(
            name,
            Space({}),
            tuple(
                Configuration(i, {}, origins[i % len(origins)], *state(loss), None if loss is None else (loss,))
                for i, loss in enumerate(losses)
            ),
            0,
            (0,),
            (),
            {"trials": 4.0, "epochs": 8.0, "seconds": 1.0},
        )
        for name, losses in tried.items()
    ]
    return replace(simulated, tuning=Tuning(search, True, tuple(methods)))


def state(loss):
    return ("full", 10) if loss is not None else ("failed", 1)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_search_is_read_at_equal_numbers_of_configurations_beside_what_was_confirmed(simulated, direction):
    study = searched(simulated, ["random"], direction)
    table, sign = equal_tuning(study).set_index("method"), 1 if direction == "minimize" else -1  # losses are kept
    assert table["draws"].tolist() == ["random", "random"]
    assert table.loc["gradnorm", ["best_of/1", "best_of/2", "best_of/4"]].tolist() == pytest.approx(
        [sign * value for value in (0.75, 0.6, 0.3)]
    )
    assert table["left_out"].to_dict() == {"gradnorm": 0, "uncertainty": 1}
    expected = seed_values(study, "valid/joint_nll").loc["gradnorm"].mean()
    assert table.at["gradnorm", "confirmed"] == pytest.approx(expected)
    assert equal_tuning(simulated).empty


def test_the_report_shows_equal_tuning_and_says_who_is_ahead_and_which_draws_are_none(simulated):
    study = searched(simulated, ["random"])
    part = budgets(study, compare(study))
    told = " ".join(block.text for block in part.blocks if isinstance(block, Paragraph))
    assert "Ahead: uncertainty with 1, gradnorm from 4 on." in told
    assert "not independent draws" not in told
    study = searched(simulated, ["searcher"])
    part = budgets(study, compare(study))
    assert any(isinstance(block, Paragraph) and block.is_warning for block in part.blocks)
    assert tables(study, compare(study))["equal_tuning"]["draws"].tolist() == ["all", "all"]


def test_the_luck_of_the_search_is_told_with_what_became_of_its_winner(simulated):
    assert tuned_lines(compare(simulated)) == []
    study = searched(simulated, ["random"])
    fresh = seed_values(study, "valid/joint_nll").mean(axis=1)
    place = "first" if fresh["uncertainty"] < fresh["gradnorm"] else "second"
    (line,) = tuned_lines(compare(study))
    assert line.startswith("Each method was searched once (5 configurations, 1 tuning seed): intervals and tests hold")
    assert f"; uncertainty came first in tuning, and with fresh seeds {place} of 2 on validation. Another" in line
    assert line in summary_lines(compare(study))


# what is said ---------------------------------------------------------------------------------------------------------


def test_choosing_by_validation_is_told_with_its_cost_where_the_test_split_disagrees(simulated):
    assert choices(simulated, "test") == []
    study = final(simulated, "static-1-0", {"valid/joint_nll": 0.01})
    (found,) = choices(study, "test")
    assert found.text.startswith("static 1/0 is best on validation (joint NLL 0.010) and number 13 of 14 on the test")
    assert "against gradnorm, which only that split shows" in found.text
    assert choices(study, "valid") == []


def test_a_gap_between_validation_and_test_is_told_when_it_is_more_than_noise(simulated):
    assert gaps(simulated, "test") == []
    rows = simulated.rows.copy()
    rows.loc[rows["kind"] == "final", "test/joint_nll"] += 0.1
    (found,) = gaps(replace(simulated, rows=rows), "test")
    assert "0.100 above that on validation" in found.text


def test_what_could_have_been_missed_is_told_in_the_unit_of_the_loss(simulated):
    comparison = compare(simulated)
    (found,) = [finding for finding in comparison.findings if finding.kind == "underpowered"]
    assert "gradnorm" not in found.arms
    table = comparison.differences[comparison.differences["arm"].isin(comparison.tested)]
    smallest = detectable(5, 0.05 / 4) * table["deviation"].median()
    assert f"find a true difference of {smallest:.3f} four times out of five" in found.text
    clear = comparison.differences.assign(t_holm_p=0.01)
    assert underpowered(clear, comparison.tested, "equal") == []


# bad input ------------------------------------------------------------------------------------------------------------


def test_rows_of_two_versions_are_compared_by_what_both_have(simulated):
    rows = simulated.rows.copy()
    newer = [column for column in rows if column.startswith(("largest_weight/", "gradient/", "time/"))]
    rows.loc[rows["seed"] < 2, newer] = np.nan
    comparison = compare(replace(simulated, rows=rows))
    assert comparison.table["joint_nll"].notna().all()
    older = rows.drop(columns=[*newer, *[column for column in rows if column.startswith("valid/uar")]])
    assert compare(replace(simulated, rows=older)).table["joint_nll"].tolist() == comparison.table["joint_nll"].tolist()


def test_a_study_that_never_finished_is_compared_by_what_it_has(simulated, without):
    lost = without(simulated, *[trial for trial in simulated.trials["trial"] if not trial.endswith("seed0")])
    comparison = compare(lost)
    assert comparison.num_finished == 14
    assert comparison.distances.table["low"].isna().all()
    assert comparison.distances.table["distance"].notna().all()
    assert any(note.startswith("56 of 70 trials have no result") for note in comparison.notes)


def test_metrics_that_are_nan_everywhere_leave_the_rest(simulated):
    rows = simulated.rows.assign(**{"test/uar/emotion": np.nan, "time/epoch_s": np.nan})
    comparison = compare(replace(simulated, rows=rows))
    assert comparison.ranks["uar/emotion"].isna().all()
    assert comparison.delta.table["delta"].isna().all()
    assert comparison.delta.table["delta_nll"].notna().all()


def test_a_study_without_a_grid_has_no_front(simulated):
    few = simulated.arms[~simulated.arms["is_static"]].reset_index(drop=True)
    kept = simulated.trials[simulated.trials["arm"].isin(few["arm"])]
    rows = simulated.rows[simulated.rows["arm"].isin(few["arm"])]
    comparison = compare(replace(simulated, arms=few, trials=kept, rows=rows, control="softmax"))
    assert comparison.distances is None
    assert comparison.regret.empty
    assert comparison.delta.lacking == ("emotion", "gender")


def test_hundreds_of_arms_are_compared_in_seconds(simulate):
    names = tuple(f"arm{index}" for index in range(200))
    results = simulate(num_seeds=2, num_epochs=1, dynamic=names)
    start = time.process_time()
    comparison = compare(results)
    assert len(comparison.table) == 211
    assert time.process_time() - start < 10
    assert [name for name in comparison.rescored.table if name.startswith("at/")] == ["at/static-0.5-0.5"]
