"""A training that is stopped, killed or broken goes on to the same bits."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fallline as fl
from fallline import losses, rules
from fallline.errors import BadStore
from fallline.fleet import checkpoint
from fallline.fleet.single import Plan, Trained, train
from fallline.tasks import Task

from .cases import check_same, table

STEPS = 40
RULE = rules.average(rules.adam(lr=0.05), decay=0.9)


class Breaks(nn.Module):
    """A model with buffers and noise, in whose training something happens at a given step."""

    happens: Any = None
    at = -1
    done = 0

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.out = nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled() and len(x) == 7:
            Breaks.done += 1
            if Breaks.done == Breaks.at:
                Breaks.happens()
        return self.out(nn.functional.dropout(torch.tanh(self.norm(self.first(x))), 0.2, self.training))


@pytest.fixture
def task() -> Iterator[Task]:
    Breaks.done, Breaks.at = 0, -1
    yield fl.Task.supervised(Breaks, table(), loss=losses.cross_entropy)
    Breaks.at = -1


def go(task: Task, file: Path | None, **plan: Any) -> Trained:
    given = {"every": 1e9, "device": "cpu", **plan}
    return train(task, fl.Run(RULE, 3), Plan(STEPS, 7, file=file, **given))


def broken(task: Task, at: int, happens: Any, file: Path, **plan: Any) -> Trained:
    Breaks.done, Breaks.at, Breaks.happens = 0, at, happens
    try:
        return go(task, file, **plan)
    finally:
        Breaks.at = -1


def crash() -> None:
    raise RuntimeError("the machine went away")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("at", [1, 2, 13, 39, 40])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(task: Task, tmp_path: Path, at: int, keep: str):
    whole, file = go(task, None, keep=keep), tmp_path / "saved"
    with pytest.raises(RuntimeError, match="the machine went away"):
        broken(task, at, crash, file, every=0.0, keep=keep)
    assert file.exists() == (at > 1)
    went_on = go(task, file, resume=True, keep=keep)
    check_same([went_on.record], [whole.record])
    assert (went_on.kept.step, went_on.numbers) == (whole.kept.step, whole.numbers)


@pytest.mark.parametrize("at", [1, 17, 40])
def test_ctrl_c_ends_after_the_step_and_keeps_the_best_so_far(task: Task, tmp_path: Path, at: int):
    whole, before = go(task, None), signal.getsignal(signal.SIGINT)
    stopped = broken(task, at, interrupt, tmp_path / "saved")
    assert signal.getsignal(signal.SIGINT) is before
    assert (stopped.stopped, stopped.record.outcome.status) == ("interrupted", "stopped")
    assert stopped.record.outcome.sentence == f"stopped at step {at} by Ctrl-C"
    seen = stopped.record.series["validation_score"]
    assert seen.values.tolist() == whole.record.series["validation_score"].values[: len(seen)].tolist()
    assert stopped.kept.score == max(seen.values)
    check_same([go(task, tmp_path / "saved", resume=True).record], [whole.record])


def test_a_second_ctrl_c_ends_at_once(task: Task, tmp_path: Path):
    def twice() -> None:
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        broken(task, 5, twice, tmp_path / "saved")


def test_sigterm_saves_and_ends_with_143(task: Task, tmp_path: Path):
    with pytest.raises(SystemExit) as ended:
        broken(task, 9, lambda: os.kill(os.getpid(), signal.SIGTERM), tmp_path / "saved")
    assert ended.value.code == 143
    check_same([go(task, tmp_path / "saved", resume=True).record], [go(task, None).record])


def test_outside_of_the_main_thread_signals_are_left_alone(task: Task):
    found: list[Trained] = []
    thread = threading.Thread(target=lambda: found.append(go(task, None)))
    thread.start()
    thread.join()
    check_same([found[0].record], [go(task, None).record])


def test_a_finished_training_is_given_back(task: Task, tmp_path: Path):
    first = go(task, tmp_path / "saved")
    Breaks.done = 0
    again = go(task, tmp_path / "saved", resume=True)
    check_same([again.record], [first.record])
    assert Breaks.done == 0


def test_another_training_is_not_gone_on_with(task: Task, tmp_path: Path):
    file = tmp_path / "saved"
    go(task, file)
    with pytest.raises(BadStore, match=r"already holds a training \(saved\): go on with it by resume"):
        go(task, file)
    with pytest.raises(BadStore, match="holds another training: its keep is 'best', and 'last' is asked for"):
        go(task, file, resume=True, keep="last")


def test_a_checkpoint_of_something_else_is_refused(task: Task, tmp_path: Path):
    checkpoint.write(tmp_path / "saved", {}, {"runs": []})
    with pytest.raises(
        BadStore, match=r"saved was not written by fl\.train: choose another folder, or remove it"
    ):
        go(task, tmp_path / "saved", resume=True)


@pytest.mark.parametrize("length", [0, 100, -1])
def test_a_checkpoint_that_was_cut_off_gives_way_to_the_one_before(task: Task, tmp_path: Path, length: int):
    whole, file = go(task, None), tmp_path / "saved"
    with pytest.raises(RuntimeError, match="the machine went away"):
        broken(task, 20, crash, file, every=0.0)
    file.write_bytes(file.read_bytes()[:length])
    went_on = go(task, file, resume=True)
    check_same([went_on.record], [whole.record])
    (note,) = went_on.notes
    assert note.startswith("the checkpoint saved could not be read (")


def test_a_full_disk_costs_no_training(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole, file = go(task, None), tmp_path / "saved"
    with pytest.raises(RuntimeError, match="the machine went away"):
        broken(task, 20, crash, file, every=0.0)
    before = file.read_bytes()

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    found = go(task, file, resume=True, every=0.0)
    check_same([found.record], [whole.record])
    assert found.notes == (
        f"{file} could not be written (No space left on device): what was saved before is still there",
    )
    assert file.read_bytes() == before
