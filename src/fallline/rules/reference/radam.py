from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def radam(
    weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, beta1: Number, beta2: Number, eps: Number
) -> Iterator[Arrays]:
    """Algorithm 2 of Liu et al., rectified where the length of the average is above 5, eps beside √v."""
    m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for step, gradient in enumerate(gradients):
        t, b1, b2 = step + 1, at(beta1, step), at(beta2, step)
        m = [b1 * m_i + (1 - b1) * g for m_i, g in zip(m, gradient, strict=True)]
        v = [b2 * v_i + (1 - b2) * g**2 for v_i, g in zip(v, gradient, strict=True)]
        m_hat = [m_i / (1 - b1**t) for m_i in m]
        longest = 2 / (1 - b2) - 1
        length = longest - 2 * t * b2**t / (1 - b2**t)
        if length > 5:
            r = math.sqrt(
                (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length) * (1 - b2**t)
            )
            m_hat = [r * ratio(m_i, np.sqrt(v_i) + at(eps, step)) for m_i, v_i in zip(m_hat, v, strict=True)]
        weights = [w - at(lr, step) * m_i for w, m_i in zip(weights, m_hat, strict=True)]
        yield weights
