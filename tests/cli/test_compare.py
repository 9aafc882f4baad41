"""``fallline compare``: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from command_line import CommandLine, environment
from fallline.store import Store

SMALL = ["--steps", "20", "--replicates", "2", "--rates", "3", "--seeds", "1", "--workers", "0"]
FIXED = ["--steps", "20", "--replicates", "6", "--seeds", "1", "--workers", "0"]

OLD = """
import numpy as np
from torch import nn

import fallline as fl

rng = np.random.default_rng(0)
X = rng.normal(size=(150, 4))
y = (X[:, 0] * X[:, 1] > 0).astype(int)


def task(hidden=1):
    print("loading …")
    model = lambda: nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    return fl.Task.supervised(model, (X, y), loss=fl.losses.cross_entropy, name="signs")
"""
NEW = "import old\n\n\ndef task():\n    return old.task(hidden=16)\n"


def number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number_or_none(value: Any) -> bool:
    return value is None or number(value)


def check_document(found: dict[str, Any], replicates: int) -> None:
    """Every key that the command line promises, with its type; scripts are written against these."""
    assert isinstance(found["tasks"], list)
    assert all(isinstance(task, str) for task in found["tasks"])
    assert isinstance(found["metric"], str)
    assert found["better"] in ("higher", "lower")
    assert 0.5 <= found["level"] < 1
    assert found["seconds"] > 0
    assert isinstance(found["runs"], int)
    assert found["runs"] > 0
    assert isinstance(found["verdict"], str)
    assert found["verdict"]
    arms = [row["arm"] for row in found["ranking"]]
    assert len(set(arms)) == len(arms) > 0
    for row in found["ranking"]:
        assert row["task"] in found["tasks"]
        assert isinstance(row["rule"], str)
        assert all(isinstance(name, str) and number(value) for name, value in row["settings"].items())
        assert (row["score"] is None) == all(score is None for score in row["seeds"])
        for name in ("score", "low", "high", "steps_to_target", "seconds_to_target", "working_range"):
            assert number_or_none(row[name]), name
        assert len(row["seeds"]) == replicates
        assert all(number_or_none(score) for score in row["seeds"])
        assert set(row["tied_with"]) < set(arms)
        assert isinstance(row["boundary"], bool)
        assert isinstance(row["findings"], list)


def check_page(path: Path) -> str:
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert "<svg" in page
    return page


def test_compare_digits(tmp_path: Path):
    """The main job, small, in a process of its own as a user starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "fallline", "compare", "digits", *SMALL[:-2], "--json", "--out", "here"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    check_document(found, replicates=2)
    assert sorted(row["arm"] for row in found["ranking"]) == ["adagrad", "adam", "momentum", "rmsprop", "sgd"]
    assert found["metric"] == "accuracy"
    assert "digits" in found["verdict"]
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["report.html", "study.db"]
    assert "digits" in check_page(tmp_path / found["report"])
    with Store.open(tmp_path / found["store"]) as store:
        assert store.result == found
        assert store.count() == found["runs"]
        assert store.provenance["command"] == " ".join(
            ["fallline compare digits", *SMALL[:-2], "--json --out here"]
        )


def test_what_is_printed(fallline: CommandLine, tmp_path: Path):
    ended = fallline("compare", "digits", *SMALL, "--rules", "adam(lr=0.01),sgd")
    assert (ended.status, ended.err) == (0, "")
    (folder,) = (tmp_path / "fallline-out").iterdir()
    assert folder.name.startswith("compare-digits-2")
    with Store.open(folder / "study.db") as store:
        assert store.result is not None
        verdict, notes = store.result["verdict"], store.result["notes"]
    said = " ".join(ended.out.split())
    assert "arm accuracy [95%]" in said
    assert " adam " in said
    assert " sgd " in said
    assert verdict in said
    assert all(note in said for note in notes)
    assert any(
        "adam ran at fixed settings while the others were tuned: budgets are not equal" in n for n in notes
    )
    relative = folder.relative_to(tmp_path)
    assert f"report: {relative}/report.html" in said
    assert f"store: {relative}/study.db" in said


def test_is_a_change_better(fallline: CommandLine, tmp_path: Path):
    """Two files with one name for their task; what they print stays out of the document."""
    (tmp_path / "old.py").write_text(OLD)
    (tmp_path / "new.py").write_text(NEW)
    ended = fallline("compare", "old.py:task", "new.py:task", *SMALL, "--json")
    assert (ended.status, ended.err) == (0, "loading …\n" * 2)
    found = ended.json()
    check_document(found, replicates=2)
    assert found["tasks"] == ["old.py:task", "new.py:task"]
    assert sorted(row["arm"] for row in found["ranking"]) == ["new.py:task", "old.py:task"]
    assert {row["rule"] for row in found["ranking"]} == {"adam"}
    with Store.open(tmp_path / found["store"]) as store:
        assert store.provenance["sources"] == {"old.py": OLD, "new.py": NEW}


