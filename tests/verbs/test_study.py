"""The study verb: claims are judged, stored and drawn; what is stopped goes on to the same answer."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fallline import layers, losses, rules, specs
from fallline.errors import BadStore, BadValue, NotFound
from fallline.records import json_text
from fallline.store import Store
from fallline.studies import lecture
from fallline.studies.claims import Answer, Claim, Criterion, Table
from fallline.studies.inquiry import inquiry
from fallline.studies.lab import Lab, Side
from fallline.tasks.base import Task
from fallline.verbs import study as verb
from fallline.verbs.resume import resume
from fallline.verbs.study import listed, study

HOLDS = Claim("X1", "a slide", "Training ends.", {"ended": Criterion("share of runs that finish", above=0.0)})
FAILS = Claim("X2", "a slide", "One is two.", {"far": Criterion("how far one is from two", below=0.5)})
OPEN = Claim("X3", "another", "Nobody knows.", {"nothing": Criterion("a number", above=0.0)})


def bands() -> Task:
    X = [[(i % 13) / 13 - 0.5, (i % 7) / 7 - 0.5] for i in range(100)]
    y = [int(a + b > 0) for a, b in X]
    return Task.supervised(lambda: layers.mlp(2, 3, 2), (X, y), loss=losses.cross_entropy, name="bands")


@inquiry("toy", [HOLDS, FAILS, OPEN], minutes=0.1, quick=0.1)
def toy(lab: Lab, distance: float = 1.0) -> Iterator[Answer]:
    """Does anything hold?"""
    trials = lab.compare({"sgd": Side(bands(), rules.sgd(lr=specs.log_axis(0.1, 1.0, 2)))}, steps=40)
    yield Answer(HOLDS, {"ended": np.isfinite(trials.finals("sgd")).astype(float)}, notes=["a note"])
    yield Answer(
        FAILS, {"far": distance}, tables=[Table("Numbers", ("name", "value"), (("one", 1), ("two", None)))]
    )
    yield Answer(OPEN, {"nothing": math.nan})


@pytest.fixture(autouse=True)
def only_the_toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lecture, "NAMES", ("toy",))
    monkeypatch.setattr(lecture, "study", lambda name: {"toy": toy}[name])
    monkeypatch.chdir(tmp_path)


def run(out: Path | None, **options: Any) -> verb.Studied:
    return study("toy", replicates=3, out=out, workers=0, progress=False, **options)


def test_claims_are_judged_and_told(tmp_path: Path):
    found = run(tmp_path / "out")
    assert [(claim["id"], claim["verdict"]) for claim in found.claims] == [
        ("X1", "holds"), ("X2", "fails"), ("X3", "undecided"),
    ]  # fmt: skip
    assert set(found.document) >= {"study", "claims", "tables", "seconds", "store", "report"}
    assert {"id", "claim", "criterion", "verdict", "value", "low", "high", "n"} <= set(found.claims[0])
    assert found.document["tables"][0]["title"] == "Numbers"
    json_text(found.document)
    assert str(found).endswith("X1 holds; X2 fails; X3 is undecided.")
    assert "note: a note" in str(found)
    page = found.report.read_text(encoding="utf-8")
    for text in (
        "Training ends.",
        "how far one is from two: below 0.5",
        "✗ Fails",
        "a note",
        "fallline report study.db",
    ):
        assert text in page
    assert "Report: " in found._repr_html_()
    with Store.open(found.store) as store:
        assert store.count() == found.document["runs"] >= 9
        assert store.study.protocol["name"] == "toy"
        assert "bands" in store.provenance["tasks"]
        assert store.provenance["plan"]["tasks"]["bands"]["executor"]


def test_an_option_reaches_the_study_and_an_unknown_one_is_refused_before_anything_is_made(tmp_path: Path):
    assert run(tmp_path / "near", distance=0.2).claims[1]["verdict"] == "holds"
    with pytest.raises(
        BadValue, match=r"^the study toy has no option 'distnace'; did you mean 'distance'\?$"
    ):
        run(tmp_path / "out", distnace=1.0)
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadStore, match="already holds a study"):
        run(tmp_path / "near")


def test_a_study_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Lab, "compare", lambda self, sides, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_stopped_goes_on_to_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
):
    whole = run(tmp_path / "whole")
    told, add = [0], Store.add

    def adding(store: Store, records: Any) -> None:
        add(store, records)
        told[0] += 1
        if told[0] == 1:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Store, "add", adding)
    with pytest.raises((KeyboardInterrupt, SystemExit), match="go on with fallline resume"):
        run(tmp_path / "cut")
    with Store.open(tmp_path / "cut" / "study.db") as store:
        assert not store.finished
        kept = store.count()
    assert 0 < kept < whole.document["runs"]
    went_on = resume(tmp_path / "cut", progress=False)
    assert went_on.document["claims"] == whole.document["claims"]
    with Store.open(tmp_path / "cut" / "study.db") as store:
        assert store.count() == whole.document["runs"]
    assert not (tmp_path / "cut" / "checkpoints").exists()
    assert resume(tmp_path / "cut").document == went_on.document


def test_one_begun_by_another_version_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(tmp_path / "out")
    with Store.resume(tmp_path / "out" / "study.db") as store:
        monkeypatch.setattr(verb, "code_version", lambda: "another")
        with pytest.raises(
            BadStore, match="was begun by another version of fallline, whose study may ask for other runs"
        ):
            verb.go_on(store, workers=0, device=None, every=None, progress=False)


def test_the_list_tells_claims_criteria_and_what_was_found_last(tmp_path: Path):
    before = listed()
    assert [(row["study"], row["id"], row["state"]) for row in before] == [
        ("toy", "X1", "not run"), ("toy", "X2", "not run"), ("toy", "X3", "not run"),
    ]  # fmt: skip
    found = run(None)
    assert found.store.parent.name.startswith("study-toy-")
    (tmp_path / "fallline-out" / "study-other").mkdir()
    (tmp_path / "fallline-out" / "study-other" / "study.db").write_bytes(b"no store")
    assert [row["state"] for row in listed()] == ["holds", "fails", "undecided"]
    assert listed()[0]["criterion"] == "share of runs that finish: above 0"


def test_an_unknown_study_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    with pytest.raises(NotFound, match=r"^there is no study 'loses'; did you mean 'losses'\?$"):
        study("loses")
