from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def prodigy(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    beta1: Number,
    beta2: Number,
    eps: Number,
    weight_decay: Number,
    distance: Number,
) -> Iterator[Arrays]:
    """Algorithm 4 of Mishchenko and Defazio on the one long vector of all entries, with decoupled decay."""
    ends = np.cumsum([w.size for w in weights])
    x = start = np.concatenate([w.ravel() for w in weights])
    m, v, s, r, d = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x), 0.0, at(distance, 0)
    for t, gradient in enumerate(gradients):
        g, gamma, root = (
            np.concatenate([part.ravel() for part in gradient]),
            at(lr, t),
            math.sqrt(at(beta2, t)),
        )
        m = at(beta1, t) * m + (1 - at(beta1, t)) * d * g
        v = at(beta2, t) * v + (1 - at(beta2, t)) * d**2 * g**2
        r = root * r + (1 - root) * gamma * d**2 * float(g @ (start - x))
        s = root * s + (1 - root) * gamma * d**2 * g
        size = float(np.abs(s).sum())
        x = x - gamma * d * ratio(m, np.sqrt(v) + d * at(eps, t)) - gamma * d * at(weight_decay, t) * x
        d = max(d, r / size if size > 0 else 0.0)
        yield [part.reshape(w.shape) for part, w in zip(np.split(x, ends[:-1]), weights, strict=True)]
