"""A page: one HTML file that needs nothing else, neither a network nor fonts nor scripts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..figure import Figure, Panel
from . import palette, words
from .draw_svg import draw
from .html import Child, Markup, breakable, element, join
from .inline import swatch

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # a browser that keeps to this loads nothing


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading; one without content is left out."""

    heading: str
    content: Markup


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, whether it holds numbers, and a class for its width."""

    heading: str
    numeric: bool = False
    class_: str | None = None


def page(title: str, top: Child, sections: Iterable[Section], foot: Child = "") -> str:
    """A whole page.

    Args:
        title: the page's name, for the browser's tab and the first heading.
        top: what stands above all sections: the verdict.
        sections: the parts, in order.
        foot: a last line.
    """
    parts = [section for section in sections if section.content]
    head = element(
        "head", element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="generator", content="fallline"),
        element("title", title), element("style", style()),
    )  # fmt: skip
    body = element(
        "body",
        element("header", element("h1", title), top),
        element("main", [_section(section) for section in parts]),
        element("footer", foot),
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


def write(text: str, path: Path) -> Path:
    """Write a file beside, sync and rename: a reader never sees half of it."""
    beside = path.with_name(f"{path.name}.new")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path


@cache
def style() -> Markup:
    """The page's style sheet, with its colors for light and dark."""
    light, dark = (
        "".join(f"--{name}: {pair[i]}; " for name, pair in palette.names().items()) for i in (0, 1)
    )
    colors = f":root {{ {light}}}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n"
    return Markup("\n" + colors + files(__package__).joinpath("page.css").read_text(encoding="utf-8"))


def _section(section: Section) -> Markup:
    ident = "-".join(section.heading.lower().split())
    return element(
        "section", element("h2", section.heading, id=ident), section.content, aria_labelledby=ident
    )


# --- figures ----------------------------------------------------------------------------------------------


def figure(data: Figure, number: int) -> Markup:
    """A figure: its conclusion, its legend, its panels and its caption."""
    ident = f"figure-{number}"
    panels = [_panel(panel, f"{ident}-{i}") for i, panel in enumerate(data.panels)]
    return element(
        "figure",
        element("h3", data.title, id=f"{ident}-conclusion"),
        legend(data.legend),
        element("div", panels, class_=f"panels columns-{data.columns}"),
        element("figcaption", element("b", f"Figure {number}. "), data.caption),
        id=ident, aria_labelledby=f"{ident}-conclusion", class_=f"figure {data.kind}",
    )  # fmt: skip


def _panel(panel: Panel, ident: str) -> Markup:
    heading = element(
        "h4",
        swatch(panel.style) if panel.style is not None else None,
        element("span", breakable(panel.title)),
    )
    return element("div", heading if panel.title else None, draw(panel, ident), class_="panel")


def legend(entries: Sequence[tuple[str, int]]) -> Markup | None:
    """What the styles of a figure mean."""
    if not entries:
        return None
    return element(
        "ul",
        [element("li", swatch(style), element("span", breakable(label))) for label, style in entries],
        class_="legend",
    )


# --- tables, lists ----------------------------------------------------------------------------------------


def table(
    caption: Child,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Child]],
    *,
    head: int = 0,
    quiet: Iterable[int] = (),
) -> Markup:
    """A table whose rows are named by the column ``head``; the rows ``quiet`` step back."""
    quieted = set(quiet)
    top = element(
        "tr", [element("th", c.heading, scope="col", class_="n" if c.numeric else c.class_) for c in columns]
    )
    body = [
        element("tr", [_cell(c, child, i == head) for i, (c, child) in enumerate(zip(columns, row, strict=True))],
                class_="quiet" if at in quieted else None)
        for at, row in enumerate(rows)
    ]  # fmt: skip
    grid = element(
        "table", element("caption", element("div", caption)), element("thead", top), element("tbody", body)
    )
    return element("div", grid, class_="scroll", tabindex="0", role="group", aria_label="table")


def _cell(column: Column, child: Child, is_head: bool) -> Markup:
    class_ = "n" if column.numeric else column.class_
    return (
        element("th", child, scope="row", class_=class_) if is_head else element("td", child, class_=class_)
    )


def with_range(value: str, low_high: str) -> Markup:
    """A value with its interval below."""
    return (
        join([value, element("span", low_high, class_="range")])
        if low_high != words.UNKNOWN
        else join([value])
    )


def description(data: Mapping[str, Any]) -> Markup:
    """Plain data as a list of names and values; data inside data is a list inside."""
    return element(
        "dl", [[element("dt", label(name)), element("dd", value_of(value))] for name, value in data.items()]
    )


def label(name: str) -> str:
    """A key as words."""
    return str(name).replace("_", " ")


def value_of(value: Any) -> Child:
    """Plain data as HTML."""
    if isinstance(value, Mapping):
        return description(value) if value else words.UNKNOWN
    if isinstance(value, (list, tuple)):
        return ", ".join(str(value_of(item)) for item in value) or words.UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return words.trim(value, 6)
    return words.UNKNOWN if value is None else str(value)
