"""Convolutions of active sites, against whole pictures with a mask."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainables.networks import submanifold
from trainables.networks.attention import SparseAttention, nucleus
from trainables.networks.sparse import SiteNorm, SubmanifoldConv, active, max_pool


@pytest.fixture
def pictures():
    torch.manual_seed(0)
    return torch.randn(3, 4, 6, 5, dtype=torch.double, requires_grad=True), torch.rand(3, 6, 5) < 0.4


@pytest.mark.parametrize("way", ["sparse", "dense"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_submanifold_convolution_is_a_masked_one_of_masked_pictures(pictures, way, kind, monkeypatch):
    monkeypatch.setattr(submanifold, "MOST", 16)  # parts
    values, mask = pictures[0].to(kind), pictures[1]
    layer = SubmanifoldConv(4, 7, way).to(kind)
    found = layer(active(values, mask)).dense()
    kept = mask.unsqueeze(1)
    expected = functional.conv2d(values * kept, layer.weight, padding=1) * kept
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    inputs = [pictures[0], layer.weight]
    gradients = [torch.autograd.grad((each * weights).sum(), inputs, retain_graph=True) for each in (found, expected)]
    tolerance = 1e-10 if kind is torch.float64 else 1e-4
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 9)])
def test_sites_without_neighbours_meet_the_centre_alone(shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, ::2, ::2] = True
    layer = SubmanifoldConv(3, 5, "sparse")
    sites = active(torch.randn(shape[0], 3, *shape[1:]), mask)
    torch.testing.assert_close(layer(sites).rows, sites.rows @ layer.weight[:, :, 1, 1].T)


def test_in_half_precision_it_is_summed_in_single(pictures):
    """Nine summands rounded one after the other would be up to nine roundings off; this is one."""
    values, mask = pictures[0].detach().float(), torch.ones_like(pictures[1])
    layer, sites = SubmanifoldConv(4, 64, "sparse"), active(values.bfloat16().float(), mask)
    layer.weight.data = layer.weight.data.bfloat16().float()
    products = torch.stack(
        [
            functional.conv2d(functional.pad(values.bfloat16().float(), (1,) * 4)[..., y : y + 6, x : x + 5], tap)
            for y in range(3)
            for x in range(3)
            for tap in [layer.weight[:, :, y, x, None, None]]
        ]
    ).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(sites).dense()
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), products.float().sum(0), rtol=2**-8, atol=2**-8 * 0.2)


def test_every_row_stays_at_its_own_site_of_its_own_picture(pictures):
    """The released code pairs locations in one order with features in another: a fraction of a percent fits."""
    values, mask = pictures
    sites = active(values, mask)
    expected = torch.where(mask.unsqueeze(1), values, torch.zeros(()))
    torch.testing.assert_close(sites.dense(), expected)
    fewer = mask & (torch.rand(mask.shape) < 0.5)
    torch.testing.assert_close(sites.kept(fewer).dense(), torch.where(fewer.unsqueeze(1), values, torch.zeros(())))
    scrambled = sites.mask.permute(1, 2, 0).nonzero()[:, [2, 0, 1]]
    own = (scrambled == sites.mask.nonzero()).all(1).double().mean()
    assert own < 0.1


def test_pooling_keeps_a_window_where_any_of_its_sites_is_active(pictures):
    values, mask = pictures
    sites = active(values.relu()[..., :4], mask[..., :4])
    pooled = max_pool(sites)
    torch.testing.assert_close(pooled.dense(), functional.max_pool2d(sites.dense(), 2))
    assert torch.equal(pooled.mask, mask[..., :4].unflatten(1, (3, 2)).unflatten(3, (2, 2)).any(4).any(2))


def test_a_single_site_is_normalised_by_what_was_seen_before():
    norm = SiteNorm(2)
    rows = torch.tensor([[1.0, 3.0]])
    torch.testing.assert_close(norm(rows), rows / (1 + norm.eps) ** 0.5)
    torch.testing.assert_close(norm(torch.tensor([[1.0, 3.0], [3.0, 7.0]])).mean(0), torch.zeros(2))


@pytest.mark.parametrize(
    ("p", "kept"),
    [(0.3, [3]), (0.4, [3]), (0.41, [1, 3]), (0.7, [1, 3]), (0.71, [1, 2, 3]), (1.0, [0, 1, 2, 3])],
)
def test_the_nucleus_are_the_largest_shares_up_to_the_one_that_reaches_p(p, kept):
    shares = torch.tensor([[0.1, 0.3, 0.2, 0.4, 0.0]])
    assert nucleus(shares, p)[0].nonzero().flatten().tolist() == kept


def test_of_even_attention_the_nucleus_is_the_same_share_of_the_sites():
    for sites in (36, 144, 576):
        kept = nucleus(torch.full((2, sites), 1 / sites), 0.5)
        assert kept.sum(1).tolist() == [sites // 2] * 2
        assert kept[:, : sites // 2].all()


@pytest.mark.parametrize("gate", ["straight_through", "soft"])
def test_the_attention_and_the_text_learn(pictures, gate):
    values, mask = pictures
    layer = SparseAttention(4, 6, 0.5, gate).double()
    query = torch.randn(2, 6, dtype=torch.double, requires_grad=True)
    kept = layer(active(values, mask), query, torch.tensor([0, 1, 1]))
    (kept.rows * torch.randn_like(kept.rows)).sum().backward()
    assert 0 < len(kept.rows) < mask.sum()
    learned = {name: parameter.grad for name, parameter in layer.named_parameters()}
    assert all(gradient.abs().sum() > 0 for gradient in [*learned.values(), query.grad])


def test_a_straight_through_gate_passes_features_on_unchanged_and_a_hard_one_learns_nothing(pictures):
    values, mask = pictures
    torch.manual_seed(1)
    layer, query = SparseAttention(4, 6, 0.5, "straight_through").double(), torch.randn(3, 6, dtype=torch.double)
    kept = layer(active(values, mask), query, torch.arange(3))
    torch.testing.assert_close(kept.rows, active(values, kept.mask).rows)
    hard = SparseAttention(4, 6, 0.5, "hard").double()
    hard.load_state_dict(layer.state_dict())
    released = hard(active(values, mask), query.requires_grad_(), torch.arange(3))
    assert torch.equal(released.mask, kept.mask)
    assert torch.autograd.grad(released.rows.sum(), query, allow_unused=True) == (None,)


def test_a_straight_through_gate_learns_as_if_it_were_the_attention_times_the_number_of_sites(pictures):
    values, mask = pictures
    layer, query = SparseAttention(4, 6, 0.5, "straight_through").double(), torch.randn(3, 6, dtype=torch.double)
    sites = active(values, mask)
    kept = layer(sites, query, torch.arange(3))
    numbers = sites.mask.flatten(1).sum(1, keepdim=True)
    gates = (layer.attention(sites, query, torch.arange(3)) * numbers).flatten()[kept.places].unsqueeze(1)
    expected = active(values, kept.mask).rows * (1 + gates - gates.detach())
    weights, inputs = torch.randn_like(expected), [values, *layer.parameters()]
    found = [torch.autograd.grad((rows * weights).sum(), inputs, retain_graph=True) for rows in (kept.rows, expected)]
    torch.testing.assert_close(*found)


def test_attention_is_shared_among_active_sites_alone_and_each_utterance_asks_for_itself(pictures):
    values, mask = pictures
    layer, query = SparseAttention(4, 6, 0.5, "soft").double(), torch.randn(2, 6, dtype=torch.double)
    sites = active(values, mask)
    found = layer.attention(sites, query, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(found.sum(1), torch.ones(3, dtype=torch.double))
    assert torch.equal(found > 0, mask.flatten(1))
    place = tuple(int(index[-1]) for index in np.nonzero(mask[1].numpy()))
    compared = layer.channel_affine(values[1].permute(1, 2, 0)[mask[1]]) + layer.y_affine(query[0])
    scores = layer.attn_weight_affine(compared.tanh()).squeeze(1).softmax(0)
    assert found[1].view(6, 5)[place].item() == pytest.approx(scores[-1].item(), rel=1e-6)
