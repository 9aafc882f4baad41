from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def rmsprop(
    weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, gamma: Number, eps: Number
) -> Iterator[Arrays]:
    """v(t) = γ · v(t−1) + (1 − γ) · g², w ← w − lr · g / (√v + eps), with v(−1) = 0."""
    v = [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        share = at(gamma, t)
        v = [share * v_i + (1 - share) * g**2 for v_i, g in zip(v, gradient, strict=True)]
        weights = [
            w - at(lr, t) * ratio(g, np.sqrt(v_i) + at(eps, t))
            for w, g, v_i in zip(weights, gradient, v, strict=True)
        ]
        yield weights
