"""``fallline study``: one document, its list, and sentences for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from command_line import CommandLine
from fallline.studies import lecture


def test_one_document_and_its_report_again(fallline: CommandLine, tmp_path: Path):
    ended = fallline(
        "study", "losses", "--quick", "--replicates", "2", "--workers", "0", "--out", "out", "--json"
    )
    assert (ended.status, ended.err) == (0, "")
    found = ended.json()
    assert found["study"] == "losses"
    for claim in found["claims"]:
        assert claim["verdict"] in ("holds", "fails", "undecided")
        assert {"id", "claim", "criterion", "value", "low", "high", "n"} <= set(claim)
    report = Path(tmp_path / "out" / "report.html")
    page = report.read_text(encoding="utf-8")
    report.unlink()
    assert fallline("report", "out").status == 0
    assert report.read_text(encoding="utf-8") == page
    again = fallline("resume", "out", "--json")
    assert (again.status, again.json()) == (0, found)
    assert "L1" in fallline("resume", "out").out
    elsewhere = fallline("resume", tmp_path / "out", "--json", cwd=tmp_path / "printed")
    assert (elsewhere.status, elsewhere.json()["report"]) == (0, str(report))


def test_the_list_has_every_study(fallline: CommandLine):
    ended = fallline("study", "list", "--json")
    rows = json.loads(ended.out)
    assert ended.status == 0
    assert list(dict.fromkeys(row["study"] for row in rows)) == list(lecture.NAMES)
    assert all(row["state"] == "not run" and row["criterion"] and row["slide"] for row in rows)
    text = fallline("study", "list").out
    assert all(row["claim"] in text for row in rows)


def test_a_picture_from_two(fallline: CommandLine, tmp_path: Path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / f"{name}.jpg")
    two = ("--content", "a.jpg", "--style", "b.jpg", "--set", "size=48", "--set", "steps=2")
    ended = fallline("study", "style-transfer", *two, "--out", "made.png", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert ended.json()["picture"] == "made.png"
    with Image.open(tmp_path / "made.png") as made:
        assert made.size == (48, 32)


def test_bad_input_is_one_sentence(fallline: CommandLine, tmp_path: Path):
    picture = ["style-transfer", "--out", "a.png"]
    for given, told in (
        (picture, "a picture is made from two: give --content and --style too"),
        ([*picture, "--content", "a.jpg"], "a picture is made from two: give --style too"),
        ([*picture, "--set", "sice=9"], "a picture has no option 'sice'; did you mean 'size'?"),
        ([*picture, "--content", "a.jpg", "--style", "b.jpg"], "there is no picture a.jpg"),
        (["loses"], "there is no study 'loses'; did you mean 'losses'?"),
        (["losses", "--set", "data"], "--set takes NAME=VALUE, as in --set data=adult; got 'data'"),
        (["losses", "--set", "data=adult"], "the study losses has no option 'data'; it has none"),
        (["losses", "--replicates", "1"], "replicates must be a whole number of at least 2, got 1"),
        (["losses", "--level", "2"], "level is the share of intervals that hold the truth"),
    ):
        ended = fallline("study", *given)
        assert (ended.status, ended.out) == (2, "")
        assert ended.err.startswith(f"fallline: {told}")
        assert ended.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["printed"]  # what the test itself wrote
