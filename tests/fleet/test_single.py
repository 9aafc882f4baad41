"""One run at the speed of a plain loop is a fleet of one: the same weights, the same record."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fallline as fl
from fallline import fleet, layers, losses, rules, schedules
from fallline.errors import BadTask, BadValue
from fallline.fleet.single import Plan, Trained, train
from fallline.fleet.single.backward import Backward, LossOf
from fallline.fleet.single.pieces import Descent
from fallline.fleet.single.ranks import Ranks
from fallline.native.compiling import compiler
from fallline.records import Record
from fallline.specs import Rule, axis
from fallline.tasks import Task
from verbs.toys import bowl

from .cases import check_near, check_same, classification, loop, numbers, regression, table, weights
from .models import ALONE, BATCHED, between, task_of

STEPS = 50
CLIPPED = rules.chain(rules.clip_norm(0.1), rules.momentum(lr=0.1, beta=0.5))
NEVER_MOVED = {
    "attention": ["attend.in_proj_bias"],
    "batch norm": ["0.bias"],
    "convolution and batch norm": ["first.bias"],
}
"""Parameters, or some entries of them, whose exact gradient is zero: Adam makes steps of rounding errors there."""


def one(task: Task, rule: Rule, steps: int = STEPS, seed: int = 3, **plan: Any) -> Trained:
    return train(task, fl.Run(rule, seed), Plan(steps, 7, **{"keep": "last", "device": "cpu", **plan}))


def of_fleet(task: Task, rule: Rule, steps: int = STEPS, seed: int = 3) -> Record:
    return fleet.run(task, [fl.Run(rule, seed)], steps=steps, batch=7, weights=True, workers=0)[0]


def check_record(ours: Record, theirs: Record, without: list[str] | None = None) -> None:
    """Law (c): within 1e-10, for the weights and all that was measured."""
    check_near(ours.weights, theirs.weights, without=without or [])
    assert (ours.outcome.status, ours.outcome.step, ours.outcome.sentence) == (
        theirs.outcome.status, theirs.outcome.step, theirs.outcome.sentence,
    )  # fmt: skip
    assert set(ours.series) == set(theirs.series)
    for name, series in theirs.series.items():
        assert ours.series[name].steps.tolist() == series.steps.tolist(), name
        np.testing.assert_allclose(ours.series[name].values, series.values, 1e-10, 1e-10, err_msg=name)
    assert set(ours.outcome.numbers) == set(theirs.outcome.numbers)
    for name, number in theirs.outcome.numbers.items():
        assert ours.outcome.numbers[name] == pytest.approx(number, 1e-10, 1e-10), name
    assert set(ours.examples) == set(theirs.examples)
    for name, values in theirs.examples.items():
        np.testing.assert_allclose(ours.examples[name], values, 1e-9, 1e-10, err_msg=name)


@pytest.mark.parametrize("name", [*BATCHED, *ALONE])
def test_it_is_a_fleet_of_one(name: str):
    """Every kind of model; those with dropout draw the fleet's noise."""
    task = task_of(name)
    check_record(one(task, CLIPPED).record, of_fleet(task, CLIPPED))


@pytest.mark.parametrize("name", ["odd widths", "dropout", *NEVER_MOVED])
def test_adam_is_that_of_a_fleet(name: str):
    task, rule = task_of(name), rules.adam(lr=0.01)
    ours, theirs = one(task, rule).record, of_fleet(task, rule)
    check_near(ours.weights, theirs.weights, without=NEVER_MOVED.get(name, []))


@pytest.mark.parametrize(
    "rule",
    [
        rules.sgd(lr=schedules.cosine(0.3, STEPS)),
        rules.adamw(lr=schedules.inverse_time(0.05), weight_decay=0.1),
        rules.average(rules.nesterov(lr=0.05), decay=0.9),
        rules.route({"*.bias": rules.sgd(lr=0.2), "*": rules.rmsprop(lr=0.01)}),
    ],
    ids=lambda rule: rule.kind,
)
def test_rules_with_schedules_averages_and_parts(rule: Rule):
    task = classification(dtype=torch.float64)
    ours, theirs = one(task, rule).record, of_fleet(task, rule)
    averaged = list(theirs.weights) if rule.kind == "average" else []  # what is kept is what was judged
    check_record(ours, theirs, averaged)


