from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .numbers import Arrays, Number, at, ratio


def soap(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    beta1: Number,
    beta2: Number,
    decay: Number,
    eps: Number,
    weight_decay: Number,
) -> Iterator[Arrays]:
    """Algorithm 3 of Vyas and others, with a basis that is exact at every step; Adam for what is no matrix."""
    left: list[Any] = [0.0 for _ in weights]
    right: list[Any] = [0.0 for _ in weights]
    m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        b1, b2, keep = at(beta1, t), at(beta2, t), at(decay, t)
        to_one = [1 - math.prod(at(b, k) for k in range(t + 1)) for b in (beta1, beta2)]
        steps = []
        for i, whole in enumerate(gradient):
            p, q = np.eye(1), np.eye(1)
            g, shape = whole.reshape(1, -1), (1, whole.size)
            if whole.ndim >= 2:
                g, shape = whole.reshape(len(whole), -1), (len(whole), whole.size // len(whole))
                left[i], right[i] = (
                    keep * left[i] + (1 - keep) * g @ g.T,
                    keep * right[i] + (1 - keep) * g.T @ g,
                )
                p, q = np.linalg.eigh(left[i])[1], np.linalg.eigh(right[i])[1]
            else:
                q = np.eye(whole.size)
            m[i] = b1 * m[i] + (1 - b1) * whole
            v[i] = b2 * v[i] + (1 - b2) * ((p.T @ g @ q) ** 2).reshape(whole.shape)
            root = np.sqrt(v[i].reshape(shape) / to_one[1]) + at(eps, t)
            turned = ratio(p.T @ m[i].reshape(shape) @ q / to_one[0], root)
            steps.append((p @ turned @ q.T).reshape(whole.shape))
        weights = [w - at(lr, t) * (s + at(weight_decay, t) * w) for w, s in zip(weights, steps, strict=True)]
        yield weights