def test_a_baseline_tells_what_became_worse(fallline: CommandLine, tmp_path: Path):
    good = fallline("compare", "digits", *FIXED, "--rules", "sgd(lr=0.5)", "--out", "good", "--json")
    assert good.status == 0
    assert "baseline" not in good.json()
    line = ("compare", "digits", *FIXED, "--baseline", "good/study.db", "--json")
    same = fallline(*line, "--rules", "sgd(lr=0.5)")
    assert same.status == 0
    assert (
        same.json()["baseline"]["sentence"]
        == "not worse than the baseline on accuracy: no difference is significant"
    )
    assert same.json()["baseline"]["pairs"][0]["difference"] == 0.0
    worse = fallline(*line, "--rules", "sgd(lr=1e-5)")
    assert worse.status == 1
    assert worse.json()["baseline"]["worse"] is True
    assert worse.json()["baseline"]["sentence"].startswith("worse than the baseline on accuracy: sgd by 0.")
    lost = fallline("compare", "digits", *FIXED, "--baseline", "good", "--rules", "sgd(lr=1e30)")
    assert lost.status == 1
    assert "worse than the baseline on accuracy: sgd, as runs diverged" in " ".join(lost.out.split())
    better = fallline(
        "compare", "digits", *FIXED, "--rules", "sgd(lr=0.5)", "--baseline", worse.json()["store"]
    )
    assert better.status == 0
    assert "not worse than the baseline on accuracy; better: sgd by 0." in " ".join(better.out.split())


def test_a_baseline_that_does_not_fit_is_refused_before_anything_is_trained(
    fallline: CommandLine, tmp_path: Path
):
    (tmp_path / "old.py").write_text(OLD)
    (tmp_path / "mse.py").write_text(
        "import fallline as fl\nimport old\nfrom torch import nn\n\n\ndef task():\n"
        "    model = lambda: nn.Linear(4, 4)\n    return fl.Task.supervised(model, (old.X, old.X), loss=fl.losses.mse)\n"
    )
    assert (
        fallline("compare", "old.py", *FIXED, "--rules", "sgd(lr=0.1),adam(lr=0.1)", "--out", "two").status
        == 0
    )
    line = ("--baseline", "two", "--out", "new", "--json", *FIXED)
    ended = fallline("compare", "mse.py", *line)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == (
        "fallline: the baseline two was judged by accuracy (higher is better), this comparison by r2 (higher): they "
        "must be judged by one metric\n"
    )
    ended = fallline("compare", "old.py", "--rules", "momentum(lr=0.1)", *line)
    assert ended.status == 2
    assert ended.err.endswith(
        "fallline: no arm of the baseline two (adam, sgd) is an arm here (momentum)\n"
    ) or (ended.err.endswith("fallline: no arm of the baseline two (sgd, adam) is an arm here (momentum)\n"))
    with sqlite3.connect(tmp_path / "two" / "study.db") as db:
        db.execute("DELETE FROM documents WHERE name = 'result'")
    db.close()
    ended = fallline("compare", "old.py", *line)
    assert ended.err.endswith("fallline: the baseline two is unfinished: it has no result to hold against\n")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_a_study_is_not_written_over(fallline: CommandLine, tmp_path: Path):
    line = ("compare", "digits", *FIXED, "--rules", "sgd(lr=0.5)", "--out", "here")
    assert fallline(*line).status == 0
    before = {path: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    again = fallline(*line)
    assert again.status == 2
    assert (
        again.err
        == "fallline: here already holds a study (study.db): choose another folder, or remove it first\n"
    )
    assert {path: path.read_bytes() for path in (tmp_path / "here").iterdir()} == before


def test_a_time_budget_chooses_the_protocol(fallline: CommandLine):
    ended = fallline(
        "compare", "digits", *FIXED[:2], *FIXED[4:], "--rules", "sgd(lr=0.5)", "--minutes", "30", "--json"
    )
    assert ended.status == 0
    found = ended.json()
    assert found["protocol"]["replicates"] == 40
    assert any("within 30 minutes: 40 replicates" in note for note in found["notes"])


@pytest.mark.parametrize("executor", ["traced", "alone"])
def test_how_runs_are_executed_can_be_chosen(fallline: CommandLine, tmp_path: Path, executor: str):
    ended = fallline("compare", "digits", *FIXED, "--rules", "sgd(lr=0.5)", "--executor", executor, "--json")
    assert ended.status == 0
    with Store.open(tmp_path / ended.json()["store"]) as store:
        assert store.provenance["plan"]["tasks"]["digits"]["executor"] == executor
