"""A run that leaves the finite numbers is frozen and recorded, and touches no other."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import numpy as np
import pytest
import torch

import fallline as fl
from fallline import fleet, losses, rules, schedules
from fallline.records import DIVERGED, Record
from fallline.tasks import Metric, Task, Variables

from .cases import ONCE, check_same, classification, regression, train

EXPLODING = rules.sgd(lr=1e4)
CALM = [fl.Run(rules.sgd(lr=0.01 * (1 + i)), seed=i % 3) for i in range(4)]


def failing(step: int, value: float = float("nan")) -> Task:
    """A bowl whose loss is not finite at one step, counted from 0, for the seed 5; buffers know step and seed."""

    def init(seed: int) -> Variables:
        return Variables(
            {"w": torch.tensor([3.0, 1.0])}, {"steps": torch.tensor(0), "seed": torch.tensor(seed)}
        )

    def loss(params: Any, buffers: Any, batch: Any, h: Any) -> Any:
        now = (buffers["steps"] == step) & (buffers["seed"] == 5)
        bowl = (params["w"] ** 2).sum()
        return torch.where(now, torch.tensor(value), bowl), {**buffers, "steps": buffers["steps"] + 1}

    def score(params: Any, buffers: Any, batch: Any, h: Any) -> Any:
        return {"loss": (params["w"] ** 2).sum(), "score": params["w"].norm()}

    return Task("bowl", init, loss, score, {}, Metric("distance", "lower"))


def shrunk(steps: int, lr: float = 0.1) -> list[float]:
    """w after some steps down the bowl, whose gradient is 2 w, in float32."""
    w = np.array([3.0, 1.0], np.float32)
    for _ in range(steps):
        w = w + (2 * w) * np.float32(-lr)
    return w.tolist()


# --- one run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 7, 23])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_run_ends_at_the_step_where_its_loss_does(step: int, value: float):
    runs = [fl.Run(rules.sgd(lr=0.1), seed=s) for s in (4, 5, 6)]
    one, dead, other = train(failing(step, value), runs, steps=24)
    assert [one.outcome.status, other.outcome.status] == ["finished", "finished"]
    assert (dead.outcome.status, dead.outcome.step) == (DIVERGED, step + 1)
    assert dead.outcome.sentence.startswith(f"left the finite numbers at step {step + 1}; ")
    assert dead.outcome.numbers == {}
    np.testing.assert_allclose(dead.weights["w"], shrunk(step), rtol=1e-6)
    for name, series in dead.series.items():
        assert len(series) == sum(s <= step for s in one.series[name].steps), name
        assert np.isfinite(series.values).all(), name
    assert dead.examples == {}


def test_the_sentence_says_what_was_seen_last():
    sentences = [train(failing(step), [fl.Run(rules.sgd(), seed=5)])[0].outcome.sentence for step in (0, 11)]
    assert sentences[0] == "left the finite numbers at step 1; from its first steps on"
    assert re.fullmatch(
        r"left the finite numbers at step 12; its last mean training loss was \d[\d.e+-]*", sentences[1]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_that_overflows_keeps_its_last_finite_weights(dtype: torch.dtype):
    """They are those of the same training, stopped one step before."""
    task, run = regression(dtype=dtype), fl.Run(EXPLODING, seed=2)
    dead = train(task, [*CALM, run], steps=200)[-1]
    assert dead.outcome.status == DIVERGED
    assert 1 < dead.outcome.step < 200
    assert all(np.isfinite(w).all() for w in dead.weights.values())
    before = train(task, [*CALM, run], steps=dead.outcome.step - 1)[-1]
    assert before.outcome.status == "finished"
    assert {k: w.tobytes() for k, w in dead.weights.items()} == {
        k: w.tobytes() for k, w in before.weights.items()
    }
    assert max(np.abs(w).max() for w in dead.weights.values()) > 1e6


def test_a_step_over_the_edge_is_not_taken():
    """Finite weights and a finite step whose sum is not finite."""

    start = Variables({"w": torch.tensor(3.0)}, {})
    task = dataclasses.replace(
        failing(-1), init=lambda seed: start, loss=lambda params, buffers, batch, h: (params["w"], buffers)
    )
    dead = train(task, [fl.Run(rules.sgd(lr=3e38), seed=0)], steps=3)[0]
    assert (dead.outcome.status, dead.outcome.step) == (DIVERGED, 2)
    assert dead.weights["w"].tolist() == pytest.approx(-3e38)


def test_an_average_of_a_run_that_died_is_not_reported():
    rule = rules.average(rules.sgd(lr=0.1), decay=0.5)
    dead = train(failing(6), [fl.Run(rule, seed=5)], steps=12)[0]
    assert np.isfinite(dead.series["validation_loss"].values).all()
    assert dead.outcome.step == 7


# --- its neighbors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [classification, regression])
def test_neighbors_of_a_run_that_dies_are_bit_equal_to_runs_without_it(make: Any):
    task, dead = make(), fl.Run(EXPLODING, seed=1)
    spoilt = train(task, [dead, CALM[0], dead, *CALM[1:], dead], steps=60)
    kept = [spoilt[1], *spoilt[3:6]]
    check_same(kept, train(task, CALM, steps=60), "beside a run that dies")
    if make is regression:
        assert [r.outcome.diverged for r in spoilt] == [True, False, True, False, False, False, True]


def test_a_clip_by_norm_is_each_runs_own():
    task, clip = regression(), rules.clip_norm(1.0)
    calm = [fl.Run(rules.chain(clip, rules.sgd(lr=0.01)), seed=s) for s in range(3)]
    wild = fl.Run(rules.chain(clip, rules.sgd(lr=1e30)), seed=0)
    check_same(train(task, [wild, *calm, wild])[1:4], train(task, calm), "clipped beside a wild run")


def test_a_block_of_which_all_are_dead_stops_early(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    between = fleet.block.Order.between

    def counted(self: Any, start: int, stop: int) -> Any:
        asked.append(stop)
        return between(self, start, stop)

    monkeypatch.setattr(fleet.block.Order, "between", counted)
    done: list[int] = []
    runs = [fl.Run(EXPLODING, seed=s) for s in range(3)]
    records = fleet.run(regression(), runs, steps=100_000, progress=done.append, **ONCE)
    assert all(record.outcome.diverged for record in records)
    assert max(asked) < 1000
    assert sum(done) == 300_000


def test_progress_adds_up_to_all_steps_of_all_runs():
    for workers in (0, 2):
        done: list[int] = []
        runs = [*CALM, fl.Run(EXPLODING), fl.Run(rules.adam(), seed=1)]
        fleet.run(regression(), runs, steps=40, workers=workers, executor="traced", progress=done.append)
        assert sum(done) == 40 * len(runs)
        assert min(done) > 0
        assert len(done) > 5


# --- what differs from run to run ---------------------------------------------------------------------------


def test_numbers_of_the_loss_are_each_runs_own():
    """A mixture whose weight is an axis is, for each run, the mixture with that weight fixed."""
    own = regression(loss=0.7 * losses.mse + fl.axis(0.1, 0.5) * losses.mae)
    runs = [fl.Run(rules.sgd(lr=0.01), seed=0, loss={"1.weight": w}) for w in (0.0, 0.1, 0.5)]
    ours = train(own, runs)
    for record, weight in zip(ours, (0.0, 0.1, 0.5), strict=True):
        fixed = regression(loss=0.7 * losses.mse + weight * losses.mae)
        alone = train(fixed, [fl.Run(rules.sgd(lr=0.01), seed=0)])[0]
        assert {k: w.tobytes() for k, w in record.weights.items()} == {
            k: w.tobytes() for k, w in alone.weights.items()
        }
        assert record.series == alone.series
    both = fl.Run(rules.sgd(lr=0.01), seed=0, loss={"0.weight": 0.0, "1.weight": 0.0})
    start = own.init(0).params
    assert all(np.array_equal(w, start[name].numpy()) for name, w in train(own, [both])[0].weights.items())


def test_a_schedule_is_each_runs_own():
    task, lr = classification(), schedules.joined
    plans = [
        0.1,
        schedules.cosine(0.1, 10),
        lr(schedules.constant(0.1), schedules.constant(0.0), lengths=(6,)),
        schedules.constant(0.1),
    ]
    fixed, _, stopped, constant = train(task, [fl.Run(rules.sgd(lr=p), seed=1) for p in plans])
    assert {k: w.tobytes() for k, w in fixed.weights.items()} == {
        k: w.tobytes() for k, w in constant.weights.items()
    }
    short = train(task, [fl.Run(rules.sgd(lr=0.1), seed=1)], steps=6)[0]
    assert {k: w.tobytes() for k, w in stopped.weights.items()} == {
        k: w.tobytes() for k, w in short.weights.items()
    }


def test_runs_with_one_seed_start_alike_and_see_the_same_examples():
    task = classification()
    kinds = [rules.sgd(lr=0.0), rules.adam(lr=0.0), rules.momentum(lr=0.0)]
    records = train(task, [fl.Run(rule, seed=s) for rule in kinds for s in (0, 1)])
    seen = [r.series["train_loss"].values.tolist() for r in records]
    assert seen[0] == seen[2] == seen[4]
    assert seen[1] == seen[3] == seen[5]
    assert seen[0] != seen[1]


def test_weight_decay_takes_its_share_of_each_step():
    """Where the gradient is zero, only the decay is left."""
    task = dataclasses.replace(failing(-1), loss=lambda p, b, batch, h: ((p["w"] * 0).sum(), b))
    runs = [fl.Run(rules.adamw(lr=0.1, weight_decay=d)) for d in (0.0, 0.5)]
    still, decayed = train(task, runs, steps=3)
    assert still.weights["w"].tolist() == [3.0, 1.0]
    np.testing.assert_allclose(decayed.weights["w"], np.array([3.0, 1.0]) * 0.95**3, rtol=1e-6)


def test_what_is_evaluated_is_the_average_and_what_is_kept_is_trained():
    """The running average of the weights, followed by hand along runs that stop after each step."""
    task, decay, inner = classification(dtype=torch.float64), 0.8, rules.sgd(lr=0.3)
    path = [train(task, [fl.Run(inner, seed=3)], steps=t)[0].weights for t in range(1, 9)]
    mean = {k: p.numpy() for k, p in task.init(3).params.items()}
    for weights in path:
        mean = {k: decay * m + (1 - decay) * weights[k] for k, m in mean.items()}
    record = train(task, [fl.Run(rules.average(inner, decay=decay), seed=3)], steps=8)[0]
    for name, w in record.weights.items():
        np.testing.assert_array_equal(w, path[-1][name])
    tensors = {k: torch.as_tensor(m) for k, m in mean.items()}
    told = task.score(tensors, {}, task.parts["test"], {})
    np.testing.assert_allclose(record.examples["test_loss"], told["loss"], rtol=1e-10)
    np.testing.assert_array_equal(record.examples["test_score"], told["score"])


# --- the record ---------------------------------------------------------------------------------------------


def test_records_come_in_the_order_asked_with_what_was_asked():
    mixed = [
        fl.Run(rule, seed=s, tags={"arm": rule.kind, "settings": {"seed": s}})
        for s in (3, 1)
        for rule in (rules.adam(), rules.sgd(), rules.adam(lr=0.02), rules.momentum())
    ]
    records = fleet.run(classification(), mixed, steps=5, **ONCE)
    assert [r.run for r in records] == mixed
    assert [r.arm for r in records] == [run.rule.kind for run in mixed]
    assert all(r.weights == {} for r in records)
    check_same(train(classification(), mixed[3:4], steps=5), [_kept(mixed, 3)])


def _kept(runs: list[fl.Run], i: int) -> Record:
    return train(classification(), runs, steps=5)[i]


def test_a_record_holds_series_and_test_outcomes():
    task = classification()
    record = train(task, [fl.Run(rules.sgd(lr=0.1))], steps=50)[0]
    assert set(record.series) == {
        "train_loss", "validation_loss", "validation_score", "gradient_norm", "update_ratio",
    }  # fmt: skip
    steps = fleet.evaluations(50)
    assert record.series["validation_loss"].steps.tolist() == list(steps)
    assert record.series["train_loss"].steps.tolist() == list(steps[1:])
    assert record.outcome.step == 50
    assert record.outcome.seconds > 0
    assert record.examples["test_loss"].shape == (task.size("test"),)
    assert record.outcome.numbers["test_score"] == pytest.approx(record.examples["test_score"].mean())
    assert record.outcome.numbers["validation_loss"] == record.series["validation_loss"].values[-1]


def test_the_mean_training_loss_and_the_measures_are_what_they_say():
    """On the bowl, where each can be written down."""
    record = train(failing(-1), [fl.Run(rules.sgd(lr=0.1), seed=0)], steps=12)[0]
    w = np.stack([shrunk(t) for t in range(13)])
    steps = fleet.evaluations(12)
    means = [(w[a:b] ** 2).sum(1).mean() for a, b in itertools.pairwise(steps)]
    np.testing.assert_allclose(record.series["train_loss"].values, means, rtol=1e-5)
    last = [b - 1 for b in steps[1:]]
    norms = np.linalg.norm(2 * w, axis=1)
    np.testing.assert_allclose(record.series["gradient_norm"].values, norms[last], rtol=1e-5)
    np.testing.assert_allclose(record.series["update_ratio"].values, 0.2, rtol=1e-5)
