"""Numbers: what a hyperparameter may be (:class:`Domain`), and the values that it takes (:class:`Axis`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .errors import BadValue


@dataclass(frozen=True)
class Axis:
    """A hyperparameter that takes several values, one for each run: an axis of a fleet, or what is tuned.

    Args:
        values: the values, in increasing order where they are to be tuned.
        log: whether the values are compared (and a range is widened) on a logarithmic scale.

    >>> Axis((0.01, 0.1, 1.0))
    axis(0.01, 0.1, 1)
    """

    values: tuple[float, ...]
    log: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        if not self.values:
            raise BadValue("an axis needs at least one value, got none")
        if any(not math.isfinite(v) for v in self.values):
            raise BadValue(f"the values of an axis must be finite numbers, got {self.values}")
        if self.log and min(self.values) <= 0:
            raise BadValue(
                f"a logarithmic axis needs values above 0, got {min(self.values):g}: pass log=False"
            )

    def __repr__(self) -> str:
        return f"axis({', '.join(show(v) for v in self.values)})"


def axis(*values: float, log: bool = True) -> Axis:
    """Name the values of a hyperparameter that differs from run to run.

    Args:
        *values: the values, in increasing order where they are to be tuned.
        log: whether the values are compared (and a range is widened) on a logarithmic scale.

    >>> axis(0.1, 1)
    axis(0.1, 1)
    """
    return Axis(tuple(values), log=log)


def log_axis(low: float, high: float, points: int) -> Axis:
    """Values spaced evenly on a logarithmic scale, both ends included.

    Args:
        low: the smallest value, above 0.
        high: the largest value, above ``low``.
        points: how many values, at least 2.

    >>> log_axis(0.01, 1, 3)
    axis(0.01, 0.1, 1)
    """
    if not (0 < low < high and points >= 2):
        raise BadValue(f"log_axis needs 0 < low < high and at least 2 points, got {low=}, {high=}, {points=}")
    ratio = math.log10(high / low) / (points - 1)
    return Axis(tuple(float(f"{low * 10 ** (ratio * i):.6g}") for i in range(points)))


@dataclass(frozen=True)
class Domain:
    """The numbers that a hyperparameter may be, with its meaning and unit, for the error that teaches."""

    meaning: str
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        if self.low == -math.inf and self.high == math.inf:
            return "of any finite size"
        if self.high == math.inf:
            return f"{'above' if self.open_low else 'at least'} {self.low:g}"
        return f"in {left}{self.low:g}, {self.high:g}{right}"

    def check(self, owner: str, name: str, value: Any) -> None:
        """Refuse a number outside of the domain; schedules are checked at their own numbers, axes at each value."""
        if hasattr(value, "at"):
            return
        for one in value.values if isinstance(value, Axis) else (value,):
            if isinstance(one, bool) or not isinstance(one, (int, float)):
                raise BadValue(
                    f"{owner}({name}={one!r}): {name} is {self.meaning}, a number {self}; got {_kind(one)}"
                )
            if not math.isfinite(one) or one not in self:
                finite = "" if math.isfinite(one) else "a finite number "
                raise BadValue(
                    f"{owner}({name}={one:g}): {name} is {self.meaning} and must be {finite}{self}; got {one:g}"
                )


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def show(value: Any) -> str:
    """A number in six digits, anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return repr(value)
    return f"{value:.6g}"