def test_what_is_kept_of_an_average_is_the_average():
    task, rule = classification(dtype=torch.float64), rules.average(rules.sgd(lr=0.1), decay=0.0)
    check_near(one(task, rule).record.weights, of_fleet(task, rules.sgd(lr=0.1)).weights)
    still = rules.average(rules.sgd(lr=0.1), decay=1 - 1e-16)
    check_near(one(task, still).record.weights, {k: p.numpy() for k, p in task.init(3).params.items()})


def test_it_is_a_plain_loop():
    task, run = classification(dtype=torch.float64), fl.Run(rules.adam(lr=0.01, eps=1e-8), 3)
    module = loop(
        task, lambda: layers.mlp(6, 5, 3, activation="tanh"), F.cross_entropy, run, STEPS, 7,
        lambda named: torch.optim.Adam([p for _, p in named], lr=0.01),
    )  # fmt: skip
    check_near(one(task, run.rule).record.weights, weights(module))


def test_a_function_is_trained_too():
    task = bowl(curvature=2.0)
    check_record(one(task, rules.sgd(lr=0.1)).record, of_fleet(task, rules.sgd(lr=0.1)))


def test_a_measure_of_a_whole_part_is_judged_on_the_whole_part(monkeypatch: pytest.MonkeyPatch):
    """In pieces where it is a mean over examples, at once where it is not: as a fleet does."""
    monkeypatch.setattr("fallline.fleet.single.examples.JUDGED", 12)  # two examples of six numbers
    check_record(one(task := classification(dtype=torch.float64), CLIPPED).record, of_fleet(task, CLIPPED))
    whole = classification(dtype=torch.float64, score=lambda p, y: (p.argmax(1) == y).double().std())
    check_record(one(whole, CLIPPED).record, of_fleet(whole, CLIPPED))


def test_a_stream_is_seen_once_in_order():
    task = regression(dtype=torch.float64)
    columns = task.parts["train"]

    def stream():  # type: ignore[no-untyped-def]
        for i in range(0, 40, 4):
            rows = torch.arange(i, i + 4) % task.size("train")
            yield {name: column[rows] for name, column in columns.items()}

    streamed = replace(task, stream=stream)
    ours = one(streamed, rules.sgd(lr=0.1), steps=5).record
    start = task.init(3)
    w = {k: p.clone().requires_grad_() for k, p in start.params.items()}
    for t in range(5):
        rows = torch.arange(7 * t, 7 * t + 7) % task.size("train")
        value, _ = task.loss(w, start.buffers, {k: c[rows] for k, c in columns.items()}, task.first_numbers())
        gradient = torch.autograd.grad(value, list(w.values()))
        w = {
            k: (p - 0.1 * g).detach().requires_grad_() for (k, p), g in zip(w.items(), gradient, strict=True)
        }
    check_near(ours.weights, {k: p.detach().numpy() for k, p in w.items()})
    with pytest.raises(BadTask, match="ended before the training did: it is seen once"):
        one(streamed, rules.sgd(lr=0.1), steps=6)


