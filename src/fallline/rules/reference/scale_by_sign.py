from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .numbers import Arrays


def scale_by_sign(gradients: Iterable[Arrays]) -> Iterator[Arrays]:
    """−1, 0 or 1 for each entry."""
    for gradient in gradients:
        yield [np.sign(g) for g in gradient]
