"""Sparse pictures: the features of active sites as the rows of one matrix, beside a mask that says where they are."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.networks.submanifold import Pairs, SubmanifoldConvolution, pairs_of

WAYS = ("auto", "sparse", "dense")
"""How submanifold convolutions may be computed: ``dense`` convolves whole pictures and throws away what is inactive."""


@dataclass(frozen=True)
class Sites:
    """The active sites of B pictures of H x W, in the order of pictures, rows and columns.

    Attributes:
        rows: features of each active site, ``(n, C)``.
        mask: which sites are active, ``(B, H, W)`` bool.
    """

    rows: Tensor
    mask: Tensor

    @cached_property
    def places(self) -> Tensor:
        """The place of each active site among all ``B H W``, ascending, ``(n,)`` int64."""
        return self.mask.flatten().nonzero().squeeze(1)

    @cached_property
    def pairs(self) -> list[Pairs]:
        """Which active sites are neighbours, side by side."""
        return pairs_of(self.mask, self.places)

    def with_rows(self, rows: Tensor) -> "Sites":
        """Return the same sites with other features."""
        changed = replace(self, rows=rows)
        for name in ("places", "pairs"):
            if name in self.__dict__:  # found once, used by every convolution of a level
                changed.__dict__[name] = self.__dict__[name]
        return changed

    def kept(self, mask: Tensor) -> "Sites":
        """Return those of the sites that are also in ``mask``, ``(B, H, W)`` bool."""
        return Sites(_take(self.rows, mask.flatten()[self.places].nonzero().squeeze(1)), self.mask & mask)

    def dense(self) -> Tensor:
        """Return whole pictures, zeros where nothing is active, ``(B, C, H, W)`` in channels-last order."""
        channels = self.rows.shape[1]
        empty = self.rows.new_zeros(self.mask.numel(), channels)
        return empty.index_copy(0, self.places, self.rows).view(*self.mask.shape, channels).permute(0, 3, 1, 2)


def active(pictures: Tensor, mask: Tensor) -> Sites:
    """Return the sites of pictures ``(B, C, H, W)`` that ``mask`` ``(B, H, W)`` names."""
    sites = Sites(pictures.new_empty(0), mask)
    return sites.with_rows(_take(pictures.permute(0, 2, 3, 1).reshape(-1, pictures.shape[1]), sites.places))


def whole(pictures: Tensor) -> Sites:
    """Return all sites of pictures ``(B, C, H, W)``."""
    rows = pictures.permute(0, 2, 3, 1).flatten(0, 2)  # of channels-last pictures no copy
    return Sites(rows, torch.ones_like(pictures[:, 0], dtype=torch.bool))


class SubmanifoldConv(nn.Module):
    """A 3x3 submanifold convolution without bias, initialised as He et al. 2015.

    Args:
        channels_in: C.
        channels: C'.
        way: see ``WAYS``; ``auto`` is ``sparse``, see ``benchmarks/mesm_speed.py`` for what that pays.
    """

    def __init__(self, channels_in: int, channels: int, way: str) -> None:
        super().__init__()
        self.way = way
        # In memory nine matrices, which is what it is computed with.
        self.weight = nn.Parameter(torch.empty(3, 3, channels, channels_in).permute(2, 3, 0, 1))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (9 * channels_in)))

    def forward(self, sites: Sites) -> Sites:
        """Return the same sites with C' features each."""
        if self.way == "dense":
            pictures = functional.conv2d(sites.dense(), self.weight, padding=1)
            return sites.with_rows(active(pictures, sites.mask).rows)
        rows: Tensor = sites.rows
        weight: Tensor = self.weight
        if torch.is_autocast_enabled(rows.device.type):
            kind = torch.get_autocast_dtype(rows.device.type)
            rows, weight = rows.to(kind), weight.to(kind)
        return sites.with_rows(SubmanifoldConvolution.apply(rows, weight, sites.pairs))


class SiteNorm(nn.BatchNorm1d):
    """Batch normalisation over active sites alone; a single one has no variance and takes the running statistics."""

    def forward(self, rows: Tensor) -> Tensor:
        """Return the normalised rows, ``(n, C) -> (n, C)``."""
        if self.training and len(rows) == 1:
            return functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(rows)


def max_pool(sites: Sites) -> Sites:
    """Return the maximum over windows of 2x2; a window is active if any of its sites is.

    Features must not be negative, as after a ReLU: what is inactive then cannot win.
    """
    mask = functional.max_pool2d(sites.mask.float().unsqueeze(1), 2).squeeze(1) > 0
    return active(functional.max_pool2d(sites.dense(), 2), mask)


def _take(rows: Tensor, places: Tensor) -> Tensor:
    taken: Tensor = _Taken.apply(rows, places)
    return taken


class _Taken(torch.autograd.Function):
    """Rows at places that are all different: the gradient is written back, which is faster than a scattered sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(places)
        ctx.num_rows = len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (gradient,) = gradients
        (places,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.num_rows, gradient.shape[1]).index_copy_(0, places, gradient), None
