"""Claims: the verdict follows from the interval, and from nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallline.errors import BadValue
from fallline.figure import Figure, Mark, Panel, Scale
from fallline.records import json_text
from fallline.studies.claims import FAILS, HOLDS, UNDECIDED, Answer, Claim, Criterion, Table, together
from fallline.studies.stats import Interval, interval

NUMBERS = st.floats(-100, 100)
ENDS = st.tuples(NUMBERS, NUMBERS).map(sorted)


def found(low: float | None, high: float | None) -> Interval:
    return Interval(low, low, high, 9, 0.95, "t")


@given(ENDS, ENDS)
def test_a_criterion_holds_inside_fails_outside_and_is_undecided_across(region: Any, ends: Any):
    (above, below), (low, high) = region, ends
    verdict = Criterion("a number", above, below).verdict(found(low, high))
    inside = [above < point < below for point in (low, high)]
    outside = high <= above or low >= below
    assert verdict == (HOLDS if all(inside) else FAILS if outside else UNDECIDED)


@given(NUMBERS, ENDS)
def test_open_ends_are_ends_at_infinity(end: float, ends: Any):
    for one, other in (
        (Criterion("q", above=end), Criterion("q", end, math.inf)),
        (Criterion("q", below=end), Criterion("q", -math.inf, end)),
    ):
        assert one.verdict(found(*ends)) == other.verdict(found(*ends))


@pytest.mark.parametrize("unknown", [found(None, None), interval([0.5]), interval([])])
def test_what_has_no_interval_is_undecided(unknown: Interval):
    assert Criterion("q", above=0.0).verdict(unknown) == UNDECIDED


def test_a_claim_holds_where_all_criteria_do_and_fails_where_one_does():
    assert together([HOLDS, HOLDS]) == HOLDS
    assert together([HOLDS, UNDECIDED, FAILS]) == FAILS
    assert together([HOLDS, UNDECIDED]) == UNDECIDED


TWO = Claim(
    "X1",
    "a slide",
    "It is so.",
    {"gain": Criterion("gain", above=0.0), "floor": Criterion("floor", below=1e-9)},
)


def test_an_answer_is_plain_data_with_intervals_that_hold_together():
    values = [0.5, 0.6, 0.7, 0.55]
    figure = Figure(
        "picture",
        "It rises",
        (Panel(Scale("x"), Scale("y"), (Mark("line", [0, 1], [0, math.nan]),)),),
        legend=(("a", 0),),
    )
    table = Table("Numbers", ("name", "value"), (("a", 0.5), ("b", None)))
    told = Answer(TWO, {"gain": values, "floor": 0.0}, [figure], [table], ["a note"]).plain(0.9)
    assert (told["id"], told["verdict"], told["n"]) == ("X1", HOLDS, 4)
    both = interval(values, level=0.95)  # two criteria at 0.95 hold together at 0.9
    assert (told["value"], told["low"], told["high"]) == (both.value, both.low, both.high)
    assert [part["method"] for part in told["criteria"]] == ["t", "exact"]
    assert told["criterion"] == "gain: above 0; floor: below 1e-09"
    assert told["tables"] == [
        {"title": "Numbers", "heads": ["name", "value"], "rows": [["a", 0.5], ["b", None]]}
    ]
    assert Figure.rebuild(told["figures"][0]).plain()["title"] == "It rises"
    json_text(told)


def test_a_number_that_is_no_number_leaves_a_claim_undecided():
    told = Answer(TWO, {"gain": [1.0, 2.0, 1.5], "floor": math.nan}).plain(0.95)
    assert told["verdict"] == UNDECIDED


def test_a_figure_is_rebuilt_from_its_plain_data():
    marks = (
        Mark("band", [1, 2], low=[0, math.nan], high=[1, 2], style=1),
        Mark("text", [1.0], [2.0], text=("here",), role="context"),
    )
    rows = Panel(
        Scale("gain", log=True, low=0.1), None, marks, "a title", "in words", ("a", "b"), 2, (300, 200)
    )
    one = Figure("rows", "It is so", (rows,), "a caption", (("a", 0), ("b", 1)), 3)
    again = Figure.rebuild(one.plain())
    assert json_text(again.plain()) == json_text(one.plain())
    assert [panel.rows for panel in again.panels] == [("a", "b")]


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(BadValue, match=r"^a criterion needs an end, above=… or below=…: 'gain' has none$"):
        Criterion("gain")
    with pytest.raises(BadValue, match=r"^the claim X2 has no criterion: say which number decides it$"):
        Claim("X2", "a slide", "It is so.", {})
    with pytest.raises(
        BadValue, match=r"^the claim X1 is judged by gain, floor, and was answered with gain$"
    ):
        Answer(TWO, {"gain": 1.0})
