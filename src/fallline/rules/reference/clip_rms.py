from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at


def clip_rms(gradients: Iterable[Arrays], *, most: Number) -> Iterator[Arrays]:
    """d / max(1, rms(d) / most) for each array."""
    for t, gradient in enumerate(gradients):
        sizes = [np.sqrt(np.mean(g**2)) if g.size else 0.0 for g in gradient]
        yield [g / max(1.0, size / at(most, t)) for g, size in zip(gradient, sizes, strict=True)]
