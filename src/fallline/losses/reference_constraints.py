"""Slow, literal twins of the losses that hold something, in numpy and float64; see :mod:`fallline.losses.reference`.

They take what is held as arrays by name, or as a function of arrays, beside what the loss needs and its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

Array: TypeAlias = np.ndarray[Any, Any]
Arrays: TypeAlias = Mapping[str, Array]
Constraint: TypeAlias = Callable[[Any], Array]


def held(thing: Any) -> Any:
    """What a loss holds, for a twin: tensors as arrays, a model or a function as a function of arrays."""
    if isinstance(thing, Mapping):
        return {name: t.double().numpy() for name, t in thing.items()}
    if isinstance(thing, nn.Module):
        return lambda x: thing.double()(torch.from_numpy(x)).detach().numpy()
    if callable(thing):
        return lambda given: thing(SimpleNamespace(**{k: _tensor(v) for k, v in given.items()})).numpy()
    return thing


def _tensor(value: Any) -> Any:
    return {k: _tensor(v) for k, v in value.items()} if isinstance(value, dict) else torch.from_numpy(value)


def l2_sp(params: Arrays, old: Arrays, alpha: float, beta: float) -> float:
    """α/2 Σ (w − w⁰)² over the weights that the old model has, β/2 Σ w² over the others."""
    total = 0.0
    for name, p in params.items():
        for index, w in np.ndenumerate(p):
            total += alpha / 2 * (w - old[name][index]) ** 2 if name in old else beta / 2 * w**2
    return total


def elastic(params: Arrays, old: Arrays, fisher: Arrays) -> float:
    """½ Σ_i F_i (w_i − w_i⁰)²."""
    total = 0.0
    for name in old:
        for index, f in np.ndenumerate(fisher[name]):
            total += 0.5 * f * (params[name][index] - old[name][index]) ** 2
    return total


def distillation(
    prediction: Array, inputs: Array, old: Callable[[Array], Array], temperature: float
) -> Array:
    """T² Σ_k p_k log(p_k / q_k), averaged over what one example holds."""
    each = []
    for z_old, z_new in zip(old(inputs), prediction, strict=True):
        columns = zip(z_old.reshape(len(z_old), -1).T, z_new.reshape(len(z_new), -1).T, strict=True)
        each.append(
            np.mean([temperature**2 * _divergence(a / temperature, b / temperature) for a, b in columns])
        )
    return np.array(each)


def _divergence(a: Array, b: Array) -> float:
    p, q = ([math.exp(z_k) / sum(math.exp(z_j) for z_j in z) for z_k in z] for z in (a, b))
    return sum(p_k * math.log(p_k / q_k) for p_k, q_k in zip(p, q, strict=True))


def quadratic_penalty(
    prediction: Array, constraint: Constraint, equality: bool, needs: Any, count: int, mu: float, **given: Any
) -> float:
    """μ/2 Σ c², of the broken ones alone where c ≤ 0 is asked for."""
    values = np.ravel(constraint({"prediction": prediction, **given}))
    return sum(mu / 2 * c**2 for c in values if equality or c > 0)


def augmented_lagrangian(
    prediction: Array, constraint: Constraint, equality: bool, needs: Any, count: int, mu: float, every: float,
    pace: float, multiplier: Any = None, **given: Any,
) -> float:  # fmt: skip
    """The augmented Lagrangian, an inequality by the slack s ≥ 0 that is best for it: λ(c + s) + μ/2 (c + s)²."""
    total = 0.0
    values = np.ravel(constraint({"prediction": prediction, **given}))
    for c, at in zip(values, np.zeros(count) if multiplier is None else multiplier, strict=True):
        slack = 0.0 if equality else max(0.0, -(c + at / mu))
        total += at * (c + slack) + mu / 2 * (c + slack) ** 2
    return total
