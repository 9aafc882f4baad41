"""Runs stop between two steps and go on, in other blocks, to the same numbers, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fallline as fl
from fallline import rules
from fallline.fleet import Fleet, Settings, Snapshot, Stopped
from fallline.fleet.guard import Guard
from fallline.fleet.snapshot import joined
from fallline.records import Record
from fallline.rules.parse import named
from fallline.specs import Run
from fallline.tasks import Task

from .cases import check_same, classification
from .models import BATCHED, task_of

SETTINGS = Settings(12, 7, (0, 3, 5, 12), judge=True, weights=True)


def runs_of(rule: Any, count: int = 5) -> list[Run]:
    return [Run(rule, seed=seed) for seed in range(count)]


def whole(task: Task, runs: Sequence[Run]) -> list[Record]:
    with Fleet([task], workers=0, executor="traced") as fleet:
        return in_order(fleet.train([(0, run) for run in runs], SETTINGS))


def in_order(found: Any) -> list[Record]:
    records = {i: record for positions, some in found for i, record in zip(positions, some, strict=True)}
    return [records[i] for i in range(len(records))]


def in_parts(task: Task, runs: Sequence[Run], workers: int = 0) -> list[Record]:
    """To step 5 in an order, and on in another and beside others."""
    asked = [(0, run) for run in runs]
    with Fleet([task], workers=workers, executor="traced") as fleet:
        stand = fleet.advance(asked[::-1], SETTINGS, 5)[::-1]
        first = in_order(fleet.train(asked[:2], SETTINGS, standing=dict(enumerate(stand[:2]))))
        return first + in_order(fleet.train(asked[2:], SETTINGS, standing=dict(enumerate(stand[2:]))))


@pytest.mark.parametrize("rule", [*named(), "clipped", "scheduled", "diverging"])
def test_a_training_in_parts_is_the_training(rule: str):
    special = {
        "clipped": fl.chain(fl.clip_norm(0.5), rules.adam(lr=0.01)),
        "scheduled": rules.adam(lr=fl.schedules.cosine(0.1, 12)),
        "diverging": rules.momentum(lr=1e10),
    }
    runs = runs_of(special.get(rule) or rule_named(rule))
    if rule == "diverging":
        runs[1:3] = runs_of(rules.momentum(lr=0.1), 2)
    task = classification()
    check_same(in_parts(task, runs), whole(task, runs))


def rule_named(name: str) -> Any:
    return getattr(rules, name)()


def test_in_workers_too():
    task, runs = classification(), runs_of(rules.adam(lr=0.01))
    check_same(in_parts(task, runs, workers=2), whole(task, runs))


class _Once:
    """Stops a training after some steps, and holds what was saved."""

    def __init__(self, steps: int) -> None:
        self.left, self.saved = steps, []
        self.guard = Guard(self.saved.append, np.inf, self.stop)

    def stop(self) -> bool:
        self.left -= 1
        return self.left == 0


@pytest.mark.parametrize(("model", "steps"), [(model, (1, 4, 9)[i % 3]) for i, model in enumerate(BATCHED)])
def test_stopped_after_any_step_and_gone_on_from_it(model: str, steps: int):
    """Between evaluations too; buffers, noise and batches go on as if nothing had been."""
    from fallline.fleet.block import train, trained
    from fallline.fleet.workshop import Workshop

    task, runs = task_of(model), runs_of(rules.adam(lr=0.01), 3)
    expected = train(task, runs, SETTINGS, Workshop())
    once = _Once(steps)
    with pytest.raises(Stopped), trained(task, runs, SETTINGS, Workshop(), guard=once.guard):
        pass
    (held,) = once.saved
    mixed = held.take([2, 0, 1])
    again = train(task, list(mixed.runs), SETTINGS, Workshop(), start=mixed)
    check_same(again, [expected[i] for i in (2, 0, 1)])
    check_same(train(task, runs[1:2], SETTINGS, Workshop(), start=held.take([1])), expected[1:2])


def test_rows_are_taken_joined_and_renamed():
    task, runs = classification(), runs_of(rules.adam(lr=0.01))
    with Fleet([task], workers=0, executor="traced") as fleet:
        (snapshot, _), *_ = fleet.advance([(0, run) for run in runs], SETTINGS, 3)
    assert len(snapshot) == 5
    back = joined([snapshot.take([0, 3]), snapshot.take([1])])
    assert back.runs == (runs[0], runs[3], runs[1])
    assert all(np.array_equal(back.arrays[k], v[[0, 3, 1]]) for k, v in snapshot.arrays.items())
    other = runs_of(rules.adam(lr=0.1))
    assert snapshot.renamed(other).runs == tuple(other)
    stopped = snapshot.record(2, "stopped", "given up")
    assert (stopped.outcome.status, stopped.outcome.step, stopped.outcome.sentence) == (
        "stopped",
        3,
        "given up",
    )
    assert set(stopped.outcome.numbers) >= {"validation_loss", "validation_score", "train_loss"}


def test_runs_at_different_steps_go_on_in_one_call():
    task, runs = classification(), runs_of(rules.adam(lr=0.01), 4)
    asked = [(0, run) for run in runs]
    expected = whole(task, runs)
    with Fleet([task], workers=0, executor="traced") as fleet:
        early, late = fleet.advance(asked[:1], SETTINGS, 3)[0], fleet.advance(asked[1:2], SETTINGS, 5)[0]
        check_same(in_order(fleet.train(asked, SETTINGS, standing={0: early, 1: late})), expected)


def test_a_snapshot_is_plain_arrays():
    task, runs = classification(), runs_of(rules.adam(lr=0.01), 2)
    with Fleet([task], workers=0, executor="traced") as fleet:
        ((snapshot, row), *_) = fleet.advance([(0, run) for run in runs], replace(SETTINGS, judge=False), 3)
    assert isinstance(snapshot, Snapshot)
    assert row == 0
    assert all(isinstance(array, np.ndarray) for array in snapshot.arrays.values())
    assert snapshot.died(0) == -1
