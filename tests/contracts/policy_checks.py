"""What every way to prune keeps to: its decisions on any board, and what it does to the runs of a fleet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fallline.fleet import Fleet, Settings, pruned
from fallline.fleet.pruning import Board, Policy, plain, rebuild
from fallline.records import Record, Series
from fallline.specs import Run
from fallline.tasks import Task
from fleet.cases import first_copied

STEPS = 24


def policies(make: Callable[..., Policy]) -> st.SearchStrategy[Policy]:
    """Policies of one kind: what has no default is a whole number."""
    required = [f.name for f in fields(make) if f.default is MISSING]  # type: ignore[arg-type]
    metric = st.sampled_from(["score", "loss"])
    return st.builds(make, metric=metric, **{name: st.integers(1, 9) for name in required})


def small(make: Callable[..., Policy]) -> Policy:
    """One that decides early in a short training."""
    required = [f.name for f in fields(make) if f.default is MISSING]  # type: ignore[arg-type]
    return make(**dict.fromkeys(required, 3))


@st.composite
def boards(draw: st.DrawFn, policy: Policy) -> Board:
    """What a policy may be shown: runs that it has given up are out, some are infinite, many are equal."""
    rungs = policy.rungs(STEPS, range(0, STEPS + 1, 4))
    seen = draw(st.integers(1, len(rungs))) if rungs else 0
    count = draw(st.integers(1, 12))
    cell = st.sampled_from([*map(float, range(-3, 4)), np.inf])
    costs = np.array(draw(st.lists(cell, min_size=count * seen, max_size=count * seen))).reshape(count, seen)
    losses = np.array(draw(st.lists(cell, min_size=count * seen, max_size=count * seen))).reshape(count, seen)
    going = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=bool)
    costs[~going, -1:] = np.inf
    return Board(np.array(rungs[:seen]), costs, losses, going, STEPS)


# --- decisions ----------------------------------------------------------------------------------------------


def check_rungs(policy: Policy) -> None:
    """Rungs are in order, and inside of the training."""
    rungs = policy.rungs(STEPS, range(0, STEPS + 1, 4))
    assert rungs == sorted(set(rungs))
    assert all(0 < rung < STEPS for rung in rungs)


def check_data(policy: Policy) -> None:
    """A policy is plain data, there and back, and prints as what makes it."""
    assert rebuild(json.loads(json.dumps(plain(policy)))) == policy
    assert repr(policy).startswith(f"{type(policy).__name__}(")
    hash(policy)


def check_decision(policy: Policy, board: Board) -> None:
    """One source for each run; from nothing that is lost; the same each time; and the board is left alone."""
    before = board.costs.copy(), board.losses.copy(), board.going.copy()
    decided = policy.decide(board)
    assert decided == policy.decide(board)
    for was, now in zip(before, (board.costs, board.losses, board.going), strict=True):
        np.testing.assert_array_equal(was, now)
    assert len(decided) == len(board.going)
    for i, j in enumerate(decided):
        assert j == -1 or board.going[j], "a lost run went on"
        assert j in (-1, i) or board.finite(j), "a run went on from one without a finite score"
        if board.finite(i) and j == -1:
            assert policy.reason(board, i)


def check_leader(policy: Policy, board: Board) -> None:
    """A run that leads at each rung, and gains at each, goes on as itself, and so does one at least."""
    costs, going = board.costs.copy(), board.going.copy()
    costs[0] = -10.0 - np.arange(costs.shape[1])
    going[0] = True
    assert policy.decide(replace(board, costs=costs, going=going))[0] == 0


def check_shift(policy: Policy, board: Board) -> None:
    """It is differences that count."""
    assert policy.decide(replace(board, costs=board.costs + 64.0)) == policy.decide(board)


# --- in a fleet ---------------------------------------------------------------------------------------------


def settings(executor: Any = "traced") -> Settings:
    return Settings(STEPS, 7, tuple(range(0, STEPS + 1, 4)), judge=True, weights=True, executor=executor)


def check_prefix(task: Task, runs: Sequence[Run], policy: Policy) -> None:
    """A run is what it is without the policy, bit for bit, up to where it was given up or went on from another's state."""
    asked = [(0, run) for run in runs]
    rungs = policy.rungs(STEPS, settings().evaluations)
    whole = replace(settings(), evaluations=tuple(sorted({*settings().evaluations, *rungs})))
    with Fleet([task], workers=0, executor="traced") as fleet:
        found = pruned(fleet, asked, settings(), policy)
        free: dict[int, Record] = {}
        for positions, records in fleet.train(asked, whole):
            free.update(zip(positions, records, strict=True))
    assert found.whole == STEPS * len(runs)
    assert found.spent <= found.whole
    for i, record in enumerate(found.records):
        alone, copied = free[i], first_copied(record)
        until = record.outcome.step if copied is None else copied
        differ = list(_unlike_until(until, record, alone))
        assert not differ, f"run {i} differs in {differ} before step {until}"
        if record.outcome.status == "finished" and copied is None:
            for name, weight in record.weights.items():
                assert weight.tobytes() == alone.weights[name].tobytes()
        elif record.outcome.status == "stopped":
            assert record.outcome.step in rungs
            assert record.outcome.sentence.startswith(f"given up after {record.outcome.step} steps: ")


def _unlike_until(step: int, one: Record, other: Record) -> Iterator[str]:
    assert set(one.series) == set(other.series)
    for name, series in one.series.items():
        cut = [
            Series(s.steps[s.steps <= step], s.values[s.steps <= step]) for s in (series, other.series[name])
        ]
        if cut[0] != cut[1]:
            yield name
