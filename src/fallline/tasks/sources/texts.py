"""Text files, byte by byte, which are mapped and never read whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ... import layers
from ...errors import BadTask
from .data import Data

BYTES = 256
FEWEST = 5
"""Windows that a text must fill: three train, one validates, one tests."""


def text(path: Path, context: int) -> Data:
    """Windows of a text's bytes, each to be followed by the next byte; the first 60 % train, the last 20 % test.

    Args:
        path: the file, in any encoding.
        context: bytes in a window.
    """
    size = path.stat().st_size
    count = (size - 1) // context
    if count < FEWEST:
        raise BadTask(
            f"{path.name} has {size} bytes, which fill {max(count, 0)} windows of {context}: it must fill at least "
            f"{FEWEST}, or context must be smaller"
        )
    whole: np.ndarray[Any, Any] = np.memmap(path, np.uint8, "r")
    inputs, target = (whole[i : i + count * context].reshape(count, context) for i in (0, 1))
    first, last = (
        round(0.6 * count),
        round(0.8 * count),
    )  # not shuffled: neighbors in one text are no fresh examples
    rows = {"train": slice(0, first), "validation": slice(first, last), "test": slice(last, count)}
    parts = {part: (inputs[r], target[r]) for part, r in rows.items()}

    def model(width: int = 32, heads: int = 2, depth: int = 1, dropout: float = 0.0) -> nn.Module:
        return layers.transformer(BYTES, width, heads, depth, context, dropout)

    return Data(path.stem, parts, {"from": path.name, "context": context}, model, "loss")
