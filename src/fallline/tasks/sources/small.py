"""Small models that fit what a source gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ... import layers
from ...errors import BadTask


class Pixels(nn.Module):
    """Numbers from 0 to 255 to numbers from 0 to 1, inside the model, as pictures are kept as bytes: x ↦ x / 255."""

    unit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unit", torch.tensor(1 / 255))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.unit


def small(example: np.ndarray[Any, Any], outputs: int) -> Callable[..., nn.Module]:
    """A model for examples of a shape: a small CNN for pictures [channels, height, width], else a small MLP."""
    shape, whole = tuple(example.shape), example.dtype.kind != "f"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return lambda width=16: cnn(shape, width, outputs, whole=whole)
    size = math.prod(shape)
    if not whole:
        return lambda width=64: layers.mlp(size, width, outputs)
    return lambda width=64: nn.Sequential(Pixels(), layers.mlp(size, width, outputs))


def cnn(shape: tuple[int, ...], width: int, outputs: int, *, whole: bool = True) -> nn.Sequential:
    """Two convolutions of 3 × 3, each halved by its largest values, and one linear layer; ``whole`` for bytes."""
    channels, height, wide = shape
    features = 2 * width * (height // 4) * (wide // 4)
    if features == 0:
        raise BadTask(
            f"pictures of {height} × {wide} are too small for a CNN that halves them twice: pass a model"
        )
    return nn.Sequential(
        Pixels() if whole else nn.Identity(),
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(features, outputs),
    )  # fmt: skip
