"""Figures that many studies draw: numbers over replicates against something, and numbers side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..figure import Mark, Panel, Scale
from .stats import interval

Floats = NDArray[np.float64]
LEVEL = 0.95


def lines(x: ArrayLike, y: Mapping[str, ArrayLike], across: Scale, up: Scale, *, title: str = "") -> Panel:
    """A line for each label: the mean over replicates, with the band of its interval.

    Args:
        x: [k] positions.
        y: by label [replicates, k] numbers, or [k] of what is known exactly; in the order of the legend's styles.
        across, up: the axes.
        title: of the panel.
    """
    places = np.asarray(x, dtype=np.float64)
    bands, centers, said = [], [], []
    for style, (label, values) in enumerate(y.items()):
        low, middle, high = _summary(np.asarray(values, dtype=np.float64))
        if not np.array_equal(low, high, equal_nan=True):
            bands.append(Mark("band", places, low=low, high=high, style=style))
        centers.append(Mark("line", places, middle, style=style))
        said.append(f"{label} goes from {middle[0]:.3g} to {middle[-1]:.3g}")
    alt = f"{up.label} against {across.label}: {'; '.join(said)}."
    return Panel(across, up, (*bands, *centers), title=title, alt=alt)


def rows(
    values: Mapping[str, ArrayLike], across: Scale, *, title: str = "", at: float | None = None
) -> Panel:
    """A row for each label: the mean with its interval, and the replicates as dots.

    Args:
        values: by label [replicates] numbers.
        across: the axis.
        title: of the panel.
        at: a number to compare with, such as 0.
    """
    marks: list[Mark] = []
    said = []
    for row, (label, given) in enumerate(values.items()):
        own = np.asarray(given, dtype=np.float64)
        own = own[np.isfinite(own)]
        found = interval(own)
        said.append(f"{label} {'unknown' if found.value is None else format(found.value, '.3g')}")
        marks.append(Mark("points", own, np.full(len(own), row), style=row, role="faint"))
        if found.value is not None:
            low, high = (found.value if end is None else end for end in (found.low, found.high))
            marks.append(
                Mark(
                    "whiskers",
                    np.array([found.value]),
                    np.array([row]),
                    low=np.array([low]),
                    high=np.array([high]),
                    style=row,
                )
            )
            marks.append(Mark("points", np.array([found.value]), np.array([row]), style=row))
    if at is not None:
        marks.insert(
            0, Mark("line", np.array([at, at]), np.array([-0.75, len(values) - 0.55]), role="context")
        )
    alt = f"{across.label}: {'; '.join(said)}."
    return Panel(
        across,
        None,
        tuple(marks),
        title=title,
        alt=alt,
        rows=tuple(values),
        size=(424, 44 * len(values) + 56),
    )


def legend(labels: Mapping[str, object]) -> tuple[tuple[str, int], ...]:
    """The legend of :func:`lines`: labels in their order."""
    return tuple((label, style) for style, label in enumerate(labels))


def _summary(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Low end, mean and high end at each position; NaN where no replicate finished."""
    if values.ndim == 1:
        return values, values, values
    found = [interval(column, level=LEVEL) for column in values.T]
    ends = [[one.low, one.value, one.high] for one in found]
    filled = [
        [
            np.nan if v is None else v
            for v in (low if low is not None else mid, mid, high if high is not None else mid)
        ]
        for low, mid, high in ends
    ]
    low, middle, high = np.array(filled, dtype=np.float64).T
    return low, middle, high
