from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .adamw import adamw
from .numbers import Arrays, Number, at


def kfac(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    damping: Number,
    decay: Number,
    beta: Number,
    adam_lr: Number,
    oracles: Sequence[Callable[[Arrays], Any]],
) -> Iterator[Arrays]:
    """Martens and Grosse's step, the Kronecker product of the damped factors written out and solved; without biases."""
    given = list(gradients)
    rest = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
    others = list(adamw(weights, given, lr=adam_lr, **rest))
    factors: dict[int, list[Any]] = {}
    sums = [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(given):
        seen = oracles[t](weights).kron_factors("sampled")
        weights = [w if i in seen else others[t][i] for i, w in enumerate(weights)]
        for i, pair in seen.items():
            keep = min(1 - 1 / (t + 1), at(decay, t))
            old = factors.get(i, [0.0, 0.0])
            factors[i] = [keep * was + (1 - keep) * new for was, new in zip(old, pair, strict=True)]
            d = dense_solution(factors[i][0][:-1, :-1], factors[i][1], gradient[i], at(damping, t))
            sums[i] = at(beta, t) * sums[i] + d
            weights[i] = weights[i] - at(lr, t) * sums[i]
        yield list(weights)


def dense_solution(a: Any, g: Any, gradient: Any, damping: float) -> Any:
    """((G + √λ/π·I) ⊗ (A + π√λ·I))⁻¹ · vec(∇W), rows of ∇W one after another."""
    pi = np.sqrt((np.trace(a) / len(a)) / (np.trace(g) / len(g)))
    root = np.sqrt(damping)
    whole = np.kron(g + root / pi * np.eye(len(g)), a + pi * root * np.eye(len(a)))
    return np.linalg.solve(whole, gradient.ravel()).reshape(gradient.shape)
