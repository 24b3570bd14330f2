import json
import math
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainables.diagnostics import Diagnostics, GradientProbe, gradient_probe, shares

TASKS = ("emotion", "gender", "valence")


def worked_case():
    """Three losses of two parameters with the gradients (3, 4), (0, 2) and (0, -1)."""
    first, second = nn.Parameter(torch.tensor([0.3])), nn.Parameter(torch.tensor([0.7]))
    losses = torch.stack([3 * first[0] + 4 * second[0], 2 * second[0], -second[0]])
    return losses, [first, second]


def probe_of(norms, cosine):
    """What a probe of two tasks found."""
    off = torch.tensor([[1.0, cosine], [cosine, 1.0]], dtype=torch.float64)
    return GradientProbe(torch.tensor(norms, dtype=torch.float64), off)


def test_lengths_and_angles_of_a_worked_case_run_over_all_parameters_of_the_layer():
    probe = gradient_probe(*worked_case())
    assert probe.norms.tolist() == pytest.approx([5, 2, 1])
    expected = [[1, 0.8, -0.8], [0.8, 1, -1], [-0.8, -1, 1]]
    torch.testing.assert_close(probe.cosines, torch.tensor(expected, dtype=torch.float64))


def test_a_task_without_gradient_has_length_zero_and_no_angle():
    parameter = nn.Parameter(torch.ones(2))
    elsewhere = nn.Parameter(torch.ones(2))
    probe = gradient_probe(torch.stack([parameter.sum(), elsewhere.sum(), parameter.sum() * 0]), [parameter])
    assert probe.norms.tolist() == pytest.approx([math.sqrt(2), 0, 0])
    assert probe.cosines.isnan().tolist() == [[False, True, True]] + [[True] * 3] * 2


def test_a_probe_leaves_grad_alone_and_the_graph_usable():
    losses, layer = worked_case()
    layer[0].grad = torch.tensor([7.0])
    gradient_probe(losses, layer)
    assert layer[0].grad.tolist() == [7.0]
    assert layer[1].grad is None
    losses.sum().backward()
    assert (layer[0].grad.item(), layer[1].grad.item()) == (10.0, 5.0)


@given(st.lists(st.floats(0.0625, 128, width=32), min_size=3, max_size=3))
def test_the_scale_of_a_loss_is_the_scale_of_its_length_and_of_no_angle(factors):
    losses, layer = worked_case()
    plain, scaled = gradient_probe(losses, layer), gradient_probe(losses * torch.tensor(factors), layer)
    torch.testing.assert_close(scaled.norms, plain.norms * torch.tensor(factors), rtol=1e-5, atol=0, check_dtype=False)
    torch.testing.assert_close(scaled.cosines, plain.cosines, rtol=0, atol=1e-6)


def test_lengths_beyond_the_range_of_float32_still_have_their_angle():
    parameter = nn.Parameter(torch.tensor([1.0, 1.0]))
    probe = gradient_probe(torch.stack([3e38 * parameter.sum(), parameter[0]]), [parameter])
    assert probe.norms[0].item() == pytest.approx(math.sqrt(2) * 3e38, rel=1e-5)
    assert probe.cosines[0, 1].item() == pytest.approx(math.sqrt(0.5))


def test_shares_sum_to_one_and_are_undefined_without_any_weight():
    assert shares(torch.tensor([[2.0, 6.0], [-1.0, 5.0]])).tolist() == [[0.25, 0.75], [0.0, 1.0]]
    assert shares(torch.zeros(2)).isnan().all()


def test_an_epoch_keeps_the_largest_weight_of_its_steps_and_their_mean_entropy():
    diagnostics = Diagnostics(TASKS[:2])
    for weights in ([1.0, 1.0], [3.0, 1.0], [0.0, 4.0]):
        diagnostics.note(torch.tensor(weights))
    row = diagnostics.row()
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    kinds = ("largest_weight", "mean_weight")
    assert set(row) == {f"{kind}/{task}" for kind in kinds for task in TASKS[:2]} | {"weight/entropy"}
    assert [row["mean_weight/emotion"], row["mean_weight/gender"]] == pytest.approx([4 / 3, 2.0])
    assert (row["largest_weight/emotion"], row["largest_weight/gender"]) == (0.75, 1.0)
    assert row["weight/entropy"] == pytest.approx((1 + entropy + 0) / 3)


