"""Slow, literal twins of the losses, for tests and pages only: numpy in float64, one loop over examples.

Each public loss has a function of its name here, with the formula as the slide or the paper has it, written without
a look at the loss. It takes what the loss needs, as arrays by name, and the loss's numbers, and gives one number for
each example, or one number where the loss is about the batch or the parameters:

    mse(prediction, target) → [examples]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from ..errors import NotFound
from ..specs import Loss
from . import base, reference_constraints

Array: TypeAlias = np.ndarray[Any, Any]


def twin(kind: str) -> Callable[..., Array]:
    """The slow twin of a kind of loss.

    >>> twin("mse").__name__
    'mse'
    """
    found: Any = globals().get(kind, getattr(reference_constraints, kind, None))
    own = (__name__, reference_constraints.__name__)
    if getattr(found, "__module__", "") not in own or kind in ("twin", "follow", "held"):
        raise NotFound(f"{kind} has no literal twin: write a function of its name in losses/reference.py")
    known: Callable[..., Array] = found
    return known


def follow(loss: Loss, given: Mapping[str, Array], needs: Callable[[Loss], frozenset[str]]) -> Array:
    """What a loss gives, by the twins of what it is made of; ``needs`` says what each of them is given."""
    if loss.kind == "sum":
        return np.sum([follow(term, given, needs) for term in loss.children], axis=0)
    if loss.kind == "scaled":
        return np.multiply(loss.numbers["weight"], follow(loss.children[0], given, needs))
    options = base.behavior(loss).options
    own = {name: reference_constraints.held(option.find(loss, name)) for name, option in options.items()}
    return twin(loss.kind)(**{name: given[name] for name in needs(loss)}, **own, **loss.numbers)


def mse(prediction: Array, target: Array) -> Array:
    """Squared error: Σ_k (y_k − f_k(x))² for each example."""
    return np.array(
        [
            sum((y - f) ** 2 for f, y in zip(np.ravel(fs), np.ravel(ys), strict=True))
            for fs, ys in zip(prediction, target, strict=True)
        ]
    )


def mae(prediction: Array, target: Array) -> Array:
    """Absolute error: Σ_k |y_k − f_k(x)| for each example."""
    return np.array(
        [
            sum(abs(y - f) for f, y in zip(np.ravel(fs), np.ravel(ys), strict=True))
            for fs, ys in zip(prediction, target, strict=True)
        ]
    )


def cross_entropy(prediction: Array, target: Array) -> Array:
    """Cross-entropy −Σ_k t_k log p_k with one-hot t and p = softmax(z), averaged over what one example holds."""
    losses = []
    for z, labels in zip(prediction, target, strict=True):
        columns, places = z.reshape(len(z), -1).T, np.ravel(labels)
        losses.append(
            np.mean([_one_hot_entropy(column, y) for column, y in zip(columns, places, strict=True)])
        )
    return np.array(losses)


def _one_hot_entropy(z: Array, label: int) -> float:
    p = [math.exp(z_k) / sum(math.exp(z_j) for z_j in z) for z_k in z]
    return -sum((1.0 if k == label else 0.0) * math.log(p_k) for k, p_k in enumerate(p))
