from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def adadelta(
    weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, rho: Number, eps: Number
) -> Iterator[Arrays]:
    """Algorithm 1 of Zeiler: E[g²], then Δ = − RMS(Δ before) / RMS(g) · g, then E[Δ²]; w ← w + lr · Δ."""
    squares, moves = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        r, e = at(rho, t), at(eps, t)
        squares = [r * v + (1 - r) * g**2 for v, g in zip(squares, gradient, strict=True)]
        delta = [
            -ratio(np.sqrt(u + e), np.sqrt(v + e)) * g
            for u, v, g in zip(moves, squares, gradient, strict=True)
        ]
        moves = [r * u + (1 - r) * d**2 for u, d in zip(moves, delta, strict=True)]
        weights = [w + at(lr, t) * d for w, d in zip(weights, delta, strict=True)]
        yield weights
