from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def adagrad(weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, eps: Number) -> Iterator[Arrays]:
    """w ← w − lr · g / (√G + eps), with G = Σ g² over all gradients so far."""
    seen: list[Arrays] = []
    for t, gradient in enumerate(gradients):
        seen.append(gradient)
        sums = [np.sum([past[i] ** 2 for past in seen], axis=0) for i in range(len(weights))]
        weights = [
            w - at(lr, t) * ratio(g, np.sqrt(total) + at(eps, t))
            for w, g, total in zip(weights, gradient, sums, strict=True)
        ]
        yield weights
