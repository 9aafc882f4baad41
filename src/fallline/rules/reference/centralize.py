from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays


def centralize(gradients: Iterable[Arrays]) -> Iterator[Arrays]:
    """Each slice along the first axis less its mean, where there is more than one axis."""
    for gradient in gradients:
        yield [np.array([row - row.mean() for row in g]) if g.ndim > 1 else g for g in gradient]
