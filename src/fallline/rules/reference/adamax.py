from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def adamax(
    weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, beta1: Number, beta2: Number, eps: Number
) -> Iterator[Arrays]:
    """Algorithm 2 of Kingma and Ba: the norm of infinite order, with eps added to |g| as torch has it."""
    m, u = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        b1, b2 = at(beta1, t), at(beta2, t)
        m = [b1 * m_i + (1 - b1) * g for m_i, g in zip(m, gradient, strict=True)]
        u = [np.maximum(b2 * u_i, np.abs(g) + at(eps, t)) for u_i, g in zip(u, gradient, strict=True)]
        weights = [
            w - at(lr, t) / (1 - b1 ** (t + 1)) * ratio(m_i, u_i)
            for w, m_i, u_i in zip(weights, m, u, strict=True)
        ]
        yield weights
