"""From the file that matplotlib writes to an element of a page.

Colors are the page's variables, text stays text in the page's font, and ids belong to one drawing. What is drawn
comes in stand-in colors; they become ``var(--name, light color)``, so that one drawing serves light pages, dark pages
and, cut out of its page, a paper.
"""

from __future__ import annotations

import re
from typing import Any

from matplotlib.markers import MarkerStyle

from ..figure import Panel
from . import palette
from .html import Markup, element

STAND_IN = {name: f"#fe{i:02x}dc" for i, name in enumerate(palette.names())}
_PAINT = {name: f"var(--{name}, {light})" for name, (light, _) in palette.names().items()}


def inline(svg: str, panel: Panel, ident: str) -> Markup:
    """A drawing as one element, named and described for people who do not see it."""
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"<[^>]+>", lambda tag: _tidy(tag[0], ident), body)
    body = re.sub(r"\n\s*", "\n", body)
    for name, stand_in in STAND_IN.items():
        body = body.replace(stand_in, _PAINT[name])
    width, height = panel.size
    return element(
        "svg",
        element("title", panel.title or panel.x.label, id=f"{ident}-title"),
        element("desc", panel.alt, id=f"{ident}-desc") if panel.alt else None,
        Markup(body),
        xmlns="http://www.w3.org/2000/svg", role="img", viewBox=f"0 0 {width:g} {height:g}",
        style=f"max-width: {width * 1.15:g}px", font_family="Helvetica, Arial, sans-serif",
        aria_labelledby=f"{ident}-title", aria_describedby=f"{ident}-desc" if panel.alt else None,
    )  # fmt: skip


def _tidy(tag: str, ident: str) -> str:
    """One tag with ids of its own, the page's font, and coordinates to a hundredth of a pixel."""
    tag = re.sub(r'\bid="', f'id="{ident}-', tag)
    tag = re.sub(r'(?:xlink:)?href="#', f'href="#{ident}-', tag)
    tag = re.sub(r"url\(#", f"url(#{ident}-", tag)
    tag = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"', "", tag)
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", tag)


def swatch(style: int, *, line: bool = True) -> Markup:
    """An arm's marker, small, and its line with it where asked: for legends and tables."""
    width, paint, size = (28 if line else 12), _PAINT[palette.color(style)], palette.size(style)
    dashes = " ".join(f"{d * 1.8:g}" for d in palette.dash(style)) or None
    stroke = element("path", d="M1 6H27", stroke=paint, stroke_width="1.8", stroke_dasharray=dashes)
    at = f"translate({width // 2} 6) scale({size} {-size})"
    dot = element("path", d=_outline(palette.marker(style)), fill=paint, transform=at)
    return element(
        "svg", stroke if line else None, dot, class_="swatch", viewBox=f"0 0 {width} 12", width=width, height=12,
        aria_hidden="true",
    )  # fmt: skip


def _outline(marker: str) -> str:
    shape = MarkerStyle(marker)
    path = shape.get_path().transformed(shape.get_transform())
    return "".join(_command(int(code), points) for points, code in path.iter_segments(simplify=False))


def _command(code: int, points: Any) -> str:
    letter = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}[code]
    return letter if letter == "Z" else letter + " ".join(f"{p:.3f}" for p in points)
