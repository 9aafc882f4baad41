from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def amsgrad(
    weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, beta1: Number, beta2: Number, eps: Number
) -> Iterator[Arrays]:
    """Algorithm 2 of Reddi, Kale and Kumar, with Adam's corrections and eps as torch has them."""
    m, v = [np.zeros_like(w) for w in weights], [[np.zeros_like(w) for w in weights]]
    for t, gradient in enumerate(gradients):
        b1, b2 = at(beta1, t), at(beta2, t)
        m = [b1 * m_i + (1 - b1) * g for m_i, g in zip(m, gradient, strict=True)]
        v.append([b2 * v_i + (1 - b2) * g**2 for v_i, g in zip(v[-1], gradient, strict=True)])
        largest = [np.max([past[i] for past in v], axis=0) for i in range(len(weights))]
        weights = [
            w - at(lr, t) * ratio(m_i / (1 - b1 ** (t + 1)), np.sqrt(l_i / (1 - b2 ** (t + 1))) + at(eps, t))
            for w, m_i, l_i in zip(weights, m, largest, strict=True)
        ]
        yield weights
