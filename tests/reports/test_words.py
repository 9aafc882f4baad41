"""Numbers and lists as people read them."""

from __future__ import annotations

import math

import pytest

from fallline.reports import words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0994, "0.0994"), (372, "372"), (79.83, "79.8"), (1234.4, "1,234"), (-0.5, "−0.500"), (0, "0"), (1e-7, "10⁻⁷"),
     (1.5e-7, "1.5×10⁻⁷"), (3e9, "3×10⁹"), (math.nan, "–"), (math.inf, "–"), (None, "–")],
)  # fmt: skip
def test_number(value: float | None, text: str):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1 + 0.2, "0.3"), (100.0, "100"), (0.0224968, "0.0225"), (3e9, "3×10⁹"), (1e-9, "10⁻⁹"), (None, "–")],
)  # fmt: skip
def test_trim(value: float | None, text: str):
    assert words.trim(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(3e-6, "3.0 µs"), (0.0099, "9.9 ms"), (0.5, "500 ms"), (61.2, "61 s"), (600, "10 min"), (9000, "2.5 h"), (None, "–")],
)  # fmt: skip
def test_seconds(value: float | None, text: str):
    assert words.seconds(value) == text


def test_fixed_and_interval():
    assert words.fixed(-0.0126, 3) == "−0.013"
    assert words.fixed(None, 3) == "–"
    assert words.interval(0.9, 1.0, 2) == "[0.90, 1.00]"
    assert words.interval(None, 1.0, 2) == "–"


def test_p_value_is_never_zero():
    assert words.p_value(0.0) == "< 0.001"
    assert words.p_value(0.0499) == "0.050"
    assert words.p_value(None) == "–"


def test_decimals_show_two_digits_of_an_interval():
    assert words.decimals_for([0.01, 0.012, 0.3]) == 3
    assert words.decimals_for([25.0]) == 0
    assert words.decimals_for([math.nan, 0.0]) == 3


def test_counts_and_lists():
    assert words.count(1, "arm") == "1 arm"
    assert words.count(0, "arm") == "0 arms"
    assert words.spelled(5) == "five"
    assert words.spelled(40) == "40"
    assert words.listing([]) == ""
    assert words.listing(["a"]) == "a"
    assert words.listing(list("abcdef")) == "a, b, c and 3 more"


def test_a_long_label_keeps_both_ends():
    assert words.shorten("adam", 10) == "adam"
    short = words.shorten("experiments/new.py:task / adam", 20)
    assert len(short) == 20
    assert short.startswith("experi")
    assert short.endswith("/ adam")


def test_sentences():
    assert words.sentence(" Target: 0.93. ") == "Target: 0.93. "
    assert words.sentence("") == ""
    assert words.first_up("none is") == "None is"
