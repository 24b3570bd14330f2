import pytest

from strategies.options import Choices, Range
from study.definition import Definition
from study.definition import validate as validated
from study.errors import DefinitionError
from study.search.assembly import LEARNING_RATES, Declared, method_spaces
from study.search.settings import Search
from study.search.space import Choice, Interval


def definition(search):
    return validated({"name": "x", "arms": [{"strategy": "equal"}], "search": search}, "x.yaml")


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"space": {"training.learning_rate": {"low": 1, "high": 0.1}}},
            "space.training.learning_rate is .*: the range is upside down",
        ),
        ({"space": {"a": {"choices": []}}}, "space.a is .*: 0 choices"),
        ({"space": {"a": 3}}, "expected {low: ..., high: ...}"),
        ({"methods": {"m": {"a": {"low": 0, "high": 1, "log": True}}}}, "methods.m.a is .*: a logarithmic range"),
        ({"objective": "map/emotion"}, "say its direction"),
        ({"objective": "test/nll/emotion"}, "a search looks at validation alone"),
        ({"objective": "weighted_nll"}, "no measure of methods"),
        ({"objective": ["joint_nll", "joint_nll"]}, "names a metric twice"),
        ({"objective": ["joint_nll", "uar/emotion"], "scheduler": "asha"}, "needs one objective, and there are 2"),
        (
            {"searcher": "nsga2", "scheduler": "asha"},
            "use scheduler none, or one of the searchers grid, random, tpe, qmc",
        ),
        ({"searcher": "tpe", "scheduler": "pbt"}, "use searcher random or qmc"),
        ({"budget": {}}, "needs at least one of trials, epochs, hours and wall_clock_hours"),
        ({"budget": {"trials": 0}}, "greater than or equal to 1"),
        ({"scheduler": "asha", "options": {"graze": 1}}, "did you mean 'grace'"),
        ({"scheduler": "asha", "options": {"reduction": 1}}, "a whole number of at least 2"),
        ({"scheduler": "pbt", "searcher": "random", "options": {"quantile": 0.7}}, "at most 0.5"),
        ({"scheduler": "paired"}, "needs at least 2"),
        ({"scheduler": "paired", "seeds": 3, "options": {"test": "wilcoxon"}}, "p is never below 0.25"),
        ({"scheduler": "paired", "seeds": 3, "options": {"test": "sign"}}, "expected t or wilcoxon"),
        ({"searcher": "grid", "start_from": ["weighting"]}, "a grid tries its own points alone"),
        ({"sercher": "tpe"}, "did you mean 'searcher'"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_in_one_line(search, message):
    with pytest.raises(DefinitionError, match=message.replace("{", r"\{")) as refusal:
        definition(search)
    assert "\n" not in str(refusal.value)


def test_a_definition_with_a_search_loads_back_from_its_own_yaml():
    import yaml

    given = {
        "objective": [{"metric": "f2/emotion", "direction": "maximize"}, "joint_nll"],
        "space": {"training.learning_rate": {"low": "1e-4", "high": 1e-2, "log": True}, "a": {"choices": [1, "b"]}},
    }
    made = definition(given)
    assert Definition.model_validate(yaml.safe_load(made.as_yaml())) == made
    assert [objective.column for objective in made.search.objective] == ["valid/f2/emotion", "valid/joint_nll"]
    assert made.search.objective[0].loss(0.25) == -0.25
    assert made.search.seed_numbers == (1000,)


METHODS = {
    "gradnorm": Declared(
        {"alpha": Range(0, 3), "learning_rate": Range(1e-3, 0.1, log=True)}, ("alpha", "learning_rate")
    ),
    "mgda": Declared({"normalisation": Choices(("none", "l2"))}, ("normalisation",)),
    "fixed": Declared({"alpha": Range(0, 3)}, ("alpha",), fixed=("alpha",)),
    "static grid": Declared(own={"strategy.weights": Choice(([0, 1], [1, 0]))}),
}


def spaces(**search):
    return method_spaces(METHODS, Search(**search), ("training.learning_rate", "training.weight_decay"))


def test_every_method_tunes_the_learning_rate_and_what_its_strategy_declares():
    assert {name: list(space) for name, space in spaces().items()} == {
        "gradnorm": ["training.learning_rate", "strategy.alpha", "strategy.learning_rate"],
        "mgda": ["training.learning_rate", "strategy.normalisation"],
        "fixed": ["training.learning_rate"],
        "static grid": ["training.learning_rate", "strategy.weights"],
    }
    assert spaces()["mgda"].dimensions["training.learning_rate"] == LEARNING_RATES


def test_the_definition_overrides_for_all_for_those_with_the_option_and_for_one_method():
    found = spaces(
        space={
            "training.weight_decay": {"low": 0, "high": 1},
            "strategy.alpha": {"low": 1, "high": 2},
            "strategy.gradnorm.learning_rate": {"low": 1, "high": 2},
        },
        methods={"fixed": {"strategy.alpha": {"choices": [1, 2]}}},
    )
    assert all("training.weight_decay" in space for space in found.values())
    assert found["gradnorm"].dimensions["strategy.alpha"] == Interval(1, 2)
    assert found["gradnorm"].dimensions["strategy.learning_rate"] == Interval(1, 2)
    assert found["fixed"].dimensions["strategy.alpha"] == Choice((1, 2))
    assert "strategy.alpha" not in found["mgda"]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"space": {"training.learning_rat": {"low": 0, "high": 1}}}, "did you mean 'training.learning_rate'"),
        ({"space": {"strategy.alfa": {"low": 0, "high": 1}}}, "did you mean 'alpha'"),
        ({"space": {"strategy.gradnrom.alpha": {"low": 0, "high": 1}}}, "did you mean 'gradnorm'"),
        ({"space": {"strategy.mgda.alpha": {"low": 0, "high": 1}}}, "unknown option of mgda 'alpha'"),
        ({"methods": {"gradnrom": {}}}, "did you mean 'gradnorm'"),
        (
            {"methods": {"mgda": {"strategy.alpha": {"low": 0, "high": 1}}}},
            "search.methods.mgda: unknown hyperparameter",
        ),
    ],
)
def test_a_hyperparameter_that_no_method_has_is_refused_with_the_nearest_name(search, message):
    with pytest.raises(DefinitionError, match=message):
        spaces(**search)
