from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at, ratio


def schedule_free_adamw(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    beta1: Number,
    beta2: Number,
    eps: Number,
    weight_decay: Number,
) -> Iterator[Arrays]:
    """Algorithm 1 of Defazio et al. with the correction in v̂; gives x."""
    x = y = z = weights
    v, squares = [np.zeros_like(w) for w in weights], 0.0
    for t, gradient in enumerate(gradients):
        rate, b1, b2 = at(lr, t), at(beta1, t), at(beta2, t)
        v = [b2 * v_i + (1 - b2) * g**2 for v_i, g in zip(v, gradient, strict=True)]
        v_hat = [v_i / (1 - b2 ** (t + 1)) for v_i in v]
        z = [
            z_i - rate * ratio(g, np.sqrt(v_i) + at(eps, t)) - rate * at(weight_decay, t) * y_i
            for z_i, y_i, g, v_i in zip(z, y, gradient, v_hat, strict=True)
        ]
        squares += rate**2
        c = rate**2 / squares if squares > 0 else 0.0
        x = [(1 - c) * x_i + c * z_i for x_i, z_i in zip(x, z, strict=True)]
        y = [(1 - b1) * z_i + b1 * x_i for x_i, z_i in zip(x, z, strict=True)]
        yield x
