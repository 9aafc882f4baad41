"""The page of layers in the documentation is what layers say of themselves."""

from __future__ import annotations

from pathlib import Path

from fallline.layers.declared import LAYERS
from fallline.layers.page import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "layers.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run scripts/layers"


def test_each_layer_has_a_row_of_three_cells():
    rows = [line for line in page().splitlines() if line.startswith("| **")]
    assert [row.split("**")[1] for row in rows] == sorted(LAYERS, key=str.lower)
    assert {row.replace("\\|", "").count("|") for row in rows} == {4}
