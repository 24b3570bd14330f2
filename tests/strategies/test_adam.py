"""The Adam of a strategy's own against torch's."""

import io

import pytest
import torch

from strategies.adam import OwnAdam

START = torch.tensor([0.3, -0.2, 0.0], dtype=torch.float64)


def gradients(steps):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, generator=generator, dtype=torch.float64) * 10 ** (step % 4 - 2) for step in range(steps)]


@pytest.mark.parametrize("weight_decay", [0.0, 1e-3, 0.1])
@pytest.mark.parametrize("learning_rate", [0.025, 1.0])
def test_it_moves_as_adam_of_torch_does(learning_rate, weight_decay):
    peer = torch.nn.Parameter(START.clone())
    optimizer = torch.optim.Adam([peer], lr=learning_rate, weight_decay=weight_decay)
    values, own = START.clone(), OwnAdam(3, learning_rate, weight_decay).double()
    for gradient in gradients(100):
        peer.grad = gradient.clone()
        optimizer.step()
        own.step(values, gradient)
        torch.testing.assert_close(values, peer.detach(), rtol=1e-9, atol=1e-12)


def test_single_precision_is_as_close_as_it_can_be():
    peer = torch.nn.Parameter(START.float())
    optimizer = torch.optim.Adam([peer], lr=0.025, weight_decay=1e-3)
    values, own = START.float(), OwnAdam(3, 0.025, 1e-3)
    for gradient in gradients(200):
        peer.grad = gradient.float()
        optimizer.step()
        own.step(values, gradient.float())
    torch.testing.assert_close(values, peer.detach(), rtol=0, atol=1e-5)


def test_the_first_step_is_as_long_as_the_learning_rate_whatever_the_gradient():
    values = torch.zeros(3)
    OwnAdam(3, 0.025, 0.0).step(values, torch.tensor([1e-3, -5.0, 1e4]))
    assert values.tolist() == pytest.approx([-0.025, 0.025, -0.025], rel=1e-4)


def test_a_gradient_of_zero_moves_nothing_and_is_left_as_it_was():
    values, gradient = torch.zeros(2), torch.zeros(2)
    OwnAdam(2, 0.025, 0.1).step(values, gradient)
    assert values.tolist() == gradient.tolist() == [0.0, 0.0]


def test_its_state_survives_a_checkpoint_in_the_middle():
    whole, first, resumed = (OwnAdam(3, 0.1, 1e-3).double() for _ in range(3))
    expected, values = START.clone(), START.clone()
    steps = gradients(20)
    for gradient in steps:
        whole.step(expected, gradient)
    for gradient in steps[:9]:
        first.step(values, gradient)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for gradient in steps[9:]:
        resumed.step(values, gradient)
    assert torch.equal(values, expected)