def test_weights_noted_are_not_those_the_strategy_overwrites_later():
    diagnostics, weights = Diagnostics(TASKS[:2]), torch.tensor([2.0, 6.0])
    diagnostics.note(weights, probe_of([1.0, 1.0], 0.0))
    weights.fill_(1.0)
    row = diagnostics.row()
    assert row["gradient/effective/gender"] == 6.0
    assert row["largest_weight/gender"] == 0.75


def test_effective_weights_are_weight_times_length_and_their_shares_sum_to_one():
    diagnostics = Diagnostics(TASKS[:2])
    diagnostics.note(torch.tensor([0.5, 2.0]), probe_of([4.0, 3.0], 0.5))
    row = diagnostics.row()
    assert (row["gradient/norm/emotion"], row["gradient/norm/gender"]) == (4.0, 3.0)
    assert (row["gradient/effective/emotion"], row["gradient/effective/gender"]) == (2.0, 6.0)
    assert (row["gradient/share/emotion"], row["gradient/share/gender"]) == (0.25, 0.75)
    assert row["gradient/cosine/emotion:gender"] == 0.5


def test_conflicts_are_counted_over_pairs_and_probes_that_have_an_angle():
    diagnostics = Diagnostics(TASKS)
    for factors in ([1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [1.0, 1.0, 0.0]):
        losses, layer = worked_case()
        diagnostics.note(torch.ones(3), gradient_probe(losses * torch.tensor(factors), layer))
    row = diagnostics.row()
    assert row["gradient/conflict"] == pytest.approx(2 / (3 + 3 + 1))
    assert row["gradient/cosine/emotion:gender"] == pytest.approx(0.8)
    assert row["gradient/cosine/emotion:valence"] == pytest.approx(0)


def test_what_could_not_be_measured_is_left_out_of_means_and_of_the_row():
    diagnostics, probe = Diagnostics(TASKS[:2]), probe_of([4.0, 3.0], 0.5)
    diagnostics.note(torch.ones(2), probe.without([False, True]))
    row = diagnostics.row()
    assert row["gradient/norm/emotion"] == 4.0
    assert not {name for name in row if "gender" in name and name.startswith("gradient/")}
    assert "gradient/conflict" not in row
    diagnostics.note(torch.ones(2), probe_of([2.0, 1.0], -0.5))
    row = diagnostics.row()
    assert (row["gradient/norm/emotion"], row["gradient/norm/gender"], row["gradient/conflict"]) == (3.0, 1.0, 1.0)
    json.dumps(row, allow_nan=False)


def test_one_task_has_a_length_and_nothing_to_compare_it_with():
    diagnostics, parameter = Diagnostics(["emotion"]), nn.Parameter(torch.ones(1))
    diagnostics.note(torch.ones(1), gradient_probe(torch.stack([2 * parameter.sum()]), [parameter]))
    assert diagnostics.row() == {
        "largest_weight/emotion": 1.0,
        "mean_weight/emotion": 1.0,
        "gradient/norm/emotion": 2.0,
        "gradient/effective/emotion": 2.0,
        "gradient/share/emotion": 1.0,
    }


def test_weights_that_are_no_numbers_are_left_out():
    diagnostics = Diagnostics(TASKS[:2])
    diagnostics.note(torch.zeros(2), probe_of([1.0, 1.0], 0.0))
    row = diagnostics.row()
    assert not {"weight/entropy", "largest_weight/emotion", "gradient/share/emotion"} & set(row)
    json.dumps(row, allow_nan=False)


def test_an_epoch_without_steps_has_nothing_to_say():
    assert Diagnostics(TASKS).row() == {}


def test_time_off_the_clock_adds_up(monkeypatch):
    moments = iter([10.0, 12.0, 20.0, 21.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    diagnostics = Diagnostics(TASKS)
    for _ in range(2):
        with diagnostics.off_the_clock():
            pass
    assert diagnostics.seconds == 3.5
