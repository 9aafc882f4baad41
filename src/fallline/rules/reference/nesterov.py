from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at


def nesterov(weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, beta: Number) -> Iterator[Arrays]:
    """d ← β · d − lr · g, w ← w + β · d − lr · g: w = θ + β · d is the point where the gradient is taken."""
    d = [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        step = [at(lr, t) * g for g in gradient]
        d = [at(beta, t) * d_i - s for d_i, s in zip(d, step, strict=True)]
        weights = [w + at(beta, t) * d_i - s for w, d_i, s in zip(weights, d, step, strict=True)]
        yield weights
