from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .numbers import Arrays, Number, at, ratio


def adafactor(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    growth: Number,
    eps1: Number,
    eps2: Number,
    clip: Number,
    weight_decay: Number,
) -> Iterator[Arrays]:
    """Algorithms 4 (matrices) and 5 (vectors) of Shazeer and Stern with sums as written, β₂ as in section 7.2."""
    rows: list[Any] = [0.0 for _ in weights]
    columns: list[Any] = [0.0 for _ in weights]
    for step, gradient in enumerate(gradients):
        t, moved = step + 1, []
        beta2 = 1 - t ** -at(growth, step)
        for i, (w, g) in enumerate(zip(weights, gradient, strict=True)):
            square = g**2 + at(eps1, step)
            if w.ndim > 1:
                rows[i] = beta2 * rows[i] + (1 - beta2) * square.sum(-1, keepdims=True)
                columns[i] = beta2 * columns[i] + (1 - beta2) * square.sum(-2, keepdims=True)
                v = ratio(rows[i] * columns[i], rows[i].sum(-2, keepdims=True) * np.ones_like(w))
            else:
                rows[i] = v = beta2 * rows[i] + (1 - beta2) * square
            u = ratio(g, np.sqrt(v))
            u = u / max(1.0, _rms(u) / at(clip, step))
            alpha = max(at(eps2, step), _rms(w)) * min(at(lr, step), 1 / math.sqrt(t))
            moved.append(w - alpha * u - at(lr, step) * at(weight_decay, step) * w)
        weights = moved
        yield weights


def _rms(x: np.ndarray) -> float:
    return math.sqrt(np.sum(x**2) / x.size) if x.size else 0.0
