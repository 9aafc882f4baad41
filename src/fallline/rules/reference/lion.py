from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at


def lion(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    beta1: Number,
    beta2: Number,
    weight_decay: Number,
) -> Iterator[Arrays]:
    """Algorithm 2 of Chen et al., in its order: the mixture, the step with its decay, then the memory."""
    m = [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        mixed = [at(beta1, t) * m_i + (1 - at(beta1, t)) * g for m_i, g in zip(m, gradient, strict=True)]
        weights = [
            w - at(lr, t) * (np.sign(c) + at(weight_decay, t) * w)
            for w, c in zip(weights, mixed, strict=True)
        ]
        m = [at(beta2, t) * m_i + (1 - at(beta2, t)) * g for m_i, g in zip(m, gradient, strict=True)]
        yield weights
