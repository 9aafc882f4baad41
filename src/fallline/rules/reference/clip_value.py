from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at


def clip_value(gradients: Iterable[Arrays], *, limit: Number) -> Iterator[Arrays]:
    """max(−limit, min(limit, g)) for each entry."""
    for t, gradient in enumerate(gradients):
        yield [np.clip(g, -at(limit, t), at(limit, t)) for g in gradient]