# --- the rule in pieces -----------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [1, 3, 7, 10_000])
@pytest.mark.parametrize(
    "rule",
    [rules.adam(lr=0.1), rules.adamw(lr=0.1), rules.average(rules.momentum(lr=0.1), decay=0.5)],
    ids=lambda r: r.kind,
)
def test_pieces_give_what_the_whole_tree_gives(rule: Rule, largest: int):
    shapes = {"w": (4, 3), "b": (3,), "one": (), "v": (2, 2, 2), "half": (5,)}
    start = {
        k: torch.from_numpy(numbers(i, *s) if s else np.array(0.5)) for i, (k, s) in enumerate(shapes.items())
    }
    start["half"] = start["half"].float()
    params = {k: p.clone() for k, p in start.items()}
    h = dict(rules.numbers(rule))
    descent, state, whole = Descent(rule, params, h, largest), rules.init(rule, start, h), start
    for t in range(5):
        gradient = {k: torch.sin(p + t) for k, p in whole.items()}
        direction, state, _ = rules.update(rule, gradient, state, whole, h)
        size = math.sqrt(sum(float((d**2).sum()) for d in direction.values()))
        before = math.sqrt(sum(float((p**2).sum()) for p in whole.values()))
        ratio = descent.step({k: torch.sin(p + t) for k, p in params.items()}, h, measure=True)
        assert ratio is not None
        assert float(ratio) == pytest.approx(size / before, rel=1e-6)
        whole = {k: p + direction[k] for k, p in whole.items()}
    assert len(descent.parts) > 1 or largest > 100
    for found, wanted in ((params, whole), (descent.seen(), rules.view(rule, whole, state))):
        for k in wanted:
            assert found[k].shape == wanted[k].shape
            torch.testing.assert_close(found[k], wanted[k])


def test_rules_over_the_whole_tree_are_not_cut():
    params = {"a": torch.ones(5), "b": torch.ones(4)}
    assert len(Descent(CLIPPED, params, rules.numbers(CLIPPED), 2).parts) == 1


ROUTED = fl.route({"b": rules.sgd(lr=0.1)}, otherwise=rules.adam(lr=0.1))


@pytest.mark.parametrize("rule", [rules.adam(lr=0.1), CLIPPED, ROUTED], ids=["elementwise", "norm", "route"])
def test_large_models_are_stepped_in_one_pass(rule: Rule, monkeypatch: pytest.MonkeyPatch):
    """But for the steps that are measured; a gradient that lies in another order is the same gradient."""
    monkeypatch.setattr("fallline.fleet.single.pieces.PIECE", 10)
    start = {"w": torch.from_numpy(numbers(0, 4, 3)), "b": torch.from_numpy(numbers(1, 3))}
    params, h = {k: p.clone() for k, p in start.items()}, dict(rules.numbers(rule))
    descent, state, whole = Descent(rule, params, h), rules.init(rule, start, h), start
    taken: list[bool] = []
    one_pass = descent._in_one_pass
    monkeypatch.setattr(descent, "_in_one_pass", lambda *given: taken.append(one_pass(*given)) or taken[-1])
    for t in range(6):
        gradient = {k: torch.sin(p + t) for k, p in whole.items()}
        direction, state, _ = rules.update(rule, gradient, state, whole, h)
        gradient["w"] = gradient["w"].t().contiguous().t()
        ratio = descent.step(gradient, h, measure=t == 3)
        assert (ratio is None) == (t != 3)
        whole = {k: p + direction[k] for k, p in whole.items()}
    assert taken == [True] * 5 if compiler() else not taken
    for k, p in whole.items():
        torch.testing.assert_close(params[k], p)
        assert params[k].grad is None


@pytest.mark.parametrize("rule", [rules.adam(lr=0.1), CLIPPED], ids=["elementwise", "norm"])
def test_a_state_is_saved_by_name_however_the_parameters_are_cut(rule: Rule, monkeypatch: pytest.MonkeyPatch):
    start = {
        "w": torch.from_numpy(numbers(0, 4, 3)),
        "b": torch.from_numpy(numbers(1, 3)),
        "one": torch.ones(()),
    }
    h, ends = dict(rules.numbers(rule)), []
    gradient = {k: torch.cos(p) for k, p in start.items()}

    def descents(largest: int | None) -> Descent:
        return Descent(rule, {k: p.clone() for k, p in start.items()}, h, largest)

    monkeypatch.setattr("fallline.fleet.single.pieces.PIECE", 5)
    for first, second in itertools.product((1, 5, 100, None), repeat=2):
        before, after = descents(first), descents(second)
        before.step(gradient, h)
        after.load(before.tensors())
        after.step(gradient, h)
        ends.append(after.params)
    for end in ends[1:]:
        for k, p in end.items():
            torch.testing.assert_close(p, ends[0][k])


