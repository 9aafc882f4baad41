"""What is left when a comparison is stopped by Ctrl-C; ``test_resume`` goes on with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from command_line import CommandLine, environment
from fallline.errors import FalllineError
from fallline.store import Store

PATIENCE = 60.0
"""Seconds after which a test gives up; it never waits longer than for the sign that it waits for."""
LINE = [
    "compare",
    "digits",
    "--steps",
    "1500",
    "--rules",
    "sgd,adam",
    "--workers",
    "2",
    "--out",
    "here",
    "--json",
]

SLOW = """
import pathlib, select, signal
import torch
import fallline as fl
from fallline.tasks import Metric, Task, Variables


def score(params, buffers, batch, h):
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:
        pathlib.Path("began").touch()
        while not getattr(handler, "by", ""):
            select.select([], [], [], 0.01)
        pathlib.Path("asked").touch()
        select.select([], [], [], 60)
    return {"loss": params["w"].sum(), "score": params["w"].sum()}


def task():
    start = lambda seed: Variables({"w": torch.ones(2)}, {})
    return Task("slow", start, lambda p, b, batch, h: (p["w"].sum(), b), score, {}, Metric("distance", "lower"))
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals to process groups")


@contextmanager
def started(folder: Path, *line: str) -> Iterator[subprocess.Popen[str]]:
    """A command line in a process group of its own, of which nothing is left afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fallline", *line], cwd=folder, env=environment(), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(sign: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Look for a sign until it is there; the process must not end before."""
    until = time.monotonic() + PATIENCE
    while not sign():
        assert time.monotonic() < until, "the sign did not come"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)


def rows(store: Path) -> int:
    """How many runs a store holds; 0 while there is none."""
    try:
        with Store.open(store) as opened:
            return opened.count()
    except FalllineError:
        return 0


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def test_ctrl_c_leaves_a_store_that_can_be_read(fallline: CommandLine, tmp_path: Path):
    store = tmp_path / "here" / "study.db"
    with started(tmp_path, *LINE) as process:
        wait_for(lambda: rows(store), process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the command and to its workers
        status, out, err = ended(process)
        assert not group_lives(process.pid)
    assert (status, out) == (130, "")
    assert err == "\nfallline: stopped by Ctrl-C; what was done is kept: go on with fallline resume here\n"
    left = {p.name for p in store.parent.iterdir()}
    assert {"study.db"} <= left <= {"study.db", "checkpoints"}  # between two blocks there is nothing to save
    kept = rows(store)
    with Store.open(store) as opened:
        assert not opened.finished
        assert len(list(opened.records())) == kept > 0

    told = fallline("report", "here")
    assert (told.status, told.out, told.err) == (0, "report: here/report.html\n", "")
    page = (tmp_path / "here" / "report.html").read_text(encoding="utf-8")
    assert f"This study is not finished: it holds {kept:,}" in page
    as_json = fallline("report", "here", "--json")
    assert (as_json.status, as_json.out, as_json.err) == (0, "null\n", "")


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path):
    """The evaluation of this task lasts for longer than anybody waits."""
    (tmp_path / "slow.py").write_text(SLOW)
    with started(
        tmp_path, "compare", "slow.py", "--rules", "sgd(lr=0.1)", "--workers", "0", "--executor", "alone"
    ) as process:
        wait_for((tmp_path / "began").exists, process)
        os.killpg(process.pid, signal.SIGINT)
        wait_for((tmp_path / "asked").exists, process)
        os.killpg(process.pid, signal.SIGINT)
        assert ended(process) == (130, "", "\nfallline: stopped by Ctrl-C\n")
    assert not (tmp_path / "fallline-out").exists()


def test_ctrl_c_before_anything_is_trained(tmp_path: Path):
    (tmp_path / "slow.py").write_text(
        "import os, pathlib, select\npathlib.Path('began').touch()\nselect.select([], [], [], 60)\n"
    )
    with started(tmp_path, "compare", "slow.py", "--json") as process:
        wait_for((tmp_path / "began").exists, process)
        os.killpg(process.pid, signal.SIGINT)
        assert ended(process) == (130, "", "\nfallline: stopped by Ctrl-C\n")
        assert not group_lives(process.pid)
    assert not (tmp_path / "fallline-out").exists()
