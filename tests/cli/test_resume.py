"""``fallline resume``: a comparison that was stopped or killed, at any moment, ends as if it had not been."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import CommandLine, Ended
from fallline.fleet.keep import identity
from fallline.records import Record
from fallline.store import Store

from .test_interrupt import PATIENCE, children, ended, group_lives, started, wait_for

TASK = """
import torch
from torch import nn
import fallline as fl


def task():
    torch.manual_seed(0)
    X = torch.randn(60, 3)
    y = X @ torch.tensor([[2.0], [-1.0], [0.5]])
    model = lambda: nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.1), nn.Linear(2, 1))
    return fl.Task.supervised(model, (X, y), loss=fl.losses.mse, name="noisy line")
"""
LINE = [
    "compare", "mine.py", "--rules", "sgd,momentum(lr=0.01)", "--steps", "300", "--replicates", "2", "--rates", "2",
    "--seeds", "2", "--executor", "traced", "--workers", "2", "--checkpoint-every", "0.02", "--out", "here", "--json",
]  # fmt: skip
TIMES = {"seconds", "seconds_to_target", "store", "report"}
"""What may differ between two runs of one comparison: how long it took, and where it lies."""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals to process groups")


def without_times(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: without_times(value) for name, value in document.items() if name not in TIMES}
    return [without_times(item) for item in document] if isinstance(document, list) else document


def records(store: Path) -> dict[str, Record]:
    with Store.open(store) as opened:
        found = {identity(record.run): record for record in opened.records()}
        assert len(found) == opened.count()  # nothing was trained twice
    return found


def check_same(one: Path, other: Path) -> None:
    """Two stores hold the same runs, bit for bit."""
    ours, theirs = records(one), records(other)
    assert set(ours) == set(theirs)
    for name, record in ours.items():
        then = theirs[name]
        assert record.series == then.series
        ended, before = record.outcome, then.outcome
        assert (ended.status, ended.step, ended.numbers) == (before.status, before.step, before.numbers)
        for k, values in record.examples.items():
            assert values.tobytes() == then.examples[k].tobytes()


class Whole:
    """A comparison that nobody stopped: its document, its store, and how long it took."""

    def __init__(self, fallline: CommandLine, folder: Path) -> None:
        folder.mkdir()
        (folder / "mine.py").write_text(TASK)
        began = time.monotonic()
        ended = fallline(*LINE, cwd=folder)
        self.seconds = time.monotonic() - began
        assert (ended.status, ended.err) == (0, "")
        self.document, self.store = ended.json(), folder / "here" / "study.db"
        assert [path.name for path in sorted(self.store.parent.iterdir())] == ["report.html", "study.db"]

    def check(self, ended: Ended, folder: Path) -> None:
        """What went on has come to the same end."""
        assert ended.status == 0, ended.err
        assert without_times(ended.json()) == without_times(self.document)
        check_same(folder / "here" / "study.db", self.store)
        assert [path.name for path in sorted((folder / "here").iterdir())] == ["report.html", "study.db"]


_WHOLE: list[Whole] = []


@pytest.fixture
def whole(fallline: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """One for all tests."""
    _WHOLE.extend([] if _WHOLE else [Whole(fallline, tmp_path_factory.mktemp("whole") / "it")])
    return _WHOLE[0]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A folder in which a comparison is begun."""
    (tmp_path / "mine.py").write_text(TASK)
    return tmp_path


def go_on(fallline: CommandLine, folder: Path, every: str = "0.02", **options: Any) -> Ended:
    """As a person does: go on where there is something to go on with, else begin."""
    begun = (folder / "here" / "study.db").exists()
    line = ["resume", "here", "--json"] if begun else LINE
    return fallline(*line, "--checkpoint-every", every, cwd=folder, **options)


# --- killed -----------------------------------------------------------------------------------------------


def test_killed_again_and_again_it_ends_as_if_it_had_not_been(
    fallline: CommandLine, whole: Whole, stopped: Path, rng: np.random.Generator
):
    """With all that it started, so in the middle of steps, of checkpoints, of the store, of the report."""
    for moment in whole.seconds * rng.uniform([0.2, 0.1, 0.3], [0.9, 0.5, 0.7]):
        go_on(fallline, stopped, stop=(signal.SIGKILL, moment))
    whole.check(go_on(fallline, stopped), stopped)


@pytest.mark.slow
def test_killed_at_a_hundred_moments_it_ends_as_if_it_had_not_been(
    fallline: CommandLine, whole: Whole, stopped: Path, rng: np.random.Generator
):
    left = 0
    for i, moment in enumerate(whole.seconds * rng.uniform(size=100)):
        folder = stopped / str(i)
        folder.mkdir()
        (folder / "mine.py").write_text(TASK)
        go_on(fallline, folder, stop=(signal.SIGKILL, moment))
        left += (folder / "here" / "checkpoints").exists()
        whole.check(go_on(fallline, folder), folder)
    assert left >= 10


