"""Picture networks: what looks at a single face frame."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional


def resnet50() -> tuple[nn.Sequential, int]:
    """Return ResNet-50 without its pooling and its classifier, and the number of its features."""
    from torchvision.models import resnet50 as build  # slow to import, and only this preset needs it

    return nn.Sequential(*list(build(weights=None).children())[:-2]), 2048


RESNET_CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def resnet_children(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a torchvision ResNet under the names that its children have in a sequence.

    >>> list(resnet_children({"bn1.bias": torch.zeros(1), "fc.bias": torch.zeros(1)}))
    ['1.bias']
    """
    parts = {key: key.partition(".") for key in state}
    return {
        f"{RESNET_CHILDREN.get(head, head)}.{tail}": state[key]
        for key, (head, _, tail) in parts.items()
        if head != "fc"
    }


class Block(nn.Module):
    """A residual block that halves the picture (He et al. 2016, basic block)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels_in, channels, kernel=3, stride=2)
        self.second = convolution(channels, channels, kernel=3, stride=1)
        self.shortcut = convolution(channels_in, channels, kernel=1, stride=2)

    def forward(self, picture: Tensor) -> Tensor:
        """Return the residual sum, ``(N, C, H, W) -> (N, C', H / 2, W / 2)``."""
        return functional.relu(self.second(functional.relu(self.first(picture))) + self.shortcut(picture))


def convolution(channels_in: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    """Return a convolution without bias and its batch normalisation."""
    picture = nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(picture, nn.BatchNorm2d(channels))


def tiny_resnet() -> tuple[nn.Sequential, int]:
    """Return a ResNet of two blocks for frames of 32 pixels, and the number of its features."""
    stem = convolution(3, 8, kernel=5, stride=4)
    return nn.Sequential(stem, nn.ReLU(), Block(8, 16), Block(16, 32)).to(memory_format=torch.channels_last), 32
