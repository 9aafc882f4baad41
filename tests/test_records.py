"""Plain data obtained: equality bit for bit, strict JSON, and no torch."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from fallline import records
from fallline.errors import BadValue
from fallline.records import Outcome, Record, Series, json_text, jsonable
from fallline.specs import Rule, Run


def test_series_are_equal_bit_for_bit():
    series = Series(np.array([0, 10]), np.array([1.0, np.nan], np.float32))
    assert series == Series(np.array([0, 10]), np.array([1.0, np.nan], np.float32))
    assert series != Series(np.array([0, 10]), np.array([1.0, np.nan]))
    assert series != Series(np.array([0, 11]), np.array([1.0, np.nan], np.float32))
    assert series != "series"
    assert len(series) == 2


def test_series_hold_int64_steps_and_floats():
    series = Series([0, 1], [2, 3])  # type: ignore[arg-type]
    assert series.steps.dtype == np.int64
    assert series.values.dtype == np.float64


def test_series_of_uneven_length_is_refused():
    with pytest.raises(
        BadValue, match=r"one value for each step, got steps of shape \[2\] and values of shape \[3\]"
    ):
        Series(np.arange(2), np.zeros(3))


def test_outcome_says_whether_it_diverged():
    assert Outcome("diverged", 3, "the loss left the finite numbers at step 3").diverged
    assert not Outcome("finished", 3).diverged


def test_outcome_of_unknown_status_is_refused():
    with pytest.raises(
        BadValue, match="an outcome's status is 'finished', 'diverged' or 'stopped', got 'done'"
    ):
        Outcome("done", 3)


def test_record_knows_its_arm_and_stage():
    record = Record(Run(Rule("sgd"), tags={"arm": "sgd", "stage": "final"}), Outcome("finished", 1))
    assert (record.arm, record.stage) == ("sgd", "final")
    assert Record(Run(Rule("sgd")), Outcome("finished", 1)).arm == ""


def test_json_has_no_number_outside_of_the_finite_ones():
    text = json_text({"a": math.nan, "b": [math.inf, np.float32(np.nan), 1.5], "c": np.array([1.0, -np.inf])})
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, None, 1.5],
        "c": [1.0, None],
    }


def test_json_takes_numpy_numbers_and_specs():
    rule = Rule("sgd", {"lr": 0.1})
    assert jsonable([np.int64(3), np.array([True]), rule]) == [
        3,
        [True],
        {"rule": "sgd", "numbers": {"lr": 0.1}},
    ]


def test_json_refuses_what_is_not_plain():
    with pytest.raises(BadValue, match="is not plain data"):
        json_text({"model": object()})


def test_reading_records_loads_no_torch():
    code = "import sys, fallline.records, fallline.store; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_functions_and_classes_are_documented():
    for name in ("Series", "Outcome", "Record", "jsonable", "json_text"):
        assert getattr(records, name).__doc__
