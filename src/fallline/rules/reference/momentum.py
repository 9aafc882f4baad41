from __future__ import annotations

from collections.abc import Iterable, Iterator

from .numbers import Arrays, Number, at


def momentum(weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, beta: Number) -> Iterator[Arrays]:
    """w(t+1) = w(t) − lr · g(t) + β · (w(t) − w(t−1)), with w(−1) = w(0), in the three points themselves."""
    before = weights
    for t, gradient in enumerate(gradients):
        after = [
            w - at(lr, t) * g + at(beta, t) * (w - b)
            for w, g, b in zip(weights, gradient, before, strict=True)
        ]
        before, weights = weights, after
        yield weights
