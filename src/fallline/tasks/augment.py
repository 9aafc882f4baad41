"""Augmentation: changes of the inputs, drawn anew at each step, that leave the target as it is.

An augmentation takes a batch of inputs and gives one; with ``Task.supervised(…, augment=flip())`` it is applied in
training only, and each run draws from its own stream. Any function of tensors can be one; where a model has several
inputs, it is given them as the model has them, a tuple or a dict. Randomness must come from torch.rand, randn and the
like, and no Python ``if`` may ask for the value of a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..domains import Domain, show
from ..errors import BadTask, BadValue

SHARE = Domain("the share of examples that are mirrored", 0, 1)
PIXELS = Domain("the largest shift, in pixels", 0)
STD = Domain("the standard deviation of the noise, in units of the inputs", 0)


@dataclass(frozen=True)
class Augmentation:
    """A function of a batch of inputs that prints as what it was made by."""

    name: str
    function: Callable[[Any], Any]

    def __call__(self, inputs: Any) -> Any:
        return self.function(inputs)

    def __repr__(self) -> str:
        return self.name


def flip(p: float = 0.5) -> Augmentation:
    """Mirror pictures left to right, each with probability ``p``.

    Args:
        p: the share of examples that are mirrored, from 0 to 1. Inputs are [examples, …, height, width].

    >>> flip(1)(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    tensor([[[2., 1.],
             [4., 3.]]])
    """
    SHARE.check("flip", "p", p)

    def flipped(x: Tensor) -> Tensor:
        _check_pictures("flip", x)
        return torch.where(_each(torch.rand(len(x), device=x.device) < p, x), x.flip(-1), x)

    return Augmentation(f"flip({show(p)})", flipped)


def shift(pixels: int = 2) -> Augmentation:
    """Move pictures by up to ``pixels`` in each direction, with zeros where nothing was: padding and a random crop.

    The shifts down and to the right of each example are whole numbers, each equally likely, from −pixels to pixels.

    Args:
        pixels: the largest shift, a whole number of at least 0. Inputs are [examples, …, height, width].

    >>> shift(0)(torch.ones(1, 2, 2))
    tensor([[[1., 1.],
             [1., 1.]]])
    """
    PIXELS.check("shift", "pixels", pixels)
    if pixels != int(pixels):
        raise BadValue(f"shift(pixels={pixels:g}): pictures move by whole pixels, as in shift(2)")

    def shifted(x: Tensor) -> Tensor:
        _check_pictures("shift", x)
        for axis in (-2, -1):
            steps = (torch.rand(len(x), device=x.device) * (2 * pixels + 1)).floor().long() - pixels
            x = _moved(x, steps, axis)
        return x

    return Augmentation(f"shift({pixels})", shifted)


def noise(std: float = 0.1) -> Augmentation:
    """Add normal noise to each number: x + std · ε with ε ~ N(0, 1).

    Args:
        std: the standard deviation, at least 0, in units of the inputs, which are [examples, …] of any shape.

    >>> noise(0)(torch.tensor([[1.0, 2.0]]))
    tensor([[1., 2.]])
    """
    STD.check("noise", "std", std)
    return Augmentation(f"noise({show(std)})", lambda x: x + std * torch.randn_like(x))


def chain(*parts: Callable[[Any], Any]) -> Augmentation:
    """One augmentation after another.

    >>> chain(flip(0.5), shift(2))
    chain(flip(0.5), shift(2))
    """

    def chained(inputs: Any) -> Any:
        for part in parts:
            inputs = part(inputs)
        return inputs

    return Augmentation(f"chain({', '.join(map(called, parts))})", chained)


def called(function: Callable[[Any], Any]) -> str:
    """What an augmentation is called in a record."""
    return function.name if isinstance(function, Augmentation) else getattr(function, "__name__", "function")


def _moved(x: Tensor, steps: Tensor, axis: int) -> Tensor:
    """Each example moved along one axis by its number of steps."""
    n = x.shape[axis]
    source = torch.arange(n, device=x.device) - steps[:, None]  # [examples, n]
    inside = (source >= 0) & (source < n)
    shape = [len(x), *(1 for _ in x.shape[1:])]
    shape[axis] = n
    index = source.clamp(0, n - 1).reshape(shape).expand(x.shape)
    return torch.where(inside.reshape(shape), x.gather(axis, index), 0.0)


def _each(values: Tensor, like: Tensor) -> Tensor:
    """One value for each example, in a shape that meets all of its numbers."""
    return values.reshape(-1, *(1 for _ in like.shape[1:]))


def _check_pictures(name: str, x: Any) -> None:
    if not isinstance(x, Tensor) or x.ndim < 3 or not x.is_floating_point():
        got = f"{list(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise BadTask(
            f"{name} changes pictures [examples, …, height, width] of a floating-point type, the inputs are {got}: for "
            "several inputs, write a function that changes one of them"
        )
