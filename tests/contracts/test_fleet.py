"""The law, for every rule that is registered, with every schedule, clip and wrapper.

Each rule is met alone and inside of one clip or wrapper, in turns; task and dtype alternate. The others are slow, and
so is the whole product at the end.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from fallline.specs import Run
from fleet.cases import check_same, classification, train

from .fleet_checks import (
    DTYPES,
    MODELS,
    NAMED,
    RUNS,
    SIZES,
    check_executors,
    check_plain_loop,
    check_sizes,
    check_twins,
    members,
    stable,
    structures,
    tasks,
    tuned,
)

AROUND = list(structures())
PAIRS = list(itertools.product(NAMED, AROUND))


def _marked(kind: str, around: str) -> Any:
    turn = AROUND[1 + NAMED.index(kind) % (len(AROUND) - 1)]
    return pytest.param(kind, around, marks=() if around in ("alone", turn) else pytest.mark.slow)


MARKED = [_marked(*pair) for pair in PAIRS]


def _rotated(kind: str, around: str) -> tuple[str, torch.dtype]:
    """Task and dtype of a pair, so that each kind of rule meets both of both."""
    i = NAMED.index(kind) + list(structures()).index(around)
    return list(MODELS)[i % 2], DTYPES[i // 2 % 2]


@pytest.mark.parametrize(("kind", "around"), MARKED)
def test_a_run_is_bit_equal_in_any_fleet(kind: str, around: str):
    name, dtype = _rotated(kind, around)
    runs = members(kind, structures()[around], RUNS)
    check_sizes(tasks(dtype)[name], runs, (1, 17) if PAIRS.index((kind, around)) % 2 else (5, 64))


@pytest.mark.parametrize(("size", "dtype"), [*itertools.product(SIZES, DTYPES)])
def test_the_size_of_a_fleet_changes_nothing(size: int, dtype: torch.dtype):
    i = SIZES.index(size)
    task = list(tasks(dtype).values())[i % 2]
    check_sizes(task, members(NAMED[i % len(NAMED)], structures()["alone"], RUNS), (size,))


@pytest.mark.parametrize(("kind", "batch"), [(kind, 1 + 6 * (i % 2)) for i, kind in enumerate(NAMED)])
def test_the_place_in_a_block_changes_nothing(kind: str, batch: int):
    task = tasks(DTYPES[NAMED.index(kind) // 2 % 2])["classification"]
    check_twins(task, Run(tuned(kind, 0.5), seed=2), batch=batch)


@pytest.mark.parametrize(("kind", "around"), MARKED)
def test_batched_alone_and_in_a_plain_loop_a_run_is_the_same(kind: str, around: str):
    name = list(MODELS)[PAIRS.index((kind, around)) % 2]
    task, (make, loss) = tasks(torch.float64)[name], MODELS[name]
    i, others = PAIRS.index((kind, around)), members(kind, structures()[around], 3)
    run = stable(kind, structures()[around], plan=i if i % 2 else None)
    if run is None:
        pytest.skip("the rule is not continuous")
    check_plain_loop(task, run, others, make, loss)
    if around == "alone":
        check_executors(task, run, others)


def test_all_rules_in_one_call_in_workers_and_here():
    """Runs of different rules are grouped, shared out to processes, and given back in the order asked."""
    task = classification()
    arounds = list(structures().values())
    found = [members(kind, arounds[i % len(arounds)], 2) for i, kind in enumerate(NAMED)]
    runs = [run for pair in zip(*found, strict=True) for run in pair]
    here = train(task, runs)
    for workers in (1, 2):
        check_same(train(task, runs, workers=workers), here, f"with {workers} workers")
    assert [record.run for record in here] == runs


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "around"), PAIRS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_whole_product(kind: str, around: str, dtype: torch.dtype):
    for task in tasks(dtype).values():
        check_sizes(task, members(kind, structures()[around], RUNS))
        check_sizes(task, members(kind, structures()[around], RUNS), (1, 3, 17), batch=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize("kind", NAMED)
def test_compiled_is_bit_equal_in_any_fleet_and_near_traced(kind: str):
    for name, task in tasks(torch.float64).items():
        runs = members(kind, structures()["alone"], RUNS)
        check_sizes(task, runs, (1, 5, 64), executor="compiled")
        run = stable(kind, structures()["alone"], plan=None)
        if run is not None:
            make, loss = MODELS[name]
            check_plain_loop(task, run, runs[:3], make, loss, executor="compiled")
