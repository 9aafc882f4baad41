from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .numbers import Arrays, Number, at


def natural_gradient(
    weights: Arrays,
    gradients: Iterable[Arrays],
    *,
    lr: Number,
    damping: Number,
    oracles: Sequence[Callable[[Arrays], Any]],
) -> Iterator[Arrays]:
    """w ← w − lr · (F + λI)⁻¹ · g, with F written out column by column, and solved by elimination."""
    for t, gradient in enumerate(gradients):
        product = oracles[t](weights).fisher_vp("exact")
        g = flat(gradient)
        fisher = np.stack([flat(product(split(row, weights))) for row in np.eye(len(g))], 1)
        d = np.linalg.solve(fisher + at(damping, t) * np.eye(len(g)), g)
        weights = [w - at(lr, t) * x for w, x in zip(weights, split(d, weights), strict=True)]
        yield weights


def flat(arrays: Arrays) -> Any:
    """Arrays as one vector."""
    return np.concatenate([a.ravel() for a in arrays])


def split(vector: Any, like: Arrays) -> Arrays:
    """A vector as arrays of these shapes."""
    ends = np.cumsum([a.size for a in like])[:-1]
    return [part.reshape(a.shape) for part, a in zip(np.split(vector, ends), like, strict=True)]
