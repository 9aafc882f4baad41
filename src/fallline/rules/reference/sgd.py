from __future__ import annotations

from collections.abc import Iterable, Iterator

from .numbers import Arrays, Number, at


def sgd(weights: Arrays, gradients: Iterable[Arrays], *, lr: Number) -> Iterator[Arrays]:
    """w ← w − lr · g."""
    for t, gradient in enumerate(gradients):
        weights = [w - at(lr, t) * g for w, g in zip(weights, gradient, strict=True)]
        yield weights
