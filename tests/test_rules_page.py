"""The table of rules: the page fits the rules, and its parts are read as they are written."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from command_line import CommandLine
from fallline import rules
from fallline.rules.parse import named
from fallline.verbs.rule_table import equation_of, rule_rows, source_of, state_of

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "rules.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("rules_page", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_fits_the_rules(script):
    assert script.fits(), (
        "docs/rules.md does not fit the rules, timings apart: run scripts/rules and commit it"
    )


def test_costs_and_their_date_are_read_back(script):
    costs = {"sgd": "1", "adam": "3.2"}
    text = script.page(costs, "2026-01-01, a machine, one thread, torch 2.13.0")
    assert script.told(text) == (costs, "2026-01-01, a machine, one thread, torch 2.13.0")
    assert script.page(*script.told(text)) == text
    assert script.page({**costs, "adam": "4"}, "now") != text


def test_every_row_says_what_the_rule_is():
    rows = rule_rows()
    assert [row["name"] for row in rows] == named()
    for row in rows:
        assert row["equation"], row["name"]
        assert row["source"], row["name"]
        assert re.search(r"\d{4}", row["source"]), row["name"]
        assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_state_is_counted():
    assert state_of(rules.sgd()) == 0
    assert state_of(rules.momentum()) == 1
    assert state_of(rules.adam()) == 2
    assert state_of(rules.average(rules.adam(), decay=0.9)) == 3
    assert state_of(rules.chain(rules.clip_quantile(0.5, window=65792), rules.sgd())) == 1


def test_parts_of_a_docstring():
    text = "A title: w ← w − g,\nand so on. More.\n\n    a = 1      b = 2\n    c = 3\n\nArgs:\n    lr: x = y.\n\nSource: Me et al. 2020, on\nthings. No eps. Equals ``torch.x``."
    assert equation_of(text) == "w ← w − g, and so on; a = 1, b = 2; c = 3"
    assert source_of(text) == ("Me et al. 2020, on things.", ["No eps.", "Equals ``torch.x``."])
    assert (equation_of("Nothing."), source_of("Nothing.")) == ("", ("", []))


def test_the_command_line_lists_rules(fallline: CommandLine):
    lines = [" ".join(line.split()) for line in fallline("list", "rules").out.splitlines()]
    assert any(line.startswith("adam 2 × state Adaptive moment estimation: w ← ") for line in lines)
    (row,) = (row for row in fallline("list", "rules", "--json").json()["rules"] if row["name"] == "adam")
    assert (row["state"], row["numbers"]["beta2"], row["search"]["lr"]) == (2, "0.999", [0.0003, 0.3])
    assert any("torch.optim.Adam" in note for note in row["equals"])