# --- what is kept, and when it ends -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "name", "best"), [("best", "validation_score", max), ("loss", "validation_loss", min)]
)
def test_the_best_weights_are_kept(keep: str, name: str, best: Callable[..., float]):
    task, rule = classification(), rules.adam(lr=0.05)
    found = one(task, rule, steps=120, keep=keep)
    series = found.record.series[name]
    assert getattr(found.kept, name.split("_")[1]) == best(series.values) == found.numbers[name]
    assert found.kept.step in series.steps[series.values == best(series.values)]
    again = one(task, rule, steps=found.kept.step).record.weights if found.kept.step else task.init(3).params
    for k, w in again.items():
        np.testing.assert_array_equal(found.record.weights[k], np.asarray(w))


def test_the_last_weights_are_kept_where_that_is_asked_for():
    assert one(classification(), rules.adam(lr=0.05), steps=60).kept.step == 60
    with pytest.raises(BadValue, match="keep must be best, loss or last, got 'first'"):
        one(classification(), rules.sgd(lr=0.1), keep="first")


def test_patience_ends_a_training_that_no_longer_improves():
    task = classification()
    free, held = (one(task, rules.sgd(lr=0.0), steps=60, patience=p, keep="best") for p in (None, 4))
    assert (free.stopped, free.record.outcome.step) == ("finished", 60)
    fifth = int(free.record.series["validation_loss"].steps[4])
    assert (held.stopped, held.record.outcome.status, held.record.outcome.step) == (
        "patience",
        "stopped",
        fifth,
    )
    assert held.record.outcome.sentence == f"stopped at step {fifth}: 4 evaluations without an improvement"
    assert held.kept.step == 0


@pytest.mark.parametrize("lr", [3.0, 30.0, 1e30])
def test_a_training_that_diverges_ends_as_in_a_fleet_and_keeps_the_best(lr: float):
    task = bowl(curvature=1.0)
    ours, theirs = (
        one(task, rules.sgd(lr=lr), steps=1000, keep="best"),
        of_fleet(task, rules.sgd(lr=lr), 1000),
    )
    assert theirs.outcome.diverged
    assert ours.stopped == "diverged"
    assert (ours.record.outcome.step, ours.record.outcome.sentence) == (
        theirs.outcome.step,
        theirs.outcome.sentence,
    )
    assert {k: s.steps.tolist() for k, s in ours.record.series.items()} == {
        k: s.steps.tolist() for k, s in theirs.series.items()
    }
    assert ours.kept.step == 0
    assert math.isfinite(ours.numbers["test_loss"])


# --- in parts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [2, 3, 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_of_a_batch_add_up_to_the_batch(accumulate: int, weighted: bool):
    task = classification(dtype=torch.float64)
    if weighted:  # zeros too: a part may have no weight at all
        weight = torch.from_numpy(np.random.default_rng(0).integers(0, 3, task.size("train")).astype(float))
        task = replace(
            task, parts={**task.parts, "train": {**task.parts["train"], "weight": weight + 1e-300}}
        )
    whole, parts = (one(task, rules.momentum(lr=0.1), accumulate=k).record for k in (1, accumulate))
    check_near(parts.weights, whole.weights, 1e-12)
    np.testing.assert_allclose(parts.series["train_loss"].values, whole.series["train_loss"].values, 1e-12)


def test_what_cannot_be_taken_in_parts_is_refused():
    gap = losses.define(needs=("prediction", "target"), scope="batch")(_gap)
    task = classification(loss=losses.cross_entropy + 0.1 * gap)
    with pytest.raises(BadTask, match="is one number for a whole batch, not a mean over its examples"):
        one(task, rules.sgd(lr=0.1), accumulate=2)
    with pytest.raises(
        BadValue, match="accumulate=8 takes a batch in 8 parts, but it has 7 examples: ask for a larger batch"
    ):
        one(classification(), rules.sgd(lr=0.1), accumulate=8)
    with pytest.raises(BadTask, match="takes a batch in parts, and bowl has no data to take apart"):
        one(bowl(), rules.sgd(lr=0.1), accumulate=2)


