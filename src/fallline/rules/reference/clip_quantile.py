from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at


def clip_quantile(gradients: Iterable[Arrays], *, quantile: Number, window: int = 100) -> Iterator[Arrays]:
    """g · Q / ‖g‖ where ‖g‖ > Q, the quantile of the last norms, this one among them."""
    norms: list[float] = []
    for t, gradient in enumerate(gradients):
        norms.append(float(np.linalg.norm(np.concatenate([g.ravel() for g in gradient]))))
        bound = np.quantile(norms[-window:], at(quantile, t))
        yield [g * bound / norms[-1] for g in gradient] if norms[-1] > bound else gradient
