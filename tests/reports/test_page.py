"""The page and its parts: escaping, tables, lists, figures, and files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fallline.figure import Figure, Mark, Panel, Scale
from fallline.reports import page
from fallline.reports.html import Markup, breakable, element, escape, join
from fallline.reports.page import Column, Section

from .reading import Reader, sections, texts


def test_text_is_escaped_and_markup_is_not():
    assert element("p", "<b> & 'x'") == "<p>&lt;b&gt; &amp; &#x27;x&#x27;</p>"
    assert element("p", element("b", "x")) == "<p><b>x</b></p>"
    assert element("p", title='a "b" <c>') == '<p title="a &quot;b&quot; &lt;c&gt;"></p>'
    assert escape(Markup("<b>")) == "<b>"


def test_attributes_that_are_false_or_missing_are_left_out():
    assert (
        element("details", open=True, id=None, hidden=False, class_="x")
        == '<details open class="x"></details>'
    )
    assert element("meta", http_equiv="a") == '<meta http-equiv="a">'


def test_children_nest_and_none_is_nothing():
    assert join(["a", None, ["b", 3]]) == "ab3"


def test_characters_that_no_page_may_hold_become_visible():
    assert escape("a\x00b\ud800c\n") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\n"


def test_labels_break_after_the_signs_in_a_path():
    assert breakable("new.py:task") == "new.<wbr>py:<wbr>task"
    assert breakable("<b>") == "&lt;b&gt;"


def test_a_table_names_its_columns_and_rows():
    made = page.table(
        "what it shows", [Column("arm"), Column("score", numeric=True)], [["adam", "0.9"]], quiet=[0]
    )
    assert '<th scope="col" class="n">score</th>' in made
    assert '<th scope="row">adam</th>' in made
    assert '<tr class="quiet">' in made
    assert texts(made, "caption") == ["what it shows"]
    Reader(made)


def test_plain_data_becomes_a_list_of_names_and_values():
    made = page.description(
        {"versions": {"torch": "2.13"}, "seeds": [1, 2], "exact": True, "none": None, "rate": 0.1}
    )
    assert texts(made, "dt") == ["versions", "torch", "seeds", "exact", "none", "rate"]
    assert made.count("<dl>") == 2
    for value in ("2.13", "1, 2", "yes", "–", "0.1"):
        assert f"<dd>{value}</dd>" in made
    assert page.value_of({}) == "–"
    assert page.value_of([]) == "–"


def test_a_section_without_content_is_left_out():
    made = page.page("Title", "", [Section("Full", element("p", "x")), Section("Empty", Markup())])
    assert sections(made) == ["Full"]
    assert '<section aria-labelledby="full">' in made
    Reader(made)


def test_a_page_has_colors_for_light_and_dark_and_print():
    style = str(page.style())
    for part in (
        "prefers-color-scheme: dark",
        "@media print",
        "@media (max-width",
        "--arm-0: #",
        "color-scheme: light dark",
    ):
        assert part in style


def test_a_figure_has_its_conclusion_legend_panels_and_caption():
    panel = Panel(
        Scale("steps"),
        Scale("loss"),
        (Mark("line", np.arange(3), np.arange(3), style=0),),
        title="<adam>",
        style=0,
    )
    made = page.figure(Figure("curves", "It falls", (panel, panel), "n = 3", (("<adam>", 0),)), 7)
    assert texts(made, "h3") == ["It falls"]
    assert texts(made, "figcaption") == ["Figure 7. n = 3"]
    assert made.count("&lt;adam&gt;") >= 5  # legend, two headings, two titles
    assert max(Reader(made).ids.values()) == 1


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "report.html"
    assert page.write("old", path) == path

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        page.write("new", path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
