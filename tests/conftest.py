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


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of fetched and converted data goes into the test's own folder."""
    monkeypatch.setenv("FALLLINE_CACHE", str(tmp_path / "kept"))


@pytest.fixture(scope="session", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs in C are kept for this session, and not among the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("programs")))
        yield


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
    """``fallline("compare", "digits")``: run a command line to its end, in the test's own folder.

    ``stop=(signal.SIGKILL, 0.5)`` sends it that signal after so many seconds, if it lasts that long.
    """
    (tmp_path / "printed").mkdir()

    def run(
        *args: str | Path, cwd: Path = tmp_path, stop: tuple[int, float] | None = None, **variables: str
    ) -> Ended:
        out, err = tmp_path / "printed" / "out", tmp_path / "printed" / "err"
        places = {"cwd": str(cwd), "out": str(out), "err": str(err)}
        asked = {"args": [str(arg) for arg in args], "variables": variables, "signal": stop, **places}
        assert _forking.stdin is not None
        assert _forking.stdout is not None
        _forking.stdin.write(json.dumps(asked) + "\n")
        _forking.stdin.flush()
        answer = _forking.stdout.readline()
        assert answer, "the process that forks command lines has ended"
        return Ended(int(answer), out.read_text(), err.read_text())

    return run
