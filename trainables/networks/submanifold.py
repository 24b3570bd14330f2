"""Submanifold convolutions: computed where a picture is active, from what is active around it.

A submanifold convolution (Graham et al. 2018) reads only active sites and writes only to them, so that what is active
does not grow with depth. Here the active sites of some pictures are the n rows of a matrix. A 3x3 kernel is nine
matrices: every row meets that of the centre, and that of a side only the rows that have a neighbour there, which are
gathered, multiplied and added to the rows that they are neighbours of. What is not active is not multiplied.

Neighbours are neighbours of each other: the gradient is the same operation with opposite sides exchanged.

Reference:
    Graham, Engelcke & van der Maaten, "3D Semantic Segmentation with Submanifold Sparse Convolutional Networks", CVPR
    2018. https://arxiv.org/abs/1711.10275
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from trainables.networks.products import outer, padded, product, product_back, rounded

MOST = 8192
"""Rows to be multiplied at a time, a multiple of 16, so that what is read again comes from the processor's cache."""
_CENTRE, _SIDES = 4, (0, 1, 2, 3, 5, 6, 7, 8)
"""Weights of a 3x3 kernel, row by row; side k lies opposite of side 8 - k."""


class Pairs(NamedTuple):
    """Pairs of active sites of which one, the source, lies on a certain side of the other, the target.

    Filled up with pairs of the row after the last, which is zeros.

    Attributes:
        targets: rows, all different, ``(m,)`` int64.
        sources: rows, all different, ``(m,)`` int64.
    """

    targets: Tensor
    sources: Tensor


def pairs_of(mask: Tensor, places: Tensor) -> list[Pairs]:
    """Return the pairs of neighbours for each of the eight sides, in the order of a kernel's weights.

    Args:
        mask: which sites of B pictures are active, ``(B, H, W)`` bool.
        places: the place of each active site among all ``B H W``, ascending, ``(n,)`` int64.
    """
    (_, height, width), n = mask.shape, len(places)
    numbers = torch.full((mask.numel(),), n, device=mask.device)
    numbers[places] = torch.arange(n, device=mask.device)
    around = functional.pad(numbers.view_as(mask), (1, 1, 1, 1), value=n)
    half = []
    for side in _SIDES[:4]:
        y, x = divmod(side, 3)
        half.append(_pairs(around[:, y : y + height, x : x + width].flatten().index_select(0, places)))
    return half + [Pairs(targets=each.sources, sources=each.targets) for each in reversed(half)]


def _pairs(near: Tensor) -> Pairs:
    """Return the pairs of one side, where ``near`` is the row on that side of each row or n for none, ``(n,)``."""
    n = len(near)
    targets = (near < n).nonzero().squeeze(1)
    sources = near.index_select(0, targets)
    missing = rounded(max(1, len(targets))) - len(targets)
    return Pairs(*(functional.pad(rows, (0, missing), value=n) for rows in (targets, sources)))


class SubmanifoldConvolution(torch.autograd.Function):
    """A 3x3 submanifold convolution of active sites, ``(n, C), (C', C, 3, 3) -> (n, C')``.

    Sums are in float32 at least.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, pairs: Sequence[Pairs]) -> Tensor:  # noqa: ANN401
        """Return the convolution at the active sites."""
        ctx.save_for_backward(rows, weight)
        ctx.pairs = pairs
        wide, matrices, filled = _wide(rows), _matrices(weight), padded(rows)
        result = product(filled, matrices[_CENTRE]).to(wide)
        for side, targets, sources in _parts(pairs):
            result.index_add_(0, targets, product(filled.index_select(0, sources), matrices[side]).to(wide))
        return result[: len(rows)].to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        """Return the gradients with respect to rows and weight."""
        rows, weight = ctx.saved_tensors
        wide, matrices = _wide(rows), _matrices(weight)
        given, filled = padded(gradients[0]), padded(rows)
        of_rows = product_back(given, matrices[_CENTRE]).to(wide)
        of_matrices: dict[int, Tensor] = {}
        for some in zip(torch.split(given, MOST), torch.split(filled, MOST), strict=True):
            _add(of_matrices, _CENTRE, outer(*some).to(wide))
        for side, targets, sources in _parts(ctx.pairs):
            of_targets = given.index_select(0, targets)
            of_rows.index_add_(0, sources, product_back(of_targets, matrices[side]).to(wide))
            _add(of_matrices, side, outer(of_targets, filled.index_select(0, sources)).to(wide))
        kernel = _kernel(torch.stack([of_matrices[side] for side in range(len(matrices))]))
        return of_rows[: len(rows)].to(rows.dtype), kernel.to(weight.dtype), None


def _add(sums: dict[int, Tensor], side: int, part: Tensor) -> None:
    """Add to one of some sums; the first part is the sum so far, and is written to."""
    sums[side] = sums[side].add_(part) if side in sums else part


def _wide(rows: Tensor) -> torch.dtype:
    return torch.promote_types(rows.dtype, torch.float32)


def _matrices(weight: Tensor) -> Tensor:
    """Return the nine matrices of a kernel, row by row, ``(C', C, 3, 3) -> (9, C', C)``."""
    return weight.permute(2, 3, 0, 1).flatten(0, 1)


def _kernel(matrices: Tensor) -> Tensor:
    return matrices.view(3, 3, *matrices.shape[1:]).permute(2, 3, 0, 1)


def _parts(pairs: Sequence[Pairs]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield a side with some of its targets and sources, so few that they stay in the processor's cache."""
    for side, (targets, sources) in zip(_SIDES, pairs, strict=True):
        for some in zip(torch.split(targets, MOST), torch.split(sources, MOST), strict=True):
            yield side, *some
