from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .numbers import Arrays, Number, at


def shampoo(
    weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, beta: Number, decay: Number, damping: Number
) -> Iterator[Arrays]:
    """Algorithm 1 of Gupta, Koren and Singer, with momentum, and a diagonal for what is no matrix."""
    left: list[Any] = [0.0 for _ in weights]
    right: list[Any] = [0.0 for _ in weights]
    sums = [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients):
        keep, eps = at(decay, t), at(damping, t)
        new = 1.0 if keep == 1 else 1 - keep
        for i, whole in enumerate(gradient):
            if whole.ndim < 2:
                left[i] = keep * left[i] + new * whole**2
                d = whole / np.sqrt(left[i] + eps)
            else:
                g = whole.reshape(len(whole), -1)
                left[i], right[i] = keep * left[i] + new * g @ g.T, keep * right[i] + new * g.T @ g
                d = (_root(left[i], eps) @ g @ _root(right[i], eps)).reshape(whole.shape)
            sums[i] = at(beta, t) * sums[i] + d
        weights = [w - at(lr, t) * s for w, s in zip(weights, sums, strict=True)]
        yield weights


def _root(m: Any, eps: float) -> Any:
    """(M + εI)^−¼ by a singular value decomposition."""
    u, s, v = np.linalg.svd(m + eps * np.eye(len(m)))
    return u * s**-0.25 @ v
