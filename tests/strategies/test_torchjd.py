"""The adapter to TorchJD: mistakes in one line, resuming, random numbers, weights."""

import builtins
import importlib.util
import io
import sys

import pytest
import torch

import strategies
from strategies import StrategyError
from strategies.testing import CHECKS
from strategies.torchjd import TorchJDAggregation, aggregators
from strategies.toys import ToyTrial, factory, linear_steps

pytest.importorskip("torchjd")

OPTIONS = {
    "CAGrad": {"c": 0.5},
    "FairGrad": {"alpha": 1.0},
    "Constant": {"weights": [0.2, 0.3, 0.5]},
    "TrimmedMean": {"trim_number": 1},
}
WITHOUT_WEIGHTS = ["ConFIG", "GradDrop", "TrimmedMean"]
STATEFUL = ["NashMTL", "GradVac", "ExcessMTL", "PCD"]
RANDOM = ["PCGrad", "GradDrop", "Random", "GradVac"]

pytestmark = pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP")


def build(aggregator, num_tasks=3, **options):
    given = {**OPTIONS.get(aggregator, {}), **options}
    return strategies.create("torchjd", num_tasks, aggregator=aggregator, options=given)


def random_steps(count, num_tasks=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(num_tasks, 6, generator=generator) for _ in range(count)], [torch.ones(num_tasks)] * count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregator": "NashMTLL"}, r"unknown aggregator of TorchJD 'NashMTLL' \(known: .*did you mean 'NashMTL'\?$"),
        ({"aggregator": "Aggregator"}, "unknown aggregator of TorchJD 'Aggregator'"),
        ({"aggregator": "MGDAWeighting"}, "unknown aggregator of TorchJD 'MGDAWeighting'"),
        ({"aggregator": "CAGrad"}, "CAGrad: .* missing 1 required positional argument: 'c'$"),
        ({"aggregator": "CAGrad", "options": {"c": -1.0}}, "CAGrad: c must be non-negative, but got -1.0"),
        ({"aggregator": "CAGrad", "options": {"cc": 1.0}}, "unknown option of CAGrad 'cc' .known: c, norm_eps"),
        ({"aggregator": "PCD", "options": {"tau": 2}}, "PCD: Attribute `tau` must be in .*Found tau=2"),
        ({"aggregator": "UPGrad", "options": {"pref_vector": 0.3}}, "UPGrad: 'float' object has no attribute 'ndim'"),
        ({"aggregator": "UPGrad", "options": {"pref_vector": ["a"]}}, "UPGrad: .*'str'"),
        ({"aggregator": "MGDA", "at": "trunk"}, "unknown at 'trunk'"),
        ({}, "strategy 'torchjd' needs the option 'aggregator'"),
    ],
)
def test_a_mistake_is_told_in_one_line(options, message):
    with pytest.raises(StrategyError, match=message) as failure:
        strategies.create("torchjd", 3, **options)
    assert "\n" not in str(failure.value)


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch):
    original = builtins.__import__

    def without_torchjd(name, *arguments, **keywords):
        if name.partition(".")[0] == "torchjd":
            raise ModuleNotFoundError(f"No module named '{name}'")
        return original(name, *arguments, **keywords)

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchjd"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_torchjd)
    with pytest.raises(StrategyError, match=r'TorchJD is not installed: pip install "weighting-study\[jd\]"$'):
        strategies.create("torchjd", 2, aggregator="MGDA")


