from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def adamw(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    beta1: Number,
    beta2: Number,
    eps: Number,
    weight_decay: Number,
) -> Iterator[Arrays]:
    """Algorithm 2 of Loshchilov and Hutter, with the decay multiplied by the rate, as torch has it.

    w ← w − lr · (m̂ / (√v̂ + eps) + weight_decay · w)
    """
    m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        b1, b2 = at(beta1, t), at(beta2, t)
        m = [b1 * m_i + (1 - b1) * g for m_i, g in zip(m, gradient, strict=True)]
        v = [b2 * v_i + (1 - b2) * g**2 for v_i, g in zip(v, gradient, strict=True)]
        m_hat = [m_i / (1 - math.prod(at(beta1, k) for k in range(t + 1))) for m_i in m]
        v_hat = [v_i / (1 - math.prod(at(beta2, k) for k in range(t + 1))) for v_i in v]
        weights = [
            w - at(lr, t) * (ratio(m_i, np.sqrt(v_i) + at(eps, t)) + at(weight_decay, t) * w)
            for w, m_i, v_i in zip(weights, m_hat, v_hat, strict=True)
        ]
        yield weights
