"""The fleet on a GPU, where there is one: against the processor, graphs against steps, and back and forth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fallline as fl
from fallline import fleet, rng, rules, schedules
from fallline.fleet import Fleet, Settings, Stopped, graphed, probing
from fallline.fleet.block import train
from fallline.fleet.device import Order, Shelf
from fallline.fleet.feed import Order as Drawn
from fallline.fleet.guard import Guard
from fallline.fleet.workshop import Workshop
from fallline.records import Record
from fallline.tasks import Task

from .cases import check_near, check_same, classification, regression
from .models import ALONE, BATCHED, TABLE, task_of
from .test_axes import streamed
from .test_isolation import CALM, EXPLODING, failing

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
SETTINGS = Settings(40, 7, (0, 1, 4, 15, 40), judge=True, weights=True)
STEPWISE = dataclasses.replace(SETTINGS, device="cuda:0")
GRAPHED = dataclasses.replace(STEPWISE, executor="graphed")
NEAR = 1e-9


def on(where: Settings, task: Task, runs: Sequence[fl.Run], **options: Any) -> list[Record]:
    workshop = Workshop()
    records = train(task, runs, where, workshop, **options)
    assert where.executor != "graphed" or workshop.notes() == (), "a step was not captured"
    return records


def check_alike(ours: Sequence[Record], theirs: Sequence[Record]) -> None:
    """Two trainings of the same runs agree within rounding in float64, curves and judgments included."""
    for one, other in zip(ours, theirs, strict=True):
        check_near(one.weights, other.weights, NEAR)
        assert (one.outcome.status, one.outcome.step) == (other.outcome.status, other.outcome.step)
        for name in ("train_loss", "validation_loss", "validation_score", "gradient_norm"):
            np.testing.assert_allclose(
                one.series[name].values, other.series[name].values, 1e-7, 1e-9, err_msg=name
            )
        assert one.series.keys() == other.series.keys()
        for name, values in one.examples.items():
            np.testing.assert_allclose(values, other.examples[name], 1e-6, 1e-9, err_msg=name)


# --- against the processor ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", list(BATCHED))
def test_models_train_as_on_the_processor(model: str):
    numbers = (0.1, 0.01, schedules.cosine(0.02, 30))
    runs = [fl.Run(rules.sgd(lr=lr), seed=i) for i, lr in enumerate(numbers)]
    check_alike(on(GRAPHED, task_of(model), runs), on(SETTINGS, task_of(model), runs))


@pytest.mark.parametrize("rule", ["momentum", "adam", "adamw", "rmsprop", "adagrad"])
def test_rules_train_as_on_the_processor(rule: str):
    task = classification(dtype=torch.float64)
    runs = [fl.Run(getattr(rules, rule)(lr=0.01), seed=s) for s in range(3)]
    check_alike(on(GRAPHED, task, runs), on(SETTINGS, task, runs))


@pytest.mark.parametrize("model", list(ALONE))
def test_models_that_train_alone_do_there_too(model: str):
    runs = [fl.Run(rules.sgd(lr=0.01), seed=s) for s in range(2)]
    alone = [dataclasses.replace(s, executor="alone", largest=1) for s in (STEPWISE, SETTINGS)]
    ours, theirs = ([on(s, task_of(model), [run])[0] for run in runs] for s in alone)
    check_alike(ours, theirs)


@pytest.mark.parametrize("data", [{"fold": 1}, {"subset": 20}, {"label_noise": 0.4}, {"resample": 2}])
def test_data_of_a_runs_own_are_as_on_the_processor(data: Any):
    task = classification(dtype=torch.float64)
    runs = [fl.Run(rules.sgd(lr=0.1), seed=s, data={**data, "draw": s}) for s in range(3)]
    check_alike(on(GRAPHED, task, runs), on(SETTINGS, task, runs))


def test_a_stream_is_as_on_the_processor():
    task, *_ = streamed(400)
    runs = [fl.Run(rules.sgd(lr=0.1), seed=s) for s in range(2)]
    check_alike(on(GRAPHED, task, runs), on(SETTINGS, task, runs))


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 14, 17, 39])
def test_runs_die_at_the_same_step_with_the_same_weights(step: int):
    runs = [fl.Run(rules.momentum(lr=0.1), seed=s) for s in (4, 5, 6, 5)]
    ours, theirs = (on(s, failing(step), runs) for s in (GRAPHED, SETTINGS))
    for one, other in zip(ours, theirs, strict=True):
        assert one.outcome.sentence.split(";")[0] == other.outcome.sentence.split(";")[0]
        np.testing.assert_allclose(one.weights["w"], other.weights["w"], 1e-5)
        assert {k: len(s) for k, s in one.series.items()} == {k: len(s) for k, s in other.series.items()}


def test_neighbors_of_a_run_that_dies_go_on():
    wild = [fl.Run(EXPLODING, seed=s) for s in range(2)]
    records = on(GRAPHED, regression(dtype=torch.float64), [wild[0], *CALM, wild[1]])
    assert [r.outcome.diverged for r in records][1:5] == [False] * 4
    calm = on(GRAPHED, regression(dtype=torch.float64), CALM)
    for one, other in zip(records[1:5], calm, strict=True):
        check_near(one.weights, other.weights, NEAR)


def test_noise_and_order_are_those_of_the_processor():
    key = torch.tensor(rng.seed_for(3, "noise"))
    for dtype in (torch.float32, torch.float64):
        ours, theirs = (rng.uniform(k, (5, 1001), dtype) for k in (key.cuda(), key))
        assert torch.equal(ours.cpu(), theirs)
        ours, theirs = (rng.normal(k, (5, 1001), dtype) for k in (key.cuda(), key))
        torch.testing.assert_close(
            ours.cpu(), theirs, rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=1e-14
        )
    ours = Order([3, 4, 3], 1001, 32, [None] * 3, torch.device("cuda:0")).between(20, 70)
    assert torch.equal(ours.cpu(), Drawn([3, 4, 3], 1001, 32).between(20, 70))


# --- graphs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", list(TABLE))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_graph_takes_the_same_steps_bit_for_bit(model: str, dtype: torch.dtype):
    runs = [fl.Run(rules.adam(lr=schedules.cosine(0.1, 40)), seed=s) for s in range(5)]
    check_same(*(on(s, task_of(model, dtype), runs) for s in (GRAPHED, STEPWISE)))


@pytest.mark.parametrize("chunk", [1, 3])
def test_what_is_drawn_at_once_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch):
    runs = [fl.Run(rules.adam(lr=0.01), seed=s) for s in range(3)]
    whole = on(GRAPHED, failing(17), [*runs, fl.Run(rules.adam(), seed=5)])
    monkeypatch.setattr(graphed, "CHUNK", chunk)
    check_same(on(GRAPHED, failing(17), [*runs, fl.Run(rules.adam(), seed=5)]), whole)


def test_a_step_that_asks_the_host_is_called_instead():
    def loss(params: Any, buffers: Any, batch: Any, h: Any) -> Any:
        return (params["w"] * params["w"].cpu().to(params["w"].device)).sum(), buffers

    workshop = Workshop()
    task = dataclasses.replace(failing(-1), loss=loss)
    records = train(task, [fl.Run(rules.sgd(lr=0.01), seed=s) for s in range(2)], GRAPHED, workshop)
    assert all(r.outcome.status == "finished" for r in records)
    (note,) = workshop.notes()
    assert "called step by step, as it cannot be captured" in note
    check_same(on(GRAPHED, failing(-1), CALM), on(STEPWISE, failing(-1), CALM))  # and the GPU is as it was


# --- back and forth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 5, 17])
@pytest.mark.parametrize("to", [GRAPHED, STEPWISE, SETTINGS])
@pytest.mark.parametrize("begun", [GRAPHED, SETTINGS])
def test_a_stopped_training_goes_on_there_or_here(begun: Settings, to: Settings, steps: int):
    task, saved, left = classification(dtype=torch.float64), [], [steps]
    runs = [fl.Run(rules.adam(lr=0.1), seed=s) for s in range(3)]

    def stop() -> bool:
        left[0] -= 1
        return left[0] == 0

    with pytest.raises(Stopped):
        on(begun, task, runs, guard=Guard(saved.append, np.inf, stop))
    ours, whole = on(to, task, runs, start=saved[0]), on(to, task, runs)
    if begun.device == to.device:
        check_same(ours, whole)
    check_alike(ours, whole)


def test_frozen_weights_are_lent_and_given_back():
    def frozen() -> Any:
        torch.manual_seed(7)
        model = fl.layers.mlp(6, 5, 3, activation="tanh")
        model[1].requires_grad_(requires_grad=False)
        return model

    task = classification(frozen, dtype=torch.float64)
    runs, workshop = [fl.Run(rules.sgd(lr=0.1), seed=s) for s in range(3)], Workshop()
    first, second = (train(task, runs, GRAPHED, workshop) for _ in range(2))
    check_same(first, second)
    check_alike(first, on(SETTINGS, task, runs))
    assert task.module is not None
    assert {str(p.device) for p in task.module.parameters()} == {"cpu"}


def test_data_lie_on_the_gpu_once():
    task, shelf, where = classification(), Shelf(), torch.device("cuda:0")
    one, other = (shelf.columns(task.parts["train"], where) for _ in range(2))
    assert all(one[name] is other[name] for name in one)


def test_memory_is_given_back_after_a_block():
    task, runs, workshop = classification(), [fl.Run(rules.adam(), seed=s % 4) for s in range(64)], Workshop()
    held = []
    for _ in range(3):
        train(task, runs, GRAPHED, workshop)
        held.append(torch.cuda.memory_allocated())
    assert held[1] == held[2]


# --- through the doors --------------------------------------------------------------------------------------


def test_a_fleet_finds_its_blocks_by_itself(monkeypatch: pytest.MonkeyPatch):
    task = fl.tasks.digits()
    with Fleet([task], device="cuda") as crew:
        told = crew.plan()
        (choice,) = crew.choices.values()
    assert told["device"] == f"cuda:{torch.cuda.current_device()}"
    assert told["gpu"] == torch.cuda.get_device_name()
    assert choice.executor == "graphed", choice.reason
    assert choice.largest >= probing.FIRST
    assert 0 < choice.memory * choice.largest < torch.cuda.mem_get_info()[1]
    runs = [fl.Run(rules.adam(lr=0.01), seed=s % 4) for s in range(12)]
    ours = fleet.run(task, runs, steps=200, device="cuda")
    theirs = fleet.run(task, runs, steps=200, device="cpu", workers=0)
    scores = [[r.outcome.numbers["test_score"] for r in records] for records in (ours, theirs)]
    np.testing.assert_allclose(*scores, atol=0.02)


def test_a_block_too_large_is_cut_in_two(monkeypatch: pytest.MonkeyPatch):
    begin = graphed.Loop.__init__

    def full(self: Any, block: Any, program: Any) -> None:
        if len(block.runs) > 5:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        begin(self, block, program)

    monkeypatch.setattr(probing, "measured", lambda *_: probing.Measured(1e-6, 10))
    monkeypatch.setattr(graphed.Loop, "__init__", full)
    runs = [fl.Run(rules.sgd(lr=0.1), seed=s) for s in range(8)]
    with Fleet([classification()], device="cuda", executor="graphed") as crew:
        found = [i for positions, _ in crew.train([(0, run) for run in runs], SETTINGS) for i in positions]
        assert crew.plan()["events"] == ["memory ran out for 8 runs in a block, so 4 trained at once"]
    assert sorted(found) == list(range(8))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU here")
def test_the_second_gpu_does_the_same():
    other = dataclasses.replace(GRAPHED, device="cuda:1")
    check_same(*(on(s, classification(), CALM) for s in (GRAPHED, other)))


def test_a_comparison_there_is_resumed_there(tmp_path: Path):
    small = {"steps": 20, "replicates": 2, "rates": 2, "seeds": 1, "progress": False}
    found = fl.compare("digits", ["sgd", "adam"], device="cuda", out=tmp_path / "there", **small)
    assert [row["arm"] for row in found.ranking] == ["adam", "sgd"]
    assert fl.resume(tmp_path / "there").document == found.document


@pytest.mark.parametrize(("precision", "score"), [("full", 0.9), ("bf16", 0.9), ("fp16", 0.9)])
def test_a_single_training_in_every_precision(precision: str, score: float):
    found = fl.train("digits", "adam(lr=0.01)", steps=200, device="cuda", precision=precision, progress=False)
    assert found.document["stopped"] == "finished"
    assert found.document["validation_score"] > score
    assert {str(p.device) for p in found.model().parameters()} == {"cpu"}


def test_a_single_training_is_the_run_of_a_fleet():
    task = classification(dtype=torch.float64)
    found = fl.train(task, rules.adam(lr=0.01), steps=40, batch=7, device="cuda", keep="last", progress=False)
    (record,) = on(
        dataclasses.replace(GRAPHED, evaluations=fleet.evaluations(40)), task, [fl.Run(rules.adam(lr=0.01))]
    )
    check_near(found.record.weights, record.weights, NEAR)
