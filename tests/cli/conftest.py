"""The real command line, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent / "src"


@dataclass(frozen=True)
class Ended:
    """How a command line ended: its exit status, and what it printed."""

    status: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON document without NaN, and nothing else."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is not JSON")

        found = json.loads(self.out, parse_constant=refuse)
        assert isinstance(found, dict)
        return found


CommandLine = Callable[..., Ended]


def environment() -> dict[str, str]:
    """As users have it: without what this test session set, and fallline found where these tests find it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "FALLLINE", "COLUMNS"))}
    return {**kept, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


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
