from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at


def average_equally(path: Iterable[Arrays], *, first: Number, every: Number) -> Iterator[Arrays]:
    """The mean of the weights after the steps first, first + every, …; before those, the weights themselves."""
    taken: list[Arrays] = []
    for t, weights in enumerate(path):
        start, gap = math.ceil(at(first, max(t - 1, 0))), math.ceil(at(every, max(t - 1, 0)))
        if t >= start and (t - start) % gap == 0:
            taken.append(weights)
        if t > 0:
            yield [np.mean(past, axis=0) for past in zip(*taken, strict=True)] if taken else weights
