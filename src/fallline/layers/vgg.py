"""VGG-19, as its published weights have it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import BadValue

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each block; a block ends in a pooling that halves height and width."""


def convolutions(width: float = 1.0, pooling: str = "max") -> nn.Sequential:
    """The five blocks of convolutions of :func:`vgg19` alone."""
    parts: list[nn.Module] = []
    channels = 3
    for size, count in BLOCKS:
        for _ in range(count):
            own = max(1, round(size * width))
            parts += [nn.Conv2d(channels, own, 3, padding=1), nn.ReLU()]
            channels = own
        parts.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
    return nn.Sequential(*parts)


class VGG19(nn.Module):
    """See :func:`vgg19`."""

    def __init__(self, classes: int, width: float, pooling: str) -> None:
        super().__init__()
        channels, hidden = (max(1, round(size * width)) for size in (512, 4096))
        self.features = convolutions(width, pooling)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """[examples, 3, height, width] pictures → [examples, classes] logits."""
        found: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return found


def vgg19(classes: int = 1000, *, width: float = 1.0, pooling: str = "max") -> VGG19:
    """VGG-19: sixteen 3 × 3 convolutions in five blocks, then three linear layers; 144 million parameters.

    Inductive bias: what a pixel means depends on its neighbors, in the same way everywhere in the picture, and wider
    neighborhoods are seen as patterns of narrower ones.

    Args:
        classes: numbers that the last layer gives.
        width: by how much all layers are wider; a small net for a test has 1/16.
        pooling: max, or average, which style transfer asks for.

    >>> sum(p.numel() for p in vgg19(10, width=1 / 16).features.parameters())
    78644

    Source: Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, 2015. Names and
    shapes are those of torchvision's ``vgg19``, whose published weights load.
    """
    whole = isinstance(classes, int) and not isinstance(classes, bool) and classes >= 1
    if not whole or not 0 < width <= 16 or pooling not in ("max", "average"):
        raise BadValue(
            "vgg19 takes a number of classes, a width above 0 and up to 16, and the pooling max or average; got "
            f"classes={classes!r}, width={width!r}, pooling={pooling!r}"
        )
    return VGG19(classes, width, pooling)
