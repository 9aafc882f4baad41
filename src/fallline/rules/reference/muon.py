from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .adamw import adamw
from .numbers import Arrays, Number, at


def muon(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    beta: Number,
    weight_decay: Number,
    adam_lr: Number,
    adam_beta1: Number,
    adam_beta2: Number,
    adam_eps: Number,
) -> Iterator[Arrays]:
    """Nesterov's mean of gradients, made orthogonal by the public implementation's loop; AdamW for the rest.

    Without names, every matrix is a hidden one.
    """
    given = list(gradients)
    rest = {
        "lr": adam_lr,
        "beta1": adam_beta1,
        "beta2": adam_beta2,
        "eps": adam_eps,
        "weight_decay": weight_decay,
    }
    others = list(adamw(weights, given, **rest))
    mean = [np.zeros_like(w) for w in weights]
    hidden = list(weights)
    for t, gradient in enumerate(given):
        b = at(beta, t)
        for i, g in enumerate(gradient):
            if g.ndim < 2:
                hidden[i] = others[t][i]
                continue
            mean[i] = b * mean[i] + (1 - b) * g
            step = newton_schulz((b * mean[i] + (1 - b) * g).reshape(len(g), -1))
            step *= math.sqrt(max(1, step.shape[0] / step.shape[1]))
            hidden[i] = (1 - at(lr, t) * at(weight_decay, t)) * hidden[i] - at(lr, t) * step.reshape(g.shape)
        yield list(hidden)


def newton_schulz(g: Any, steps: int = 5) -> Any:
    """Five steps of X ← a·X + b·XXᵀX + c·XXᵀXXᵀX from X = G / ‖G‖."""
    x = g / max(float(np.linalg.norm(g)), 1e-7)
    for _ in range(steps):
        x = 3.4445 * x - 4.775 * (x @ x.T @ x) + 2.0315 * (x @ x.T @ x @ x.T @ x)
    return x
