from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .natural_gradient import flat, split
from .numbers import Arrays, Number, at


def lbfgs(weights: Arrays, gradients: Iterable[Arrays], *, lr: Number) -> Iterator[Arrays]:
    """w ← w − lr · H·g, with the inverse Hessian H written out by the formula of BFGS from the last ten pairs.

    H₀ = (sᵀy / yᵀy)·I of the last pair, then H ← (I − ρ·s·yᵀ)·H·(I − ρ·y·sᵀ) + ρ·s·sᵀ, ρ = 1 / yᵀs.
    """
    pairs: list[tuple[Any, Any]] = []
    w, before = flat(weights), None
    for t, gradient in enumerate(gradients):
        g = flat(gradient)
        if before is None:
            d = g * min(1.0, 1 / np.abs(g).sum())
        else:
            s, y = w - before[0], g - before[1]
            if s @ y > 1e-10:
                pairs = [*pairs, (s, y)][-10:]
            d = _inverse(pairs, len(g)) @ g
        before = w, g
        w = w - at(lr, t) * d
        yield split(w, weights)


def _inverse(pairs: list[tuple[Any, Any]], n: int) -> Any:
    identity = np.eye(n)
    if not pairs:
        return identity
    s, y = pairs[-1]
    inverse = (s @ y) / (y @ y) * identity
    for s, y in pairs:
        rho = 1 / (y @ s)
        turn = identity - rho * np.outer(s, y)
        inverse = turn @ inverse @ turn.T + rho * np.outer(s, s)
    return inverse
