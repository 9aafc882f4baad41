"""What a comparison would be is told before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import CommandLine
from fallline.errors import BadValue
from fallline.studies.arms import arms
from fallline.studies.compare import Protocol
from fallline.tasks import digits
from fallline.verbs.plan import plan

SMALL = {"replicates": 2, "rates": 3, "seeds": 2, "workers": 0, "steps": 40}


def test_a_plan_counts_the_runs_of_the_protocol():
    found = plan("digits", ["sgd", "adam", "adam(lr=0.01)"], **SMALL)
    protocol = Protocol(replicates=2, rates=3, seeds=2, steps=40)
    compared = arms([digits()], ["sgd", "adam", "adam(lr=0.01)"], 3)
    assert found.document["runs"] == sum(protocol.runs(arm) for arm in compared)
    rows = {tuple(row["arms"]): row for row in found.document["rows"]}
    assert {arms: row["runs"] for arms, row in rows.items()} == {("sgd",): 16, ("adam", "adam(lr=0.01)"): 20}
    assert all(row["bytes"] > 0 and row["executor"] == "traced" for row in rows.values())
    assert found.document["seconds"] > 0
    assert found.document["free"] > found.document["bytes"]


def test_it_prints_a_table_with_reasons_and_a_sentence():
    found = plan("digits", ["sgd"], **SMALL)
    text = str(found)
    assert "digits: batched and alone agree on 4 steps" in text
    assert "16 runs of 40 steps in 1 process: about" in text
    assert "A time budget (--minutes) runs the richest protocol that fits" in text
    assert "<table>" in found._repr_html_()


def test_a_budget_that_is_too_small_is_told_with_what_would_fit():
    told = plan("digits", ["sgd"], minutes=1e-4, **SMALL).sentence
    assert "That is more than 0.0001 minutes. What would fit: --minutes 0.0001 (fewer replicates" in told
    assert "with the warning that ranks after" in told
    assert "or two arms at a time, whose paired difference" in told
    assert "That is within 1000 minutes." in plan("digits", ["sgd"], minutes=1000, **SMALL).sentence
    with pytest.raises(BadValue, match=r"^minutes must be a number above 0, got -1$"):
        plan("digits", ["sgd"], minutes=-1, **SMALL)


def test_on_the_command_line_nothing_is_written(fallline: CommandLine, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    small = ("--replicates", "2", "--rates", "2", "--seeds", "1", "--steps", "20", "--workers", "0")
    shown = fallline("compare", "digits", "--rules", "sgd", "--plan", *small)
    assert shown.status == 0, shown.err
    assert "6 runs of 20 steps in 1 process" in " ".join(shown.out.split())
    document = json.loads(fallline("compare", "digits", "--rules", "sgd", "--plan", "--json", *small).out)
    assert (document["runs"], document["steps"], document["workers"]) == (6, 20, 1)
    left = [
        path for path in sorted(tmp_path.rglob("*")) if "printed" not in path.parts and path not in before
    ]
    assert left == []
