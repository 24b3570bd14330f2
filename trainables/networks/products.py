"""Products of matrices with many rows, through what is fastest for them on a CPU.

PyTorch gives float32 products on a CPU to MKL, which on AMD's processors reaches half of what oneDNN does. A
convolution with 1x1 kernels is such a product, and goes to oneDNN if there are 16 pictures or more, or several threads.
Other devices and numbers of other kinds are multiplied as ever.

For every shape that is new oneDNN compiles a kernel, which takes as long as a small product. So numbers of rows that
differ from step to step are rounded up to one of eight in each power of two: ``rounded``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PICTURES = 16
"""The number of rows can be divided by it, wherever nothing else is said."""


def rounded(count: int) -> int:
    """Return the number of rows that so many are filled up to: a multiple of 16, at most an eighth more than needed.

    >>> [rounded(count) for count in (1, 33, 241, 1000, 1025)]
    [16, 48, 256, 1024, 1152]
    """
    step = max(PICTURES, 1 << (count - 1).bit_length() >> 4)
    return -(-count // step) * step


def padded(rows: Tensor) -> Tensor:
    """Return the rows and one or more of zeros, so many that their number is ``rounded``.

    >>> padded(torch.ones(16, 1)).shape
    torch.Size([32, 1])
    """
    return functional.pad(rows, (0, 0, 0, rounded(len(rows) + 1) - len(rows)))


def linear(rows: Tensor, layer: nn.Linear) -> Tensor:
    """Return what a linear layer makes of any number of rows, ``(n, C) -> (n, C')``."""
    if not _by_convolution(rows):
        found: Tensor = layer(rows)
        return found
    filled = rows if len(rows) == rounded(len(rows)) else padded(rows)
    found = functional.conv2d(_as_pictures(filled), layer.weight[:, :, None, None], layer.bias)
    return _as_rows(found)[: len(rows)]


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return ``rows @ matrix.T``, ``(16 m, C), (C', C) -> (16 m, C')``."""
    if not _by_convolution(rows):
        return rows @ matrix.T
    return _as_rows(functional.conv2d(_as_pictures(rows), matrix[:, :, None, None]))


def product_back(gradient: Tensor, matrix: Tensor) -> Tensor:
    """Return ``gradient @ matrix``, ``(16 m, C'), (C', C) -> (16 m, C)``, what ``product`` hands back to its rows."""
    if not _by_convolution(gradient):
        return gradient @ matrix
    return _as_rows(functional.conv_transpose2d(_as_pictures(gradient), matrix[:, :, None, None]))


def outer(gradient: Tensor, rows: Tensor) -> Tensor:
    """Return ``gradient.T @ rows``, ``(16 m, C'), (16 m, C) -> (C', C)``."""
    if not _by_convolution(rows):
        return gradient.T @ rows
    found: Tensor
    _, found, _ = torch.ops.aten.convolution_backward(
        _as_pictures(gradient),
        _as_pictures(rows),
        rows.new_empty(gradient.shape[1], rows.shape[1], 1, 1),  # its shape is asked for, not what is in it
        bias_sizes=None,
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        transposed=False,
        output_padding=(0, 0),
        groups=1,
        output_mask=(False, True, False),
    )
    return found.flatten(1)


def _by_convolution(rows: Tensor) -> bool:
    return rows.device.type == "cpu" and rows.dtype == torch.float32


def _as_pictures(rows: Tensor) -> Tensor:
    """Return rows as pictures one pixel wide that lie in memory as they do, ``(16 m, C) -> (16, C, m, 1)``."""
    return rows.view(PICTURES, -1, 1, rows.shape[1]).permute(0, 3, 1, 2)


def _as_rows(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 2, 3, 1).flatten(0, 2)
