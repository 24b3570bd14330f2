"""Names of strategies, those of other distributions among them."""

import pickle
import sys
from importlib.metadata import entry_points

import pytest

import strategies
from strategies import StrategyError
from strategies.options import argument_docs

PLUGIN = """
import torch
from strategies import Strategy

raise_at_import = {fault}

class Halves(Strategy):
    '''Half of everything.

    Args:
        num_tasks: number of tasks T.
        power: of two,
            1 by default.
    '''
    reference = "nobody, 2026"

    def __init__(self, num_tasks, *, power=1):
        super().__init__(num_tasks)
        if power == 0:
            raise ValueError("power is 0")
        self.power = power + 0

    def weights(self, losses):
        return torch.full_like(losses, 0.5**self.power)

number = 3
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that puts a distribution with entry points on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(distribution, registered, fault="None"):
        module = distribution.replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(PLUGIN.format(fault=fault))
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{attribute}" for name, attribute in registered.items()]
        (info / "entry_points.txt").write_text("\n".join(["[study.strategies]", *lines, ""]))

    return put


def test_the_strategies_of_the_project_are_there():
    built_in = ["static", "equal", "single_task", "softmax", "uncertainty", "gradnorm"]
    assert strategies.names()[: len(built_in)] == built_in


def test_an_installed_strategy_is_found_and_built(install):
    install("plugin-of-halves", {"halves": "Halves"})
    assert "halves" in strategies.names()
    assert strategies.create("halves", 2, power=2).describe_options() == {"power": 2}
    described = strategies.describe("halves")
    assert (described.distribution, described.module) == ("plugin-of-halves", "plugin_of_halves")
    assert described.summary == "Half of everything."
    assert [(each.name, each.default, each.required, each.doc) for each in described.options] == [
        ("power", 1, False, "of two, 1 by default.")
    ]


def test_listing_imports_nothing(install):
    install("plugin-unused", {"unused": "Halves"})
    assert "unused" in strategies.names()
    assert "plugin_unused" not in sys.modules


def test_a_broken_plug_in_breaks_only_its_own_users(install):
    install("plugin-broken", {"broken": "Halves"}, fault="1 / 0")
    assert strategies.create("equal", 2).num_tasks == 2
    with pytest.raises(StrategyError, match=r"'broken' \(plugin_broken:Halves\) cannot be loaded: ZeroDivisionError"):
        strategies.create("broken", 2)


def test_a_clash_of_names_says_where_both_are(install):
    install("plugin-clash", {"equal": "Halves"})
    with pytest.raises(
        StrategyError,
        match=r"'equal' is registered twice, as strategies\.static:EqualWeighting and as plugin_clash:Halves",
    ):
        strategies.names()


def test_an_entry_that_is_no_strategy_is_refused(install):
    install("plugin-number", {"number": "number"})
    with pytest.raises(StrategyError, match=r"'number' is 3, which is not a subclass of strategies\.base\.Strategy"):
        strategies.create("number", 2)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(StrategyError, match=r"unknown strategy 'gradnrom' \(known: .*\); did you mean 'gradnorm'\?"):
        strategies.create("gradnrom", 2)


def test_an_unknown_option_suggests_the_nearest():
    with pytest.raises(StrategyError, match=r"unknown option of strategy 'gradnorm' 'alhpa' .* did you mean 'alpha'\?"):
        strategies.create("gradnorm", 2, alhpa=1)


def test_a_missing_option_is_named():
    with pytest.raises(StrategyError, match="strategy 'single_task' needs the option 'task'"):
        strategies.create("single_task", 2)


@pytest.mark.parametrize(("power", "message"), [("x", "can only concatenate str"), (0, "power is 0")])
def test_a_value_that_a_plug_in_cannot_use_is_told_in_one_line(install, power, message):
    install("plugin-values", {"valued": "Halves"})
    with pytest.raises(StrategyError, match=f"strategy 'valued': {message}"):
        strategies.create("valued", 2, power=power)


def test_errors_come_back_from_a_worker():
    with pytest.raises(StrategyError) as caught:
        strategies.create("nothing", 2)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_of_the_project_is_described_in_full(name):
    described = strategies.describe(name)
    assert described.distribution == "weighting-study"
    assert described.summary
    assert "http" in described.reference
    assert all(option.doc for option in described.options)
    required = [option.name for option in described.options if option.required]
    assert required == {"static": ["weights"], "single_task": ["task"]}.get(name, [])


def test_no_entry_points_of_the_group_are_needed():
    assert all(entry.group == "study.strategies" for entry in entry_points(group="study.strategies"))


def test_argument_docs_of_a_class_without_arguments_are_empty():
    assert argument_docs("Nothing to say.") == {}
