"""Drawings: well formed, of the page's colors, with text as text, and nothing global left behind."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib
import numpy as np
import pytest

from fallline.errors import BadValue
from fallline.figure import SHAPES, Figure, Mark, Panel, Scale
from fallline.records import json_text
from fallline.reports.draw_svg import draw
from fallline.reports.inline import swatch

from .reading import Reader

X = np.array([1e-3, 1e-2, 1e-1, 1.0])


def panel(*marks: Mark, **given: Any) -> Panel:
    given = {
        "x": Scale("rate", log=True, low=1e-3, high=1.0),
        "y": Scale("score", low=0.0, high=1.0),
        **given,
    }
    return Panel(marks=marks, **given)


def every_shape() -> Panel:
    return panel(
        *(Mark(s, X, X, low=X / 2, high=X, style=i, text=("t",) * 4) for i, s in enumerate(SHAPES)), alt="all"
    )


def test_every_shape_is_drawn_as_well_formed_svg():
    drawn = draw(every_shape(), "f")
    ET.fromstring(drawn)
    assert drawn.count("<path") > len(SHAPES)
    Reader(drawn)


def test_it_has_a_title_and_a_description():
    root = ET.fromstring(draw(panel(alt="It falls from 2 to 1."), "f"))
    space = "{http://www.w3.org/2000/svg}"
    title, desc = root.find(f"{space}title"), root.find(f"{space}desc")
    assert title is not None
    assert desc is not None
    assert (title.text, desc.text) == ("rate", "It falls from 2 to 1.")
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", title.get("id"))


def test_ids_of_two_drawings_differ_and_are_all_found():
    page = Reader(draw(every_shape(), "a") + draw(every_shape(), "b"))
    assert max(page.ids.values()) == 1
    assert page.refers <= set(page.ids)


def test_drawing_twice_gives_the_same():
    assert draw(every_shape(), "a") == draw(every_shape(), "a")


def test_colors_are_the_variables_of_the_page():
    drawn = draw(panel(Mark("line", X, X, style=2)), "f")
    assert "stroke: var(--arm-2, #1a9d6a)" in drawn
    assert "var(--muted, " in drawn
    assert "#fe" not in drawn  # no stand-in is left
    assert "background" not in drawn


def test_text_stays_text_in_the_font_of_the_page():
    drawn = draw(panel(), "f")
    assert ">score</text>" in drawn
    assert ">0.001</text>" in drawn
    assert "DejaVu" not in drawn
    assert "<style" not in drawn


@pytest.mark.parametrize(
    "label",
    ["<script>alert(1)</script>", "$\\alpha$ 50", "a & b", "日本語 🎿", "a\x00b", "__x^{", "%s {0}"],
)
def test_any_label_can_be_drawn(label: str):
    rows = panel(
        Mark("text", X[:1], np.zeros(1), text=(label,)), rows=(label,), y=None, title=label, alt=label
    )
    drawn = draw(rows, "f")
    written = [text.text for text in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert written.count(label.replace("\x00", "\N{REPLACEMENT CHARACTER}")) == 2  # the row and the mark
    assert "<script" not in drawn


def test_a_long_row_label_is_shortened_in_the_middle():
    drawn = draw(panel(rows=("experiments/" * 9 + "new.py:task / adam",), y=None), "f")
    assert "…" in drawn
    assert "task / adam</text>" in drawn


def test_missing_and_infinite_values_are_gaps():
    values = np.array([0.1, np.nan, np.inf, 0.4])
    ET.fromstring(
        draw(panel(Mark("line", X, values, style=0), Mark("band", X, values, values, values, style=0)), "f")
    )
    ET.fromstring(draw(panel(Mark("points", np.empty(0), np.empty(0))), "f"))


def test_nothing_global_is_changed_and_pyplot_is_not_loaded():
    before = dict(matplotlib.rcParams)
    draw(every_shape(), "f")
    assert dict(matplotlib.rcParams) == before
    code = "import sys, fallline.reports.draw_svg; sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_mark_of_unknown_shape_is_refused():
    with pytest.raises(BadValue, match=r"a mark's shape is one of line, band, .*; got 'pie'"):
        Mark("pie")


def test_a_span_without_ends_is_refused():
    with pytest.raises(BadValue, match="a mark of shape 'band' needs low and high, the ends that it spans"):
        draw(panel(Mark("band", X, X)), "f")


def test_a_figure_is_plain_data():
    figure = Figure(
        "curves", "It falls", (panel(Mark("line", X, np.array([1, 2, 3, np.nan]))),), legend=(("adam", 0),)
    )
    data = json.loads(json_text(figure.plain()))
    assert data["panels"][0]["marks"][0]["y"] == [1, 2, 3, None]
    assert data["panels"][0]["x"] == {"label": "rate", "log": True, "low": 0.001, "high": 1.0}
    assert data["legend"] == [["adam", 0]]


@pytest.mark.parametrize("style", range(12))
def test_a_swatch_shows_the_sign_of_an_arm(style: int):
    drawn = swatch(style)
    ET.fromstring(drawn)
    assert f"var(--arm-{style % 8}, " in drawn
    assert swatch(style, line=False).count("<path") == 1
