"""Numbers of a twin: fixed, by step, or a function of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

Arrays: TypeAlias = list[np.ndarray[Any, np.dtype[np.float64]]]
Number: TypeAlias = float | Sequence[float] | Callable[[int], float]


def at(number: Number, step: int) -> float:
    """The value of a number at a step counted from 0.

    >>> at(0.5, 3), at([1.0, 2.0], 1), at(lambda step: 2.0 * step, 3)
    (0.5, 2.0, 6.0)
    """
    if callable(number):
        return float(number(step))
    return float(number[step] if isinstance(number, Sequence) else number)


def ratio(over: Any, under: Any) -> Any:
    """over / under, and 0 where under is 0: what the slides leave open."""
    return np.divide(over, under, out=np.zeros_like(over), where=under != 0)
