from __future__ import annotations

from collections.abc import Iterable, Iterator

from .numbers import Arrays, Number, at


def average(path: Iterable[Arrays], *, decay: Number) -> Iterator[Arrays]:
    """w̄ ← decay · w̄ + (1 − decay) · w along a path of weights, with w̄ = the first of them."""
    points = iter(path)
    mean = next(points)
    for t, weights in enumerate(points):
        share = at(decay, t)
        mean = [share * m + (1 - share) * w for m, w in zip(mean, weights, strict=True)]
        yield mean
