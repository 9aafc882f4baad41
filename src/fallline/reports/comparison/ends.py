"""Where axes end."""

from __future__ import annotations

import numpy as np

from ...figure import Array


def padded(values: Array, share: float = 0.04) -> tuple[float, float]:
    """The ends of an axis with a little room around all finite values.

    >>> padded(np.array([0.0, 1.0, np.nan]))
    (-0.04, 1.04)
    """
    finite = np.asarray(values)[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    room = (high - low) * share or abs(high) * 0.05 or 0.5
    return low - room, high + room


def bulk(values: Array) -> tuple[float, float]:
    """The ends of an axis for scores: all of them where they are shares, or else their bulk.

    An unbounded score (R², a negative loss) of one bad run would press all others flat.
    """
    finite = np.asarray(values)[np.isfinite(values)]
    if not len(finite) or (finite.min() >= 0 and finite.max() <= 1):
        return padded(finite)
    low, high = np.percentile(finite, (10, 90))
    span = high - low
    return padded(np.array([max(finite.min(), low - span), min(finite.max(), high + span)]))
