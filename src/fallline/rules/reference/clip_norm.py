from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at


def clip_norm(gradients: Iterable[Arrays], *, max_norm: Number, order: float = 2.0) -> Iterator[Arrays]:
    """g · max_norm / ‖g‖ where ‖g‖ > max_norm, for the one long vector of all entries."""
    for t, gradient in enumerate(gradients):
        norm = np.linalg.norm(np.concatenate([g.ravel() for g in gradient]), order)
        yield [g * at(max_norm, t) / norm for g in gradient] if norm > at(max_norm, t) else gradient
