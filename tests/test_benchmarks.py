"""The cost benchmark compares like with like, and runs where only PyTorch is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--batch", "2", "--seconds", "0.08", "--rounds", "1", "--strategies", "equal,gradnorm,mgda"]


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import strategy_steps

    return strategy_steps


@pytest.fixture
def cost(steps):
    import strategy_cost

    return strategy_cost


@pytest.fixture
def bench(steps):
    tasks = steps.TASKS[:3]
    return steps.Bench(tasks, steps.make_batch(tasks, 4, 0.2, ["audio"], 32), "small", ["audio"], "float32")


def gradients(bench, compute):
    bench.optimizer.zero_grad()
    torch.manual_seed(0)
    compute()
    return {name: parameter.grad.clone() for name, parameter in bench.network.named_parameters()}


def run(tmp_path, *options, without=()):
    script = ROOT / "benchmarks" / "strategy_cost.py"
    program = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({without!r})); sys.path[:0] = [{str(script.parent)!r}]; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    file = tmp_path / "figures.json"
    command = [sys.executable, "-c", program, *TINY, *options, "--json", str(file)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout, {figure["name"]: figure for figure in json.loads(file.read_text())["figures"]}


@pytest.mark.parametrize("trunks", [1, 3, 6])
def test_the_passes_without_a_method_give_the_gradient_of_the_sum(bench, trunks):
    expected = gradients(bench, bench.plain)
    found = gradients(bench, lambda: bench.passes(trunks))
    for name, gradient in expected.items():
        times = 2 if trunks == 6 and not name.startswith("heads") else 1  # as often as a method with two samples
        torch.testing.assert_close(found[name], times * gradient, rtol=1e-4, atol=1e-6)


def test_both_of_torchjds_ways_give_the_gradient_of_the_sum(bench, steps):
    aggregator = pytest.importorskip("torchjd.aggregation").Sum()
    expected = gradients(bench, bench.plain)
    for compute in (
        lambda: steps.torchjd_parameters(bench, aggregator, 1),
        lambda: steps.torchjd_features(bench, aggregator),
    ):
        for name, gradient in gradients(bench, compute).items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_peak_memory_is_the_same_every_time_and_counts_a_buffer_that_lives_for_a_moment(bench, cost):
    def step():
        torch.empty(5_000_000, dtype=torch.uint8)
        torch.empty(2_000_000, dtype=torch.uint8)

    assert [cost.peak_of_step(bench, step) for _ in range(2)] == [5_000_000, 5_000_000]


def test_a_target_is_missed_if_the_whole_interval_is_above_it(cost, steps):
    plain, slow, unclear = [1.0] * 30, [1.1, 1.2] * 15, [1.0] * 14 + [1.1] * 16
    candidates = [
        steps.Candidate(steps.PLAIN, None),
        steps.Candidate("slow", None, target=1.03),
        steps.Candidate("unclear", None, target=1.03, peer="slow"),
    ]
    seconds = {steps.PLAIN: plain, "slow": slow, "unclear": unclear}
    found = cost.figures(candidates, seconds, dict.fromkeys(seconds, 1))
    assert found["slow"].misses == ["ratio"]
    assert (found["unclear"].misses, found["unclear"].unclear) == ([], ["ratio"])
    assert found["slow"].ratio == pytest.approx(1.15)


def test_the_benchmark_measures_each_strategy_at_both_places(tmp_path):
    pytest.importorskip("torchjd")
    text, found = run(tmp_path, "--markdown")
    assert [name for name in found if not name.startswith(("plain", "TorchJD"))] == [
        "1 trunk + T heads",
        "T trunks + T heads",
        "equal",
        "gradnorm",
        "mgda",
        "mgda at=parameters",
    ]
    assert found["mgda"]["bound"] == "1 trunk + T heads"
    assert found["mgda"]["peer"] == "TorchJD: mgda"
    assert found["mgda at=parameters"]["memory"] > found["mgda"]["memory"]
    assert text.startswith("| candidate | ms/step | ratio |")


def test_the_benchmark_needs_neither_torchjd_nor_ray_nor_mlflow(tmp_path):
    modules = ("torchjd", "ray", "mlflow", "typer", "pydantic", "rich", "optuna")
    text, found = run(tmp_path, "--tasks", "5", without=modules)
    assert "TorchJD is not installed: its columns are empty" in text
    assert {figure["peer"] for figure in found.values()} == {None}
