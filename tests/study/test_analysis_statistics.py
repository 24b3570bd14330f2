import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from study.analysis.statistics import holm, seeds_needed, smallest_p, t_interval, t_test_p, wilcoxon_p
from study.errors import StudyError

finite = st.floats(-1e3, 1e3, width=32)


def test_t_interval_is_the_one_worked_by_hand():
    # mean 3, s = sqrt(2.5), t(4, .975) = 2.7764451: half-width 2.7764451 * sqrt(2.5 / 5)
    interval = t_interval([1, 2, 3, 4, 5])
    assert interval.mean == 3
    assert interval.half_width == pytest.approx(2.7764451 * math.sqrt(0.5), rel=1e-6)
    assert (interval.low, interval.high) == pytest.approx((1.0367568, 4.9632432), rel=1e-6)
    assert interval.num_values == 5


@given(st.lists(finite, min_size=2, max_size=12), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_t_interval_agrees_with_scipy(values, level):
    interval = t_interval(values, level)
    if len(set(values)) == 1:
        assert interval.half_width == 0
    else:
        expected = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
        assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_values_have_no_interval_and_no_test(values):
    assert t_interval(values) is None
    assert t_test_p(values) is None
    assert wilcoxon_p(values) is None


@pytest.mark.parametrize("statistic", [t_interval, t_test_p, wilcoxon_p])
def test_values_that_are_not_finite_are_refused_and_not_averaged(statistic):
    with pytest.raises(StudyError, match=r"finite values, got \[1\.0, nan, 2\.0\]"):
        statistic([1.0, math.nan, 2.0])


@pytest.mark.parametrize("level", [0, 1, 95])
def test_level_must_be_a_probability(level):
    with pytest.raises(StudyError, match=f"between 0 and 1, got {level}"):
        t_interval([1, 2], level)


@given(st.lists(finite, min_size=2, max_size=10))
def test_t_test_and_interval_say_the_same(values):
    p = t_test_p(values)
    if abs(p - 0.05) > 1e-9:
        assert (p > 0.05) == t_interval(values).contains(0.0)


def test_t_test_of_equal_differences_is_certain_and_of_zeros_says_nothing():
    assert t_test_p([0.1] * 3) == 0
    assert t_test_p([0.0] * 3) == 1


@pytest.mark.parametrize(
    ("count", "smallest"), [(5, 0.0625), (6, 0.03125), (7, 0.015625), (8, 0.0078125), (10, 0.001953125)]
)
def test_smallest_p_is_what_wilcoxon_gives_to_differences_of_one_sign(count, smallest):
    assert wilcoxon_p(np.arange(1, count + 1)) == pytest.approx(smallest)
    assert smallest_p(count) == smallest


def test_wilcoxon_of_a_worked_case():
    # |d| ranks 1..5, only rank 2 is negative: W = 2; P(W <= 2) = (1 + 1 + 1) / 32, two-sided 6 / 32
    assert wilcoxon_p([1, -2, 3, 4, 5]) == pytest.approx(6 / 32)


def test_wilcoxon_of_twins_is_one():
    assert wilcoxon_p([0.0, 0.0, 0.0]) == 1


@given(st.lists(finite.filter(bool), min_size=2, max_size=8))
def test_wilcoxon_does_not_depend_on_the_direction(values):
    assert wilcoxon_p(values) == pytest.approx(wilcoxon_p([-value for value in values]))


def test_holm_of_a_worked_case():
    # ordered .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, made monotone: .02 .03 .06 .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_nothing_is_nothing_and_of_one_is_itself():
    assert holm([]) == []
    assert holm([0.3]) == [0.3]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_lies_between_the_plain_p_and_bonferroni(values):
    for plain, adjusted in zip(values, holm(values), strict=True):
        assert plain <= adjusted <= min(1, plain * len(values) * (1 + 1e-12))


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(StudyError, match=r"between 0 and 1, got \[0\.1, nan\]"):
        holm([0.1, math.nan])


@pytest.mark.parametrize(("tests", "seeds"), [(1, 6), (4, 8), (5, 8), (15, 10)])
def test_seeds_needed_are_the_fewest_that_can_reach_the_level(tests, seeds):
    assert seeds_needed(tests) == seeds
    assert smallest_p(seeds) * tests <= 0.05 < smallest_p(seeds - 1) * tests


def test_paired_interval_covers_the_true_difference_as_often_as_it_says():
    generator = np.random.default_rng(1)
    seeds = generator.normal(0, 1, size=(400, 5))
    first = seeds + 0.3 + generator.normal(0, 0.2, size=seeds.shape)
    second = seeds + generator.normal(0, 0.2, size=seeds.shape)
    covered = np.mean([t_interval(difference).contains(0.3) for difference in first - second])
    assert 0.92 <= covered <= 0.98  # .95 within three standard errors
