"""Memory runs out: blocks become smaller, that is recorded, what was saved is kept, and the numbers are the same."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import environment
from fallline import fleet, rules
from fallline.errors import WorkerLost
from fallline.fleet import Fleet, Keep, worker
from fallline.fleet.worker import OutOfMemory, is_memory
from fallline.records import Record
from fallline.specs import Run

from .cases import check_same, classification, train

STEPS = 30
RUNS = [Run(rules.sgd(lr=0.01 * (1 + i)), seed=i) for i in range(8)]
HALVED = [
    "memory ran out for 8 runs in a block, so 4 trained at once",
    "memory ran out for 4 runs in a block, so 2 trained at once",
]


def room_for(most: int, monkeypatch: pytest.MonkeyPatch, fails: Callable[[], None]) -> None:
    """Blocks of more runs fail once they have taken their first steps and were saved."""
    before = worker.done

    def done(tasks: Any, message: Any, workshop: Any, guard: Any, progress: Any) -> Any:
        look = guard.look

        def looked(snapshot: Any) -> None:
            look(snapshot)
            if len(message[1]) > most and snapshot().step > 5:
                fails()

        guard.look = looked
        return before(tasks, message, workshop, guard, progress)

    monkeypatch.setattr(worker, "done", done)
    monkeypatch.setattr(fleet.pool, "done", done)


def no_memory() -> None:
    raise MemoryError


def cannot_allocate() -> None:
    raise RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
    )


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def trained(crew: Fleet) -> tuple[list[Record], list[int]]:
    settings = fleet.settings_for(crew.tasks, STEPS, 7, judge=True, weights=True)
    found: dict[int, Record] = {}
    steps: list[int] = []
    for positions, records in crew.train([(0, run) for run in RUNS], settings, steps.append):
        found.update(zip(positions, records, strict=True))
    return [found[i] for i in range(len(RUNS))], steps


@pytest.mark.parametrize("fails", [no_memory, cannot_allocate, killed])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kept", [False, True])
def test_blocks_become_smaller_and_the_numbers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[[], None], workers: int, kept: bool
):
    if workers == 0 and fails is killed:
        pytest.skip("this process is not killed")
    expected = train(classification(), RUNS, steps=STEPS)
    room_for(2, monkeypatch, fails)
    keep = Keep(tmp_path / "kept", every=0.0) if kept else None
    with Fleet([classification()], workers=workers, executor="traced", keep=keep) as crew:
        found, steps = trained(crew)
        assert crew.plan()["events"] == HALVED
        check_same(found, expected, "in smaller blocks")
        assert sum(steps) == STEPS * len(RUNS)  # what was lost is taken back
        again, steps = trained(crew)
        assert min(steps) > 0  # it is known by now how many fit
        check_same(again, found)


def test_with_several_workers_there_are_fewer_of_them_in_the_end(monkeypatch: pytest.MonkeyPatch):
    room_for(0, monkeypatch, no_memory)
    with (
        Fleet([classification()], workers=2, executor="traced") as crew,
        pytest.raises(OutOfMemory, match="a worker failed while it trained 1 run: MemoryError: no message"),
    ):
        trained(crew)
    events = crew.pool.events
    assert events[0] == HALVED[0]
    events.remove("memory ran out for a block of 1 run, so 1 trained at a time")  # when, two blocks decide
    sizes = [int(re.fullmatch(r"memory ran out for .* so (\d+) trained at once", e)[1]) for e in events]  # type: ignore[index]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


def test_one_run_that_does_not_fit_is_an_error_here_too(monkeypatch: pytest.MonkeyPatch):
    room_for(0, monkeypatch, no_memory)
    with Fleet([classification()], workers=0, executor="traced") as crew, pytest.raises(MemoryError):
        trained(crew)


def test_other_errors_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch):
    def broken() -> None:
        raise ZeroDivisionError("in the loss")

    room_for(2, monkeypatch, broken)
    with (
        Fleet([classification()], workers=1, executor="traced") as crew,
        pytest.raises(WorkerLost, match="in the loss"),
    ):
        trained(crew)
    assert crew.pool.events == []


@pytest.mark.parametrize(
    ("what", "memory"),
    [
        ("MemoryError: no message", True), ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", True),
        ("OSError: [Errno 12] Cannot allocate memory", True), ("ValueError: memory of a rule", False),
    ],
)  # fmt: skip
def test_an_error_is_known_by_what_it_says(what: str, memory: bool):
    assert is_memory(what) == memory


LIMITED = """
import resource
from pathlib import Path
import torch
import fallline as fl
from fallline import fleet, rules
from fallline.fleet import Fleet

FLOATS = 2_000_000


def task():
    '''Each run of it needs some tens of megabytes in a step.'''
    torch.manual_seed(0)
    X = torch.randn(60, 3)
    one = fl.Task.supervised(lambda: torch.nn.Linear(3, 1), (X, X[:, :1]), loss=fl.losses.mse, name="large")

    def loss(params, buffers, batch, h):
        value, buffers = one.loss(params, buffers, batch, h)
        many = params["weight"].sum() * torch.ones(FLOATS)
        return value + 1e-9 * many.sin().mean(), buffers

    return fl.Task(**{**vars(one), "loss": loss})


def trained(limited, workers):
    found = {}
    with Fleet([task()], workers=workers, executor="traced") as crew:
        if limited:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            process = crew.pool._workers[0].process.pid if workers else 0
            resource.prlimit(process, resource.RLIMIT_AS, (used + 300 * 2**20, resource.RLIM_INFINITY))
        settings = fleet.settings_for(crew.tasks, 2, 7, judge=False)
        for positions, records in crew.train([(0, run) for run in runs], settings):
            found.update(zip(positions, records))
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return [found[i].outcome.numbers for i in range(16)], crew.pool.events


runs = [fl.Run(rules.sgd(lr=0.01 * (1 + i)), seed=i) for i in range(16)]
for workers in (1, 0):
    numbers, events = trained(True, workers)
    assert events[0] == "memory ran out for 16 runs in a block, so 8 trained at once", events
    if workers:
        expected, events = trained(False, workers)
        assert not events, events
    assert numbers == expected
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process's memory")
def test_with_the_systems_own_limit_on_memory():
    line = [sys.executable, "-c", LIMITED]
    ended = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
