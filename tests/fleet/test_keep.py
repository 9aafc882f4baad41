"""Blocks in training that are kept: where they are stopped and gone on with, their runs end as if they had not been."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import fallline as fl
from command_line import environment
from fallline import fleet, rules
from fallline.fleet import Fleet, Keep, Snapshot, Stopped, checkpoint, guard
from fallline.fleet.guard import Guard
from fallline.fleet.keep import SUFFIX, identity
from fallline.records import Record
from fallline.specs import Run
from fallline.tasks import Task

from .cases import check_same, classification, train

STEPS = 30
RUNS = [
    Run(rules.momentum(lr=0.02 * (1 + i)), seed=i, tags={"arm": "m", "settings": {"lr": 0.1}})
    for i in range(5)
]
RUNS.append(Run(rules.momentum(lr=1e30), seed=7, tags={"arm": "diverges"}))


def noisy() -> Task:
    """Buffers, noise and a rule with a state: all that there is to keep."""
    make = lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 3))  # noqa: E731
    return classification(make)


def crew(task: Task, keep: Keep | None, workers: int = 0, plan: Any = None) -> Fleet:
    return Fleet([task], workers=workers, executor="traced", keep=keep, plan=plan)


def trained(fleets: Fleet, runs: list[Run], standing: Any = None) -> list[Record]:
    settings = fleet.settings_for(fleets.tasks, STEPS, 7, judge=True, weights=True)
    found: dict[int, Record] = {}
    for positions, records in fleets.train([(0, run) for run in runs], settings, standing=standing):
        found.update(zip(positions, records, strict=True))
    return [found[i] for i in range(len(runs))]


def stopped_after(steps: int, keep: Keep, runs: list[Run], workers: int = 0) -> Fleet:
    """Train until a snapshot after so many steps was saved, and stop."""
    with crew(noisy(), keep, workers) as fleets:
        saver = Keep.saver

        def stops(self: Keep, given: Any, tell: Any) -> Callable[[Snapshot], None]:
            save = saver(self, given, tell)

            def saved(held: Snapshot) -> None:
                save(held)
                if held.step >= steps:
                    fleets.pool.stop()

            return saved

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Keep, "saver", stops)
            with pytest.raises(Stopped):
                trained(fleets, runs)
        return fleets


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fleet_that_is_stopped_goes_on_to_the_same_bits(tmp_path: Path, workers: int):
    """Whatever stands beside them: the runs come back in another order, some of them with others from their beginning."""
    keep = Keep(tmp_path / "kept", every=0.0)
    if workers:
        with crew(noisy(), keep, workers) as fleets:
            fleets.pool.stop()
            with pytest.raises(Stopped):
                trained(fleets, RUNS)
        assert keep.standing() == ({}, [])  # nothing had begun
    stopped_after(11, keep, RUNS)
    standing, notes = keep.standing()
    assert set(standing) == set(map(identity, RUNS))
    assert {held.step for held, _ in standing.values()} == {12}
    assert notes == []
    mixed = [RUNS[4], Run(rules.momentum(lr=0.05), seed=9), RUNS[5], RUNS[0], RUNS[2]]
    known = {i: standing[identity(run)] for i, run in enumerate(mixed) if identity(run) in standing}
    assert len(known) == 4
    with crew(noisy(), None, workers) as fleets:
        found = trained(fleets, mixed, known)
    check_same(found, train(noisy(), mixed, steps=STEPS), "gone on with")


def test_the_furthest_of_two_snapshots_counts(tmp_path: Path):
    keep = Keep(tmp_path / "kept", every=0.0)
    stopped_after(9, keep, RUNS[:3])
    stopped_after(4, keep, RUNS[2:4])
    standing, _ = keep.standing()
    assert [standing[identity(run)][0].step for run in RUNS[:4]] == [10, 10, 10, 5]
    last = keep.last(RUNS[:3])
    assert last is not None
    assert (last.step, [identity(run) for run in last.runs]) == (10, list(map(identity, RUNS[:3])))
    assert keep.last(RUNS[:2]) is None
    keep.forget(RUNS[:3])
    assert set(keep.standing()[0]) == set(map(identity, RUNS[2:4]))
    (keep.folder / "notes.txt").touch()
    keep.clear()
    assert [path.name for path in keep.folder.iterdir()] == ["notes.txt"]
    (keep.folder / "notes.txt").unlink()
    keep.clear()
    keep.clear()
    assert not keep.folder.exists()


def test_a_snapshot_that_cannot_be_read_is_told_and_left_out(tmp_path: Path):
    keep = Keep(tmp_path / "kept", every=0.0)
    stopped_after(6, keep, RUNS[:2])
    stopped_after(6, keep, RUNS[2:4])
    first, second = checkpoint.found(keep.folder, SUFFIX)
    first.write_bytes(first.read_bytes()[:-1])
    standing, notes = keep.standing()
    assert sorted(held.step for held, _ in standing.values()) == [6, 6, 7, 7]  # of one, the checkpoint before
    assert [note.split(" (")[0] for note in notes] == [f"the checkpoint {first.name} could not be read"]
    second.unlink()
    second.with_name(second.name + checkpoint.PREVIOUS).write_bytes(b"")
    standing, notes = keep.standing()
    assert [held.step for held, _ in standing.values()] == [6, 6]
    assert notes[1].endswith("what it held must be trained again from the beginning")


@pytest.mark.parametrize("facts", [{}, {"series": [], "runs": []}, {"series": {}, "runs": [{}], "step": 3}])
def test_a_snapshot_of_something_else_is_told_and_left_out(tmp_path: Path, facts: dict[str, Any]):
    keep = Keep(tmp_path)
    checkpoint.write(tmp_path / f"other{SUFFIX}", {"x": np.zeros(3)}, facts)
    standing, (note,) = keep.standing()
    assert not standing
    assert "holds no block of runs as this version writes them" in note


def test_on_a_full_disk_training_goes_on_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for workers in (0, 1):
        with crew(noisy(), Keep(tmp_path / "kept", every=0.0), workers) as fleets:
            found = trained(fleets, RUNS)
            told = fleets.plan()["events"]
        assert told == [
            "checkpoints cannot be written to kept (No space left on device), so training goes on without new ones, and "
            "would lose more if it were killed"
        ]
        check_same(found, train(noisy(), RUNS, steps=STEPS), "on a full disk")
    assert list((tmp_path / "kept").iterdir()) == []


# --- when it is saved -------------------------------------------------------------------------------------


def test_it_is_saved_at_intervals_of_a_clock_that_is_never_set_back(monkeypatch: pytest.MonkeyPatch):
    """The wall clock runs backwards here, and does not matter."""
    monkeypatch.setattr(time, "time", iter(range(1000, 0, -1)).__next__)
    now = [0.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
    saved: list[float] = []
    looking = Guard(lambda held: saved.append(now[0]), every=10.0)
    for at in (0, 5, 9.9, 10, 11, 19, 20.5, 29, 31, 31, 45):
        now[0] = float(at)
        looking.look(lambda: None)  # type: ignore[arg-type, return-value]
    assert saved == [10, 20.5, 31, 45]


def test_a_guard_that_is_asked_to_stop_saves_first():
    saved: list[Any] = []
    with pytest.raises(Stopped):
        Guard(saved.append, stop=lambda: True).look(lambda: "held")  # type: ignore[arg-type, return-value]
    assert saved == ["held"]
    with pytest.raises(Stopped):
        Guard(stop=lambda: True).look(lambda: pytest.fail("there is nowhere to keep it"))
    Guard(saved.append).look(lambda: pytest.fail("it is not time to save"))


def test_an_identity_survives_a_file(tmp_path: Path):
    odd = Run(
        rules.adam(lr=fl.schedules.cosine(0.1, 20)), seed=3, loss={"1.weight": 1 / 3}, batch=4, data={"fold": 1},
        model={"width": 17}, tags={"settings": {"lr": np.float64(0.1)}, "replicate": 2},
    )  # fmt: skip
    held = Snapshot((odd,), 2, {"died": np.array([-1])}, {"train_loss": np.array([1, 2])})
    keep = Keep(tmp_path / "kept")
    keep.saver([odd], pytest.fail)(held)
    (name,) = keep.standing()[0]
    assert name == identity(odd)


# --- the parent is gone -----------------------------------------------------------------------------------

ORPHANS = """
import sys, threading
import torch
from torch import nn
import fallline as fl
from fallline import fleet, rules
from fallline.fleet import Fleet

torch.manual_seed(0)
X = torch.randn(60, 3)
task = fl.Task.supervised(lambda: nn.Linear(3, 1), (X, X[:, :1]), loss=fl.losses.mse)


def train():
    with Fleet([task], workers=1, executor="traced") as crew:
        settings = fleet.settings_for(crew.tasks, 500_000, 7, judge=False)
        said = []

        def say(done):
            said or print(crew.pool._workers[0].process.pid, flush=True)
            said.append(done)

        list(crew.train([(0, fl.Run(rules.sgd(lr=1e-4)))], settings, say))


if sys.argv[1] == "here":
    train()
else:
    threading.Thread(target=train).start()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process that is not its child")
@pytest.mark.parametrize("where", ["here", "in another thread"])
def test_a_worker_in_a_block_ends_with_its_parent(where: str):
    line = [sys.executable, "-c", ORPHANS, where]
    with subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        assert select.select([worker], [], [], 60)[0]
        os.close(worker)
