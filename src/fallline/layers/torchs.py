"""Layers that torch has and that need nothing from us, with their inductive bias and symmetry."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import BatchNorm2d, Conv2d, LayerNorm

from .declared import SHIFTED, commutes, layer


def _channels(x: Tensor) -> Tensor:
    """A number added to each channel."""
    return x + torch.arange(1.0, x.shape[1] + 1, dtype=x.dtype).view(1, -1, 1, 1)


layer(
    lambda of: of(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 6), SHIFTED,
    bias="what a pixel means depends on its neighbors, in the same way everywhere: features move along with a pattern.",
)(Conv2d)  # fmt: skip
layer(
    lambda of: of(2), (2, 5, 6), commutes("a constant added to a channel in all examples: invariant", _channels),
    bias="only differences between examples matter, and all channels matter about equally at first.",
)(BatchNorm2d)  # fmt: skip
layer(
    lambda of: of(6), (6,), commutes("a constant added to all numbers of an example: invariant", lambda x: x + 3.0),
    bias="only differences between the numbers of an example matter, and not their common size.",
)(LayerNorm)  # fmt: skip
