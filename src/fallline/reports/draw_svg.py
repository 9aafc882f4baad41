"""Panels drawn as inline SVG.

matplotlib lays out and draws, through its objects and never through pyplot, so nothing global is left behind;
:mod:`fallline.reports.inline` then fits what it wrote into a page.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ..errors import BadValue
from ..figure import Array, Mark, Panel, Scale
from . import palette, words
from .html import Markup, readable
from .inline import STAND_IN, inline

_SMALL, _NORMAL = 11.0, 12.0  # CSS pixels
_ROW_LABEL = 46  # characters that fit above a row
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fallline",
    "font.size": _SMALL,
    "text.parse_math": False,  # a label may hold a dollar sign
    "axes.unicode_minus": True,
    "path.simplify_threshold": 0.3,
}


def draw(panel: Panel, ident: str) -> Markup:
    """One panel as an SVG element.

    Args:
        panel: what to draw.
        ident: begins every id inside, so that no two drawings of a page share one.
    """
    width, height = panel.size
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has the font
        canvas = Canvas(
            figsize=(width / 72, height / 72), layout=ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=2 / 72)
        )
        axes = canvas.add_subplot()
        _draw_rows(axes, panel.rows) if panel.rows else _draw_axis(axes, "y", panel.y or Scale(""))
        _draw_axis(axes, "x", panel.x)
        _frame(axes, panel)
        for order, mark in enumerate(panel.marks):
            _SHAPES[mark.shape](axes, mark, 2 + order / 1000)
        _set_ends(axes, panel)
        file = io.StringIO()
        FigureCanvasSVG(canvas).print_svg(file, metadata={"Date": None})
    return inline(file.getvalue(), panel, ident)


# --- axes -------------------------------------------------------------------------------------------------


def _frame(axes: Axes, panel: Panel) -> None:
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_edgecolor(STAND_IN["muted"])
        spine.set_linewidth(0.7)
    axes.tick_params(which="both", length=0, pad=4, labelcolor=STAND_IN["muted"], labelsize=_SMALL)
    axes.tick_params(axis="x", which="major", length=3, width=0.7, color=STAND_IN["muted"])
    axes.grid(axis="x" if panel.rows else "y", color=STAND_IN["line"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(panel.x.label, color=STAND_IN["muted"], fontsize=_SMALL, labelpad=5)
    if panel.y is not None and panel.y.label:  # above its axis, where it reads without turning the head
        axes.set_title(panel.y.label, loc="left", x=0, color=STAND_IN["muted"], fontsize=_SMALL, pad=8)


def _draw_axis(axes: Axes, which: str, scale: Scale) -> None:
    axis = getattr(axes, f"{which}axis")
    if scale.log:
        getattr(axes, f"set_{which}scale")("log")
        decades = abs(np.log10((scale.high or 10) / (scale.low or 1)))
        subs = (1, 2, 5) if decades <= 1.2 else (1, 3) if decades <= 2.2 else (1,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=4 if axes.bbox.width < 300 else 8))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: words.trim(value, 2)))
    else:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: words.trim(value, 6)))


def _set_ends(axes: Axes, panel: Panel) -> None:
    axes.set_xlim(panel.x.low, panel.x.high)
    if panel.rows:
        axes.set_ylim(len(panel.rows) - 0.55, -0.75)
    elif panel.y is not None:
        axes.set_ylim(panel.y.low, panel.y.high)


def _draw_rows(axes: Axes, rows: Sequence[str]) -> None:
    """Rows with their names above them: a long name takes nothing from the width of the drawing."""
    axes.yaxis.set_major_locator(FixedLocator([]))
    for i, name in enumerate(rows):
        axes.annotate(
            words.shorten(readable(name), _ROW_LABEL), (0, i), (0, 7), ("axes fraction", "data"),
            textcoords="offset points", fontsize=_NORMAL, color=STAND_IN["ink"], va="bottom",
        )  # fmt: skip


# --- shapes -----------------------------------------------------------------------------------------------


def _look(mark: Mark) -> tuple[str, float]:
    """The color and the opacity of a mark."""
    if mark.role == "context":
        return STAND_IN["line" if mark.style is None else palette.color(mark.style)], 1
    return STAND_IN[palette.color(mark.style)], 0.45 if mark.role == "faint" else 1


def _line(axes: Axes, mark: Mark, order: float) -> None:
    color, alpha = _look(mark)
    dashes = palette.dash(mark.style)
    axes.plot(
        mark.x, mark.y, color=color, alpha=alpha, zorder=order, linewidth=1.0 if mark.role == "context" else 1.8,
        linestyle=(0, dashes) if dashes else "solid", solid_capstyle="round", dash_capstyle="butt",
    )  # fmt: skip


def _band(axes: Axes, mark: Mark, order: float) -> None:
    low, high = _span(mark)
    axes.fill_between(mark.x, low, high, color=_look(mark)[0], alpha=0.16, linewidth=0, zorder=order)


def _points(axes: Axes, mark: Mark, order: float) -> None:
    color, alpha = _look(mark)
    faint = mark.role == "faint"
    axes.plot(
        mark.x, mark.y, linestyle="none", marker="o" if faint else palette.marker(mark.style), zorder=order, alpha=alpha,
        markersize=3.4 if faint else palette.size(mark.style), markerfacecolor=color, markeredgewidth=0 if faint else 1.1,
        markeredgecolor=STAND_IN["paper"],
    )  # fmt: skip


def _crosses(axes: Axes, mark: Mark, order: float) -> None:
    color, _ = _look(mark)
    width = 0.9 if mark.role == "faint" else 1.9
    axes.plot(
        mark.x, mark.y, linestyle="none", marker="x", markersize=5.5, markeredgecolor=color, markeredgewidth=width,
        zorder=order, clip_on=False, transform=axes.get_xaxis_transform(),
    )  # fmt: skip


def _whiskers(axes: Axes, mark: Mark, order: float) -> None:
    low, high = _span(mark)
    axes.hlines(mark.y, low, high, color=_look(mark)[0], linewidth=2.0, zorder=order, capstyle="round")


def _arrow(marker: str) -> Callable[[Axes, Mark, float], None]:
    def draw_arrow(axes: Axes, mark: Mark, order: float) -> None:
        color = _look(mark)[0]
        axes.plot(mark.x, mark.y, marker, markersize=8, color=color, markeredgewidth=0, zorder=order)

    return draw_arrow


def _hline(axes: Axes, mark: Mark, order: float) -> None:
    for y in mark.y:
        axes.axhline(y, color=STAND_IN["muted"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=order)


def _vspan(axes: Axes, mark: Mark, order: float) -> None:
    for low, high in zip(*_span(mark), strict=True):
        axes.axvspan(low, high, color=_look(mark)[0], alpha=0.1, linewidth=0, zorder=order)


def _text(axes: Axes, mark: Mark, order: float) -> None:
    for x, y, text in zip(mark.x, mark.y, mark.text, strict=True):
        axes.annotate(
            readable(text), (x, y), (8, 0), textcoords="offset points", fontsize=_SMALL, va="center", zorder=order,
            color=STAND_IN["muted" if mark.role == "context" else "ink"], annotation_clip=False,
        )  # fmt: skip


def _span(mark: Mark) -> tuple[Array, Array]:
    if mark.low is None or mark.high is None:
        raise BadValue(f"a mark of shape {mark.shape!r} needs low and high, the ends that it spans")
    return mark.low, mark.high


_SHAPES: dict[str, Callable[[Axes, Mark, float], None]] = {
    "line": _line, "band": _band, "points": _points, "crosses": _crosses, "whiskers": _whiskers, "hline": _hline,
    "vspan": _vspan, "text": _text, "left": _arrow("<"), "right": _arrow(">"),
}  # fmt: skip
