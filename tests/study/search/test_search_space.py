import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.options import Choices, Range
from study.errors import DefinitionError
from study.search.space import Choice, Interval, Space, from_tunable

DIMENSIONS = [
    Interval(1e-4, 1e-2, log=True),
    Interval(-1, 3),
    Interval(0.1, 0.9, step=0.1),
    Interval(1, 64, integer=True, log=True),
    Interval(0, 10, integer=True, step=4),
    Choice(("a", None, 3, [0.5, 0.5])),
]


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=str)
@given(unit=st.floats(0, 1), factor=st.sampled_from([0.8, 1.2]))
def test_every_place_of_a_dimension_holds_a_value_that_optuna_takes_too(dimension, unit, factor):
    value = dimension.at(unit)
    distribution = dimension.distribution()
    nearby = dimension.neighbour(value, factor)
    for each in (value, nearby):
        assert each in dimension
        assert distribution._contains(distribution.to_internal_repr(dimension.label(each)))
        assert dimension.unlabelled(dimension.label(each)) == each
    assert 0 <= dimension.unit(value) <= 1


def test_draws_are_uniform_on_the_scale_of_the_range():
    units = (np.arange(1000) + 0.5) / 1000
    logs = [np.log10(Interval(1e-4, 1e-2, log=True).at(unit)) for unit in units]
    assert np.histogram(logs, bins=4, range=(-4, -2))[0].tolist() == [250] * 4
    wholes = [Interval(1, 4, integer=True).at(unit) for unit in units]
    assert [wholes.count(value) for value in (1, 2, 3, 4)] == [250] * 4
    stepped = [Interval(0, 10, integer=True, step=4).at(unit) for unit in units]
    assert sorted(set(stepped)) == [0, 4, 8]


def test_a_grid_has_both_ends_and_no_more_points_than_the_budget():
    space = Space({"a": Interval(1e-4, 1e-2, log=True), "b": Interval(0, 1), "c": Choice(("x", "y"))})
    assert space.grid(20)[:3] == [
        {"a": 1e-4, "b": 0.0, "c": "x"},
        {"a": 1e-4, "b": 0.0, "c": "y"},
        {"a": 1e-4, "b": 0.5, "c": "x"},
    ]
    assert [len(space.grid(most)) for most in (8, 17, 18, 32, None)] == [8, 8, 18, 32, 50]
    with pytest.raises(DefinitionError, match="at least 8 points, but the budget has 7 trials"):
        space.grid(7)


def test_a_step_is_kept_in_a_grid_and_the_end_is_what_steps_reach():
    assert Interval(0, 1, step=0.4).grid(2) == (0.0, 0.4, 0.8)
    assert Interval(0, 1, step=0.4).edge(0.8) == "high"
    assert (0.4 in Interval(0, 1, step=0.4), 0.5 in Interval(0, 1, step=0.4)) == (True, False)


def test_edges_are_told_and_choices_have_none():
    learning_rate = Interval(1e-4, 1e-2, log=True)
    assert [learning_rate.edge(value) for value in (1e-4, 1e-3, 9.9e-3, None)] == ["low", None, "high", None]
    assert Choice((1, 2)).edge(1) is None


def test_what_a_strategy_declares_becomes_a_dimension():
    assert from_tunable(Range(0.1, 10, log=True)) == Interval(0.1, 10, log=True)
    assert from_tunable(Choices(("mean", "replay"))) == Choice(("mean", "replay"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Interval(1, 0), "the range is upside down: low 1 is above high 0"),
        (lambda: Interval(1, 1), "holds one value: nothing to search"),
        (lambda: Interval(0, float("inf")), "has no end"),
        (lambda: Interval(0, 1, log=True), "must start above 0"),
        (lambda: Interval(0.5, 2, integer=True), "needs whole ends and steps"),
        (lambda: Interval(1, 2, log=True, step=0.5), "cannot have both log and step"),
        (lambda: Interval(0, 1, step=2), "step 2 must be above 0 and at most 1"),
        (lambda: Choice(("a",)), "1 choices: a search needs at least two"),
        (lambda: Choice((1, 2, 1.0)), "the choices repeat 1.0"),
    ],
)
def test_a_dimension_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(DefinitionError, match=re.escape(message)):
        make()


def test_a_point_from_another_space_is_refused_with_the_nearest_name():
    space = Space({"training.learning_rate": Interval(1e-4, 1e-2, log=True), "strategy.alpha": Interval(0, 3)})
    for values, message in (
        ({"training.learning_rat": 1e-3}, "did you mean 'training.learning_rate'"),
        ({"training.learning_rate": 1e-3}, "has no strategy.alpha, which is searched here"),
        (
            {"training.learning_rate": 1e-3, "strategy.alpha": 4},
            "strategy.alpha is 4, outside of what is searched: 0..3",
        ),
    ):
        with pytest.raises(DefinitionError, match=message):
            space.check(values, "search.start_from")
