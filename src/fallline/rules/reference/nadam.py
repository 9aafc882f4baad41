from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def nadam(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    beta1: Number,
    beta2: Number,
    eps: Number,
    momentum_decay: Number,
) -> Iterator[Arrays]:
    """Dozat's algorithm with his schedule of momenta μ_t = β₁ · (1 − 0.5 · 0.96^(t ψ)), t from 1."""

    def momentum(step: int, k: int) -> float:
        return at(beta1, step) * (1 - 0.5 * 0.96 ** ((step + k) * at(momentum_decay, step)))

    m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        b1, b2 = at(beta1, t), at(beta2, t)
        m = [b1 * m_i + (1 - b1) * g for m_i, g in zip(m, gradient, strict=True)]
        v = [b2 * v_i + (1 - b2) * g**2 for v_i, g in zip(v, gradient, strict=True)]
        product, now, after = math.prod(momentum(k, 1) for k in range(t + 1)), momentum(t, 1), momentum(t, 2)
        m_bar = [
            after * m_i / (1 - product * after) + (1 - now) * g / (1 - product)
            for m_i, g in zip(m, gradient, strict=True)
        ]
        weights = [
            w - at(lr, t) * ratio(m_i, np.sqrt(v_i / (1 - b2 ** (t + 1))) + at(eps, t))
            for w, m_i, v_i in zip(weights, m_bar, v, strict=True)
        ]
        yield weights
