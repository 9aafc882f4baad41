"""The convolutional network."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from ..errors import BadValue
from .declared import layer
from .init import started
from .parts import ACTIVATIONS, activated, is_whole, known, normalized


@layer(lambda of: of(1, 3, outputs=2, size=4, norm="layer"), (1, 4, 4))
def cnn(
    *channels: int,
    outputs: int,
    size: int,
    activation: str = "relu",
    norm: str = "none",
    init: str = "default",
) -> nn.Sequential:
    """A convolutional network: 3 × 3 convolutions, each followed by an activation and 2 × 2 max-pooling, then one linear layer.

    Inductive bias: what a pixel means depends on its neighbors, in the same way everywhere in the picture: a pattern
    that moves by a pooled pixel moves the features along.

    Args:
        *channels: of the pictures and of each convolution, as in ``cnn(1, 8, 16, outputs=10, size=8)``.
        outputs: numbers that the last layer gives.
        size: height and width of the pictures, [examples, channels, size, size]; flat ones are unfolded first.
        activation: relu, tanh, sigmoid, centered_sigmoid, gelu or silu.
        norm: none, batch or layer (all numbers of an example together): what normalizes before each activation.
        init: default (as ``torch.nn.Conv2d`` and ``torch.nn.Linear``), glorot, he, orthogonal, or own, that of the
            activation; see ``fl.layers.init``.

    >>> cnn(1, 8, 16, outputs=10, size=8)[2]
    Conv2d(1, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """
    whole = all(map(is_whole, (*channels, outputs, size)))
    if len(channels) < 2 or not whole or size >> (len(channels) - 1) < 1:
        raise BadValue(
            "cnn needs channels, outputs and a size, whole numbers above 0, as in cnn(1, 8, 16, outputs=10, size=8), "
            f"and a size that can be halved after each convolution; got {channels}, outputs={outputs}, size={size}"
        )
    known("activation", activation, ACTIVATIONS)
    parts: list[nn.Module] = [nn.Flatten(), nn.Unflatten(1, (channels[0], size, size))]
    for before, after in pairwise(channels):
        parts += [nn.Conv2d(before, after, 3, padding=1), *normalized(norm, after, picture=True)]
        parts += [activated(activation), nn.MaxPool2d(2)]
        size //= 2
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels[-1] * size * size, outputs))
    started(model, init, activation)
    return model
