"""What all tests share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from command_line import CommandLine, Ended, environment

HERE = Path(__file__).resolve().parent


@pytest.fixture
def rng() -> np.random.Generator:
    """The one source of random numbers for a test: the same ones each time."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def _forking() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HERE / "forking.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def fallline(_forking: subprocess.Popen[str], tmp_path: Path) -> CommandLine:
    """``fallline("compare", "digits")``: run a command line to its end, in the test's own folder."""
    (tmp_path / "printed").mkdir()

    def run(*args: str | Path, cwd: Path = tmp_path, **variables: str) -> Ended:
        out, err = tmp_path / "printed" / "out", tmp_path / "printed" / "err"
        places = {"cwd": str(cwd), "out": str(out), "err": str(err)}
        asked = {"args": [str(arg) for arg in args], "variables": variables, **places}
        assert _forking.stdin is not None
        assert _forking.stdout is not None
        _forking.stdin.write(json.dumps(asked) + "\n")
        _forking.stdin.flush()
        answer = _forking.stdout.readline()
        assert answer, "the process that forks command lines has ended"
        return Ended(int(answer), out.read_text(), err.read_text())

    return run
