from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays, Number, at


def clip_units(
    gradients: Iterable[Arrays], weights: Iterable[Arrays], *, share: Number, eps: Number
) -> Iterator[Arrays]:
    """λ · max(‖wᵢ‖, ε) / ‖gᵢ‖ · gᵢ where ‖gᵢ‖ / max(‖wᵢ‖, ε) > λ, for each unit i."""
    for t, (gradient, weight) in enumerate(zip(gradients, weights, strict=False)):
        out = []
        for g, w in zip(gradient, weight, strict=True):
            rows = zip(g, w, strict=True) if g.ndim > 1 else [(g, w)]
            bounded = []
            for row, unit in rows:
                bound = at(share, t) * max(float(np.linalg.norm(unit)), at(eps, t))
                norm = float(np.linalg.norm(row))
                bounded.append(row * bound / norm if norm > bound else row)
            out.append(np.stack(bounded) if g.ndim > 1 else bounded[0])
        yield out
