from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def adopt(
    weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, beta1: Number, beta2: Number, eps: Number
) -> Iterator[Arrays]:
    """Algorithm 2 of Taniguchi et al. with clipping at t^(1/4): g₀ starts v, then each gₜ is divided by v(t−1)."""
    gradients = iter(gradients)
    v = [g**2 for g in next(gradients)]
    yield weights
    m = [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients, start=1):
        b1, b2, bound = at(beta1, t), at(beta2, t), t**0.25
        scaled = [ratio(g, np.maximum(np.sqrt(v_i), at(eps, t))) for g, v_i in zip(gradient, v, strict=True)]
        m = [b1 * m_i + (1 - b1) * np.clip(g, -bound, bound) for m_i, g in zip(m, scaled, strict=True)]
        weights = [w - at(lr, t) * m_i for w, m_i in zip(weights, m, strict=True)]
        v = [b2 * v_i + (1 - b2) * g**2 for v_i, g in zip(v, gradient, strict=True)]
        yield weights
