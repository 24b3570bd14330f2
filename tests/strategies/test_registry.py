"""Names of strategies, those of other distributions among them."""

import pickle
import shutil
import sys
from importlib.metadata import entry_points

import pytest

import strategies
from strategies import StrategyError, registry
from strategies.options import argument_docs

PLUGIN = """
import torch
from strategies import Strategy
from strategies.options import Range

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

class Facts(Halves):
    kind, passes, weight_scale, year, coincides = "gradient", "T backwards", "sum T", 2020, {{"equal": "T=2"}}
    claims = frozenset({{"scale", "permutation"}})
    tunable = {{"power": Range(0.1, 10, log=True)}}

class Odd(Halves):
    coincides = 7

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
    built_in = [
        *("static", "equal", "single_task", "frozen", "rlw", "softmax", "uncertainty", "uncertainty_plus"),
        *("uncertainty_so", "dwa", "gls", "log", "imtl_l", "stch", "famo", "gradnorm", "mgda", "pcgrad", "gradvac"),
        *("graddrop", "cagrad", "imtl_g", "imtl", "nash_mtl", "fairgrad", "aligned_mtl", "upgrad", "dualproj"),
        *("config", "sdmgrad", "modo", "db_mtl", "moco", "excess_mtl", "torchjd"),
    ]
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
    with pytest.raises(
        StrategyError, match=r"'broken' \(plugin_broken:Halves, of plugin-broken\) cannot be loaded: ZeroDivisionError"
    ):
        strategies.create("broken", 2)


def test_a_plug_in_that_exits_when_it_is_imported_ends_nothing(install):
    install("plugin-exiting", {"exiting": "Halves"}, fault="exit(3)")
    with pytest.raises(StrategyError, match=r"'exiting' \(.*\) cannot be loaded: SystemExit: 3"):
        strategies.load("exiting")


def test_a_name_of_the_project_stays_its_own_and_the_clash_names_both(install):
    install("plugin-clash", {"equal": "Halves", "halves": "Halves"})
    assert strategies.load("equal").__module__ == "strategies.static"
    assert "plugin_clash" not in sys.modules
    assert strategies.create("halves", 2).power == 1
    assert registry.REGISTRY.clashes() == {
        "equal": "strategy 'equal' is registered by weighting-study (strategies.static:EqualWeighting) and by "
        "plugin-clash (plugin_clash:Halves): the first is used; rename one of them or uninstall it"
    }


def test_a_name_of_two_plug_ins_is_refused_to_its_users_alone(install):
    install("plugin-one", {"halves": "Halves", "mine": "Halves"})
    install("plugin-two", {"halves": "Halves"})
    assert "mine" in strategies.names()
    assert "halves" not in strategies.names()
    assert strategies.create("mine", 2).power == 1
    with pytest.raises(
        StrategyError,
        match=r"'halves' is registered by plugin-\w+ \(plugin_\w+:Halves\) and by plugin-\w+ .*: neither is used",
    ):
        strategies.load("halves")


def test_one_distribution_found_twice_is_no_clash(install, tmp_path, monkeypatch):
    install("plugin-twice", {"twice": "Halves"})
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "plugin_twice-1.0.dist-info", again / "other_name-1.0.dist-info")
    (again / "other_name-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: other-name\nVersion: 1\n"
    )
    monkeypatch.syspath_prepend(again)
    assert registry.REGISTRY.clashes() == {}
    assert strategies.create("twice", 2).power == 1


def test_the_catalogue_lists_what_works_and_names_what_does_not(install):
    install("plugin-broken", {"broken": "Halves"}, fault="1 / 0")
    install("plugin-clash", {"equal": "Halves"})
    install("plugin-odd", {"odd": "Odd", "fine": "Halves"})
    found, problems = registry.catalogue()
    assert {"equal", "gradnorm", "fine"} <= {each.name for each in found}
    assert not {"broken", "odd"} & {each.name for each in found}
    clash, broken, odd = sorted(problems, key=lambda line: ["'equal'", "'broken'", "'odd'"].index(line.split()[1]))
    assert "registered by weighting-study" in clash
    assert "'broken' (plugin_broken:Halves, of plugin-broken) cannot be loaded: ZeroDivisionError" in broken
    assert odd.startswith("strategy 'odd' cannot be described: TypeError: ")
    assert not any("\n" in problem for problem in problems)


def test_a_description_carries_what_the_class_declares(install):
    install("plugin-facts", {"facts": "Facts"})
    described = strategies.describe("facts")
    assert (described.kind, described.passes, described.weight_scale) == ("gradient", "T backwards", "sum T")
    assert (described.year, described.coincides) == (2020, {"equal": "T=2"})
    assert described.claims == ("permutation", "scale")
    assert [option.search for option in described.options] == ["0.1..10 (log)"]


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
    assert required == {
        "static": ["weights"],
        "single_task": ["task"],
        "frozen": ["trajectory"],
        "torchjd": ["aggregator"],
    }.get(name, [])


def test_no_entry_points_of_the_group_are_needed():
    assert all(entry.group == "study.strategies" for entry in entry_points(group="study.strategies"))


def test_argument_docs_of_a_class_without_arguments_are_empty():
    assert argument_docs("Nothing to say.") == {}
