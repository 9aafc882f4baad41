"""A figure as data: panels of marks, each mark plain arrays with their encodings, under a title that concludes.

What draws is elsewhere (:mod:`fallline.reports.draw_svg`), so a figure can be tested, stored and drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BadValue

Array = NDArray[np.float64]

SHAPES = ("line", "band", "points", "whiskers", "left", "right", "crosses", "hline", "vspan", "text")


@dataclass(frozen=True)
class Scale:
    """One axis: what it shows, with its unit, and how.

    Args:
        label: the quantity and, in parentheses, its unit.
        log: whether equal distances are equal ratios.
        low, high: its ends; None leaves an end to the data.
    """

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Mark:
    """Some things of one shape, drawn alike.

    Args:
        shape: one of ``SHAPES``. A band spans ``low`` to ``high`` along y, whiskers along x, a vspan along x over the
            whole height; an hline lies at ``y``; left and right are arrowheads; crosses lie on the x axis.
        x, y: positions [k], in the units of the axes. In a panel with rows, y is the number of the row.
        low, high: the ends of bands, whiskers and spans [k].
        style: the arm that is shown: its number decides color, marker and dash together; None is neutral.
        role: 'main'; 'faint' for raw data behind a summary; 'context' for what is there to compare with.
        text: what a 'text' mark says at each position.
    """

    shape: str
    x: Array = field(default_factory=lambda: np.empty(0))
    y: Array = field(default_factory=lambda: np.empty(0))
    low: Array | None = None
    high: Array | None = None
    style: int | None = None
    role: str = "main"
    text: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise BadValue(f"a mark's shape is one of {', '.join(SHAPES)}; got {self.shape!r}")
        for name in ("x", "y", "low", "high"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, np.atleast_1d(np.asarray(value, dtype=np.float64)))


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes.

    Args:
        x, y: the axes; a panel with ``rows`` has no y axis but one named row for each entry, the first on top.
        marks: what is drawn, first below.
        title: what this panel shows, where the figure has several.
        alt: the panel in words, with its numbers, for people who do not see it.
        rows: names of the rows.
        style: the arm whose sign stands before the title, in a panel about one arm.
        size: width and height in CSS pixels; a page may scale it a little.
    """

    x: Scale
    y: Scale | None
    marks: tuple[Mark, ...]
    title: str = ""
    alt: str = ""
    rows: tuple[str, ...] = ()
    style: int | None = None
    size: tuple[float, float] = (424, 270)


@dataclass(frozen=True, eq=False)
class Figure:
    """Panels under one conclusion.

    Args:
        kind: what sort of figure it is, such as 'ranking'; it also names the figure's place in the page.
        title: the conclusion, computed from the data.
        panels: side by side where there is room.
        caption: what is drawn: the center, the interval, n.
        legend: (label, style) of what the panels share.
        columns: how many panels stand side by side where there is room.
    """

    kind: str
    title: str
    panels: tuple[Panel, ...]
    caption: str = ""
    legend: tuple[tuple[str, int], ...] = ()
    columns: int = 2

    def plain(self) -> dict[str, Any]:
        """The figure as plain data, arrays as lists; :func:`fallline.records.json_text` writes it."""
        return _plain(self)

    @staticmethod
    def rebuild(data: Mapping[str, Any]) -> Figure:
        """The figure that :meth:`plain` wrote down."""
        panels = tuple(_panel(panel) for panel in data["panels"])
        legend = tuple((str(label), int(style)) for label, style in data["legend"])
        return Figure(**{**data, "panels": panels, "legend": legend})


def _panel(data: Mapping[str, Any]) -> Panel:
    x, y = (None if data[name] is None else Scale(**data[name]) for name in ("x", "y"))
    assert x is not None
    marks = tuple(Mark(**{**mark, "text": tuple(mark["text"])}) for mark in data["marks"])
    sizes = {"rows": tuple(data["rows"]), "size": tuple(data["size"])}
    return Panel(**{**data, "x": x, "y": y, "marks": marks, **sizes})


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (Figure, Panel, Mark, Scale)):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
