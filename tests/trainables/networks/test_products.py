"""Products of tall matrices, against PyTorch's own."""

import pytest
import torch
from torch import nn

from trainables.networks.products import PICTURES, linear, outer, padded, product, product_back, rounded

KINDS = [torch.float32, torch.float64, torch.bfloat16]


def test_numbers_of_rows_are_few_and_never_much_larger():
    numbers = [rounded(count) for count in range(1, 5000)]
    assert all(count <= number < count * 9 / 8 + PICTURES for count, number in enumerate(numbers, start=1))
    assert all(number % PICTURES == 0 for number in numbers)
    assert len(set(numbers[1024:2048])) == 8


@pytest.mark.parametrize("count", [0, 1, 15, 16, 1023, 1024])
def test_rows_are_followed_by_zeros(count):
    rows = torch.ones(count, 3)
    assert torch.equal(padded(rows)[:count], rows)
    assert len(padded(rows)) > count
    assert not padded(rows)[count:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_matrices(kind):
    rows, gradient, matrix = (torch.randn(*size).to(kind) for size in ((48, 6), (48, 10), (10, 6)))
    torch.testing.assert_close(product(rows, matrix), rows @ matrix.T)
    torch.testing.assert_close(product(rows, matrix.T.contiguous().T), rows @ matrix.T)
    torch.testing.assert_close(product_back(gradient, matrix), gradient @ matrix)
    torch.testing.assert_close(outer(gradient, rows), gradient.T @ rows)


@pytest.mark.parametrize("count", [1, 16, 37])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_and_its_gradients_are_those_of_pytorch(count, bias):
    layer, rows = nn.Linear(5, 7, bias=bias), torch.randn(count, 5, requires_grad=True)
    weights, inputs = torch.randn(count, 7), [rows, *layer.parameters()]
    both = linear(rows, layer), layer(rows)
    torch.testing.assert_close(*both)
    torch.testing.assert_close(*(torch.autograd.grad((each * weights).sum(), inputs) for each in both))
