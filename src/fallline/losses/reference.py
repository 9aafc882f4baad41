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


def _summed(term: Callable[[float, float], float], prediction: Array, target: Array) -> Array:
    return np.array(
        [
            sum(term(float(f), float(y)) for f, y in zip(np.ravel(fs), np.ravel(ys), strict=True))
            for fs, ys in zip(prediction, target, strict=True)
        ]
    )


def huber(prediction: Array, target: Array, delta: float) -> Array:
    """Σ_k ½e² where |e| ≤ δ, else δ(|e| − ½δ), for each example."""

    def term(f: float, y: float) -> float:
        e = abs(y - f)
        return 0.5 * e**2 if e <= delta else delta * (e - 0.5 * delta)

    return _summed(term, prediction, target)


def quantile(prediction: Array, target: Array, level: float) -> Array:
    """Σ_k q·e where the target lies above, else (1 − q)·|e|, for each example."""
    return _summed(lambda f, y: level * (y - f) if y > f else (1 - level) * (f - y), prediction, target)


def cosine(prediction: Array, target: Array) -> Array:
    """One minus y · f / (‖y‖ ‖f‖) for each example; 1 where one of them is zero."""
    each = [(np.ravel(f), np.ravel(y)) for f, y in zip(prediction, target, strict=True)]
    lengths = [math.sqrt(f @ f) * math.sqrt(y @ y) for f, y in each]
    return np.array([1 - (f @ y) / size if size else 1.0 for (f, y), size in zip(each, lengths, strict=True)])


# --- classes ----------------------------------------------------------------------------------------------


def _columns(prediction: Array, target: Array) -> list[list[tuple[Array, Any]]]:
    """For each example its places: the logits there, and what the target has there, a class or shares of classes."""
    found = []
    for z, y in zip(prediction, target, strict=True):
        places = z.reshape(len(z), -1).T
        targets = y.reshape(len(z), -1).T if np.shape(y) == z.shape else np.ravel(y)
        found.append(list(zip(places, targets, strict=True)))
    return found


def _over_places(term: Callable[[Array, Any], float], prediction: Array, target: Array) -> Array:
    return np.array([np.mean([term(z, t) for z, t in each]) for each in _columns(prediction, target)])


def _probabilities(z: Array) -> list[float]:
    return [math.exp(z_k) / sum(math.exp(z_j) for z_j in z) for z_k in z]


def _shares(t: Any, classes: int) -> list[float]:
    return list(t) if np.ndim(t) else [1.0 if k == t else 0.0 for k in range(classes)]


def cross_entropy(prediction: Array, target: Array) -> Array:
    """Cross-entropy −Σ_k t_k log p_k with p = softmax(z), averaged over what one example holds."""
    return smoothed_cross_entropy(prediction, target, 0.0)


def smoothed_cross_entropy(prediction: Array, target: Array, smoothing: float) -> Array:
    """The same with (1 − ε) t_k + ε / K in place of t_k."""

    def term(z: Array, t: Any) -> float:
        mixed = [(1 - smoothing) * t_k + smoothing / len(z) for t_k in _shares(t, len(z))]
        return -sum(t_k * math.log(p_k) for t_k, p_k in zip(mixed, _probabilities(z), strict=True))

    return _over_places(term, prediction, target)


def _yes(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def _over_labels(term: Callable[[float, float], float], prediction: Array, target: Array) -> Array:
    truths = np.reshape(target, prediction.shape)
    return np.array(
        [
            np.mean([term(float(z), float(t)) for z, t in zip(np.ravel(zs), np.ravel(ts), strict=True)])
            for zs, ts in zip(prediction, truths, strict=True)
        ]
    )


def binary_cross_entropy(prediction: Array, target: Array, positive: float) -> Array:
    """−(w t log σ(z) + (1 − t) log(1 − σ(z))), averaged over labels."""
    return _over_labels(
        lambda z, t: -(positive * t * math.log(_yes(z)) + (1 - t) * math.log(1 - _yes(z))), prediction, target
    )


def _is_labels(prediction: Array, target: Array) -> bool:
    return np.shape(target) == prediction.shape or (*np.shape(target), 1) == prediction.shape


def focal(prediction: Array, target: Array, gamma: float) -> Array:
    """−(1 − p)^γ log p, p the probability of the truth."""
    if _is_labels(prediction, target):

        def label(z: float, t: float) -> float:
            p = _yes(z)
            return -(t * (1 - p) ** gamma * math.log(p) + (1 - t) * p**gamma * math.log(1 - p))

        return _over_labels(label, prediction, target)
    return _over_places(
        lambda z, y: -((1 - _probabilities(z)[y]) ** gamma) * math.log(_probabilities(z)[y]),
        prediction,
        target,
    )


def hinge(prediction: Array, target: Array) -> Array:
    """max(0, 1 − s f), or max(0, 1 + the largest other − the own) for classes."""
    if _is_labels(prediction, target):
        return _over_labels(lambda f, t: max(0.0, 1 - (1 if t > 0 else -1) * f), prediction, target)

    def term(f: Array, y: int) -> float:
        return max(0.0, 1 + max(f_k for k, f_k in enumerate(f) if k != y) - f[y])

    return _over_places(term, prediction, target)


def expected_cost(prediction: Array, target: Array, false_positive: float, false_negative: float) -> Array:
    """t c_FN (1 − σ(z)) + (1 − t) c_FP σ(z), averaged over labels."""
    return _over_labels(
        lambda z, t: t * false_negative * (1 - _yes(z)) + (1 - t) * false_positive * _yes(z),
        prediction,
        target,
    )


def cost_matrix(prediction: Array, target: Array, **costs: float) -> Array:
    """Σ_k C[y, k] p_k; a cost that is not given is 1 for a wrong answer and 0 for the right one."""

    def term(z: Array, y: int) -> float:
        paid = [costs.get(f"cost_{y}_{k}", float(k != y)) for k in range(len(z))]
        return sum(c * p for c, p in zip(paid, _probabilities(z), strict=True))

    return _over_places(term, prediction, target)


def confidence_penalty(prediction: Array) -> Array:
    """Σ_k p_k log p_k, averaged over what one example holds."""
    places = [z.reshape(len(z), -1).T for z in prediction]
    return np.array(
        [np.mean([sum(p * math.log(p) for p in _probabilities(z)) for z in each]) for each in places]
    )