def _gap(given: Any, h: Any) -> Tensor:
    return given.prediction.mean() ** 2


def test_a_loss_with_an_axis_is_refused():
    task = classification(loss=axis(0.1, 1.0) * losses.cross_entropy)
    with pytest.raises(
        BadValue, match="must be one number where one model is trained: write the number into"
    ):
        one(task, rules.sgd(lr=0.1))


# --- precision and place ----------------------------------------------------------------------------------


def test_bf16_computes_in_bf16_and_keeps_weights_and_losses_in_float32():
    task = classification()
    full, low = (one(task, rules.sgd(lr=0.1), precision=p) for p in ("full", "bf16"))
    assert all(w.dtype == np.float32 for w in low.record.weights.values())
    first, second = (r.record.series["validation_loss"].values for r in (full, low))
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(first, second, rtol=0.02)
    assert not np.array_equal(second, torch.from_numpy(second).bfloat16().double().numpy())


def test_precisions_that_cannot_be_had_are_refused():
    with pytest.raises(
        BadValue, match="precision='fp16' needs a GPU, and this training is on cpu: take bf16"
    ):
        one(classification(), rules.sgd(lr=0.1), precision="fp16")
    with pytest.raises(BadValue, match="precision must be full, bf16 or fp16, got 'half'"):
        one(classification(), rules.sgd(lr=0.1), precision="half")
    with pytest.raises(
        BadValue, match=r"precision='bf16' needs a task in float32: its parameters are torch\.float64"
    ):
        one(classification(dtype=torch.float64), rules.sgd(lr=0.1), precision="bf16")
    with pytest.raises(BadValue, match=r"device='gpu' cannot be used here \(.*\): leave it out, or take cpu"):
        one(classification(), rules.sgd(lr=0.1), device="gpu")


def scaled(factor: float) -> tuple[Tensor, Any]:
    """A gradient by a loss that was scaled up by 65536, as in fp16, and w by which the loss is multiplied."""
    task = bowl(curvature=factor)
    start = task.init(0)
    module = LossOf(task, start.params, start.buffers, {}, torch.tensor(0))
    backward = Backward(module, Ranks(0, 1, torch.device("cpu")), 1, "full")
    backward.scaler = torch.amp.GradScaler("cpu")
    return start.params["w"], backward({}, 0)[1]


def test_a_scaled_loss_gives_the_gradient_scaled_back_and_none_where_it_overflowed():
    w, gradient = scaled(2.0)
    torch.testing.assert_close(gradient["w"], 2.0 * w)
    assert scaled(1e36)[1] is None


# --- frozen parameters ------------------------------------------------------------------------------------


class Watched(nn.Module):
    """A frozen layer before a trained one; it tells whether the frozen one was to be differentiated."""

    asked: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.base, self.head = nn.Linear(6, 5), nn.Linear(5, 3)
        self.base.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        z = self.base(x)
        Watched.asked |= z.requires_grad or self.base.weight.requires_grad
        return self.head(torch.tanh(z))


def test_frozen_parameters_are_never_differentiated():
    task = fl.Task.supervised(Watched, table(), loss=losses.cross_entropy, dtype=torch.float64)
    Watched.asked = False
    found = one(task, rules.adam(lr=0.01))
    assert not Watched.asked
    assert set(found.record.weights) == {"head.weight", "head.bias"}


def test_noise_of_parts_is_their_own():
    """Part 0 draws what the whole batch would, the others something else."""
    task = classification(between(lambda: nn.Dropout(0.5)), dtype=torch.float64)
    once, twice, again = (one(task, rules.sgd(lr=0.1), steps=5, accumulate=k).record for k in (1, 2, 2))
    check_same([twice], [again])
    assert not np.allclose(once.weights["0.weight"], twice.weights["0.weight"])
