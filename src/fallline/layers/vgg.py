"""VGG-19: a deep stack of small convolutions, whose features are those of style transfer."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ..errors import BadValue
from .declared import layer
from .init import started
from .parts import activated, known, normalized, whole

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each stage; pooling halves the picture after it."""
HIDDEN, PLACES = 4096, 7
POOLS = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


@layer(
    lambda of: of(outputs=2, channels=1, width=1 / 128, features_only=True, activation="tanh"), (1, 32, 32)
)
def vgg19(
    *, outputs: int = 1000, channels: int = 3, width: float = 1.0, pool: str = "max", norm: str = "none",
    activation: str = "relu", init: str = "own", features_only: bool = False,
) -> nn.Module:  # fmt: skip
    """VGG-19: sixteen 3 × 3 convolutions in five stages with 2 × 2 pooling after each, then three linear layers.

    Its names and shapes are the usual ones (``features.0.weight`` … ``classifier.6.bias``), so that published weights
    load by ``load_state_dict``; with ``norm="batch"`` those of VGG-19 with batch norm. Pictures may be of any size from
    32 × 32: what the convolutions give is averaged to 7 × 7 places. With ``features_only`` there is no classifier,
    pictures may be smaller as long as pooling leaves a place, and published weights load with those of the
    classifier left aside, ``load_state_dict(weights, strict=False)``.

    Inductive bias: what a pattern means does not depend on where it is, and large patterns are made of smaller ones, stage
    by stage.

    Args:
        outputs: numbers that the last layer gives.
        channels: of the pictures, [examples, channels, height, width].
        width: factor on the channels and hidden units of the paper's; ⅛ makes a net for tests, and sizes are
            rounded up.
        pool: max, or average, which Gatys et al. found to give nicer pictures in style transfer.
        norm: none, batch, or layer (all numbers of an example together): what normalizes before each activation.
        activation: relu, tanh, sigmoid, centered_sigmoid, gelu or silu.
        init: own (for ReLU that of He et al.), default (as torch has them), glorot, he or orthogonal; see
            ``fl.layers.init``.
        features_only: give the features of the last stage, [examples, 512 width, height / 32, width / 32].

    >>> import torch
    >>> model = vgg19(width=1 / 16, features_only=True)
    >>> model(torch.zeros(1, 3, 64, 96)).shape
    torch.Size([1, 32, 2, 3])
    >>> next(iter(model.state_dict()))
    'features.0.weight'

    Source: Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, 2014,
    configuration E, for which random weights were of N(0, 0.01²) after a shallower net had been trained first; average
    pooling: Gatys, Ecker and Bethge, A neural algorithm of artistic style, 2015.
    """
    whole("vgg19", outputs=outputs, channels=channels)
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width < math.inf:
        raise BadValue(f"width of vgg19 is a factor above 0, as in width=1 / 8, got {width!r}")
    known("pooling", pool, POOLS)
    model = VGG(
        _features(channels, width, pool, norm, activation),
        None if features_only else _classifier(width, outputs, activation),
    )
    return started(model, init, activation)


class VGG(nn.Module):
    """See :func:`vgg19`."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential | None) -> None:
        super().__init__()
        self.features, self.classifier = features, classifier
        self.avgpool = nn.AdaptiveAvgPool2d(PLACES)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures ↦ [examples, outputs], or the features of the last stage."""
        x = self.features(x)
        return x if self.classifier is None else self.classifier(self.avgpool(x).flatten(1))


def _features(channels: int, width: float, pool: str, norm: str, activation: str) -> nn.Sequential:
    parts: list[nn.Module] = []
    for paper, convolutions in STAGES:
        after = math.ceil(paper * width)
        for _ in range(convolutions):
            parts += [nn.Conv2d(channels, after, 3, padding=1), *normalized(norm, after, picture=True)]
            parts += [activated(activation)]
            channels = after
        parts += [POOLS[pool](2)]
    return nn.Sequential(*parts)


def _classifier(width: float, outputs: int, activation: str) -> nn.Sequential:
    inputs, hidden = math.ceil(STAGES[-1][0] * width) * PLACES**2, math.ceil(HIDDEN * width)
    return nn.Sequential(
        nn.Linear(inputs, hidden), activated(activation), nn.Dropout(),
        nn.Linear(hidden, hidden), activated(activation), nn.Dropout(),
        nn.Linear(hidden, outputs),
    )  # fmt: skip