@pytest.mark.parametrize(
    ("aggregator", "package"), [("NashMTL", "ecos"), ("CAGrad", "clarabel"), ("UPGrad", "quadprog")]
)
def test_a_missing_solver_is_one_line_that_says_what_to_install(monkeypatch, aggregator, package):
    mixins = importlib.import_module("torchjd._mixins")
    find = importlib.util.find_spec
    monkeypatch.setattr(mixins, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(
        StrategyError, match=rf"{aggregator} needs a package .*{package}.*weighting-study\[jd\]"
    ) as failure:
        build(aggregator)
    assert "\n" not in str(failure.value)


def test_an_error_of_the_aggregator_is_one_line_that_names_it():
    strategy = build("Krum", n_byzantine=1)
    with pytest.raises(StrategyError, match=r"torchjd: Krum: .*should have at least 4 rows") as failure:
        linear_steps(strategy, *random_steps(1))
    assert "\n" not in str(failure.value)


def test_a_message_of_several_lines_becomes_one(monkeypatch):
    strategy = build("MGDA")

    def fails(matrix):
        raise RuntimeError("the first line\n  and the second")

    monkeypatch.setattr(strategy._aggregators[0], "forward", fails)
    monkeypatch.setattr(strategy._aggregators[0].weighting, "forward", fails)
    with pytest.raises(StrategyError, match=r"torchjd: MGDA: the first line and the second$"):
        linear_steps(strategy, *random_steps(1))


@pytest.mark.parametrize("aggregator", STATEFUL)
def test_an_aggregator_that_remembers_is_refused_at_the_features(aggregator):
    with pytest.raises(StrategyError, match=f"{aggregator} remembers earlier steps, so it works at the parameters"):
        strategies.create("torchjd", 3, aggregator=aggregator, at="features")


def test_an_option_may_be_a_list_as_in_a_definition():
    strategy = build("UPGrad", 2, pref_vector=[1, 3])
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    found = linear_steps(strategy, [rows], [torch.ones(2)])[0]
    torch.testing.assert_close(found.weights, torch.tensor([1.0, 3.0]), rtol=1e-3, atol=1e-3)
    assert strategy.describe_options()["options"] == {"pref_vector": [1, 3]}
    assert linear_steps(build("Constant"), *random_steps(1))[0].weights.tolist() == pytest.approx([0.2, 0.3, 0.5])


def test_a_step_that_is_no_weighted_sum_is_that_of_the_aggregator():
    # ConFIG has a weighting too: of the projections, and not of the gradients
    gradients, losses = random_steps(1)
    found = linear_steps(build("ConFIG"), gradients, losses)[0]
    torch.testing.assert_close(found.direction, aggregators()["ConFIG"]()(gradients[0]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found.direction, gradients[0].sum(dim=0), atol=0.1)


def test_an_aggregator_with_weights_reports_them_and_one_without_reports_ones():
    gradients, losses = random_steps(1)
    for name in sorted(set(aggregators()) - {"Krum"}):
        found = linear_steps(build(name), gradients, losses)[0]
        if name in WITHOUT_WEIGHTS:
            assert found.weights.tolist() == [1.0, 1.0, 1.0], name
        else:
            torch.testing.assert_close(found.direction, found.weights @ gradients[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.heads, found.weights.clamp(min=0))
    krum = linear_steps(
        strategies.create("torchjd", 5, aggregator="Krum", options={"n_byzantine": 1}), *random_steps(1, 5)
    )
    assert sorted(krum[0].weights.tolist()) == [0.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("aggregator", [*STATEFUL, "PCGrad", "GradDrop", "UPGrad"])
def test_resumed_through_a_file_equals_uninterrupted(aggregator):
    make = factory(TorchJDAggregation, aggregator=aggregator, options=OPTIONS.get(aggregator, {}))
    whole, first, second = (ToyTrial.build(make, 3) for _ in range(3))
    expected = whole.train(6)
    first.train(3)
    file = io.BytesIO()
    torch.save(first.state(), file)
    second.load(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    found = second.train(3)
    assert [each.tolist() for each in found] == [each.tolist() for each in expected[3:]]
    assert all(map(torch.equal, second.network.parameters(), whole.network.parameters()))


def test_what_a_stateful_aggregator_remembers_matters_for_the_test_above():
    gradients, losses = random_steps(4)
    for aggregator in ("GradVac", "ExcessMTL", "PCD"):
        later = linear_steps(build(aggregator), gradients, losses)[-1]
        fresh = linear_steps(build(aggregator), gradients[-1:], losses[-1:])[-1]
        assert not torch.allclose(later.direction, fresh.direction), aggregator


@pytest.mark.parametrize("aggregator", RANDOM)
def test_random_numbers_follow_seed_and_step_and_leave_the_global_generator_alone(aggregator):
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(3, 200, generator=generator)
    gradients = [rows - rows.mean(dim=0)] * 8  # each opposes the two others
    losses = [torch.ones(3)] * 8
    before = torch.get_rng_state()
    one, again = (linear_steps(build(aggregator), gradients, losses) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first.direction, second.direction) for first, second in zip(one, again, strict=True))
    if aggregator != "GradVac":  # its steps differ by what it remembers, too
        assert len({tuple(step.direction.tolist()) for step in one}) > 1


@pytest.mark.parametrize("aggregator", ["Random", "GradDrop"])
def test_micro_batches_of_a_step_draw_the_same_numbers_at_the_features(aggregator):
    trial = ToyTrial.build(factory(TorchJDAggregation, aggregator=aggregator, at="features"), 3)
    found = []
    for _ in range(2):
        trial.optimizer.zero_grad()
        trial.backward()
        found.append(trial.gradients())
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("aggregator", ["PCD", "UPGrad"])
def test_the_adapter_keeps_the_contract_with_other_aggregators(aggregator, check):
    check(factory(TorchJDAggregation, aggregator=aggregator))
