"""Where numbers come from: enough to believe and to repeat them."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import metadata
from pathlib import Path

import pytest

import fallline as fl
from fallline.verbs.provenance import PACKAGES, code_version, command, provenance

from .toys import line


def test_everything_that_changes_numbers_is_told(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text("# a task\n")
    found = provenance(
        [line()], [f"{file}:task", "digits", line(), str(tmp_path / "gone.py")], {"workers": 2}
    )
    json.dumps(found, allow_nan=False)
    assert found["fallline"] == fl.__version__
    assert found["versions"]["torch"] == metadata.version("torch")
    assert set(found["versions"]) == {"python", *PACKAGES}
    assert found["hardware"]["cores"] >= 1
    assert found["plan"] == {"workers": 2}
    assert found["sources"] == {str(file): "# a task\n"}
    assert found["tasks"]["line"]["examples"] == {"train": 72, "validation": 24, "test": 24}
    assert found["began"].endswith("+00:00")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["/usr/bin/fallline", "compare", "digits"], "fallline compare digits"),
        (["/x/fallline/__main__.py", "list"], "fallline list"),
        (["fallline", "compare", "my task.py", "--rules", "adam(lr=0.01),sgd"], None),
        (["fallline", "compare", "it's.py"], None),
        ([""], "python"),
    ],
)
def test_the_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch, argv: list[str], told: str | None):
    monkeypatch.setattr(sys, "argv", argv)
    assert shlex.split(command())[1:] == argv[1:]
    assert told is None or command() == told


def test_the_version_of_the_code_is_that_of_its_text():
    assert code_version() == code_version()
    assert len(code_version()) == 12
