from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def adabelief(
    weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, beta1: Number, beta2: Number, eps: Number
) -> Iterator[Arrays]:
    """Algorithm 2 of Zhuang et al., without its projection."""
    m, s = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        b1, b2, e = at(beta1, t), at(beta2, t), at(eps, t)
        m = [b1 * m_i + (1 - b1) * g for m_i, g in zip(m, gradient, strict=True)]
        s = [b2 * s_i + (1 - b2) * (g - m_i) ** 2 + e for s_i, m_i, g in zip(s, m, gradient, strict=True)]
        m_hat, s_hat = [m_i / (1 - b1 ** (t + 1)) for m_i in m], [s_i / (1 - b2 ** (t + 1)) for s_i in s]
        weights = [
            w - at(lr, t) * ratio(m_i, np.sqrt(s_i) + e)
            for w, m_i, s_i in zip(weights, m_hat, s_hat, strict=True)
        ]
        yield weights