DYING = """
if "DIES_AT" in os.environ:
    left = [int(os.environ["DIES_AT"])]

    def counted(call):
        def one(*given, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*given, **options)
        return one

    for name in ("replace", "link", "fsync", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
"""


@pytest.mark.parametrize(
    "at",
    [5, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3, 4, 6, 7, 8, 9, 10, 15, 20, 30, 50))],
)
def test_killed_within_a_save_it_ends_as_if_it_had_not_been(
    fallline: CommandLine, whole: Whole, stopped: Path, at: int
):
    """The task itself ends the process, at a call by which something is saved."""
    (stopped / "mine.py").write_text(f"import os\nimport signal\n{DYING}\n{TASK}")
    ended = fallline(*LINE, "--workers", "0", "--checkpoint-every", "0", cwd=stopped, DIES_AT=str(at))
    assert ended.status == -signal.SIGKILL
    whole.check(go_on(fallline, stopped, every="60"), stopped)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for processes that are not its children")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path):
    (tmp_path / "mine.py").write_text(TASK)
    long = [*LINE, "--steps", "1000000"]
    with started(tmp_path, *long) as process:
        wait_for(lambda: list((tmp_path / "here").glob("checkpoints/*.safetensors")), process)
        workers = [os.pidfd_open(pid) for pid in children(process.pid)]
        assert len(workers) == 2
        process.kill()
        for worker in workers:
            assert select.select([worker], [], [], PATIENCE)[0]
            os.close(worker)


# --- stopped ----------------------------------------------------------------------------------------------


def test_sigterm_saves_and_ends_with_status_143(fallline: CommandLine, whole: Whole, stopped: Path):
    """While it ran, no other process could go on with it."""
    told = "\nfallline: stopped by SIGTERM; what was done is kept: go on with fallline resume here\n"
    with started(stopped, *LINE, "--steps", "1000000") as process:
        wait_for(lambda: list((stopped / "here").glob("checkpoints/*.safetensors")), process)
        second = fallline("resume", "here", "--json")
        assert (second.status, second.out) == (2, "")
        assert "another process is writing here/study.db, and a store has one writer" in second.err
        process.terminate()
        assert ended(process) == (143, "", told)
        assert not group_lives(process.pid)
    assert (stopped / "here" / "checkpoints").is_dir()
    went_on = fallline("resume", "here", stop=(signal.SIGTERM, 1.0))
    assert (went_on.status, went_on.err) in [(143, told), (-signal.SIGTERM, "")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_it_goes_on_as_if_it_had_not_been(
    fallline: CommandLine, whole: Whole, stopped: Path, number: int
):
    went_on = fallline(*LINE, cwd=stopped, stop=(number, 0.5 * whole.seconds))
    assert went_on.status in (128 + number, -number, 0)
    whole.check(go_on(fallline, stopped), stopped)


def test_a_worker_that_is_killed_costs_its_place_and_no_more(
    fallline: CommandLine, whole: Whole, stopped: Path
):
    """As a system does that runs out of memory: blocks are smaller from there on, and the numbers are the same."""
    with started(stopped, *LINE) as process:
        wait_for(lambda: list((stopped / "here").glob("checkpoints/*.safetensors")), process)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        status, out, err = ended(process)
    whole.check(Ended(status, out, err), stopped)
    with Store.open(stopped / "here" / "study.db") as store:
        assert any("so 4 trained at once" in event for event in store.provenance["plan"]["events"])


# --- what there is to go on with --------------------------------------------------------------------------


def test_a_finished_study_is_reported_again(fallline: CommandLine, whole: Whole):
    whole.document["report"] = "here/report.html"
    (whole.store.parent / "report.html").unlink()
    again = fallline("resume", "here", "--json", cwd=whole.store.parent.parent)
    assert again.err == (
        "fallline: here/study.db is finished, nothing is left to train: its report is written again\n"
    )
    assert again.json() == whole.document
    assert (whole.store.parent / "report.html").exists()
    shown = fallline("resume", "here/study.db", cwd=whole.store.parent.parent)
    assert (shown.status, whole.document["verdict"].split()[0] in shown.out) == (0, True)
    elsewhere = fallline("resume", "here", "--out", "there/deep", "--json", cwd=whole.store.parent.parent)
    assert elsewhere.json()["report"] == "there/deep/report.html"
    assert (whole.store.parent.parent / "there" / "deep" / "report.html").exists()
    refused = fallline("resume", "here", "--out", "here/study.db/below", cwd=whole.store.parent.parent)
    assert (refused.status, refused.out) == (2, "")
    assert "fallline: the folder here/study.db/below cannot be made (Not a directory)" in refused.err


def test_what_is_not_there_is_told(fallline: CommandLine, tmp_path: Path):
    told = fallline("resume", "nowhere")
    assert (told.status, told.out) == (2, "")
    assert told.err.startswith("fallline: there is no store at nowhere")
