"""``fallline find-lr``: what it prints."""

from __future__ import annotations

from command_line import CommandLine

SMALL = ["--steps", "10", "--points", "6", "--seeds", "2", "--workers", "0"]


def test_one_document(fallline: CommandLine):
    ended = fallline("find-lr", "iris", "--rule", "sgd", *SMALL, "--json")
    assert (ended.status, ended.err) == (0, "")
    found = ended.json()
    assert (found["task"], found["steps"], found["seeds"]) == ("iris", 10, 2)
    assert len(found["rates"]) == len(found["losses"]) == len(found["diverged"])
    assert set(found["range"]) == {"low", "high", "share"}
    assert set(found["edge"]) == {"value", "low", "high", "n"}
    assert found["suggestion"]["reason"]


def test_text_and_bad_input(fallline: CommandLine):
    ended = fallline("find-lr", "iris", *SMALL)
    assert ended.status == 0
    assert "suggestion: " in ended.out
    refused = fallline("find-lr", "iris", "--points", "1")
    assert refused.status == 2
    assert "points must be a whole number of at least 3" in refused.err
