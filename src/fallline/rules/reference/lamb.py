from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def lamb(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    beta1: Number,
    beta2: Number,
    eps: Number,
    weight_decay: Number,
) -> Iterator[Arrays]:
    """Algorithm 2 of You et al., each array a layer; βᵗ is the product of the β's so far, as in Adam's twin."""
    m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        b1, b2 = at(beta1, t), at(beta2, t)
        m = [b1 * m_i + (1 - b1) * g for m_i, g in zip(m, gradient, strict=True)]
        v = [b2 * v_i + (1 - b2) * g**2 for v_i, g in zip(v, gradient, strict=True)]
        left1 = 1 - math.prod(at(beta1, k) for k in range(t + 1))
        left2 = 1 - math.prod(at(beta2, k) for k in range(t + 1))
        r = [ratio(m_i / left1, np.sqrt(v_i / left2) + at(eps, t)) for m_i, v_i in zip(m, v, strict=True)]
        u = [r_i + at(weight_decay, t) * w for r_i, w in zip(r, weights, strict=True)]
        weights = [w - at(lr, t) * _trust(w, u_i) * u_i for w, u_i in zip(weights, u, strict=True)]
        yield weights


def _trust(w: np.ndarray, u: np.ndarray) -> float:
    above, below = math.sqrt(np.sum(w**2)), math.sqrt(np.sum(u**2))
    return above / below if above > 0 and below > 0 else 1.0
