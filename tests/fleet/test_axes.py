"""What may differ from run to run beside the rule's numbers: widths, dropout, batch size, what is seen of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fallline as fl
from fallline import fleet, layers, losses, rules
from fallline.errors import BadTask, BadValue, NotFound
from fallline.fleet import widths
from fallline.fleet.members import Cast
from fallline.tasks import Task
from fallline.tasks.sampling import sample

from .cases import check_near, check_same, classification, loop, parts, table, train, weights


def of_width(width: int = 5) -> nn.Module:
    return layers.mlp(6, width, width, 3, activation="tanh")


def normalized(width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), nn.LayerNorm(width), nn.Tanh(), nn.Linear(width, 3))


def filters(width: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, width, 2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 2), nn.Flatten(), nn.Linear(2 * width * 6, 3),
    )  # fmt: skip


def dropping(dropout: float = 0.5) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(dropout), nn.Linear(8, 3), nn.Dropout(dropout / 2))


def run_of(width: int, seed: int = 0, **given: Any) -> fl.Run:
    return fl.Run(rules.adam(lr=0.01), seed=seed, model={"width": width}, **given)


# --- widths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [of_width, filters], ids=["mlp", "convolutions"])
@pytest.mark.parametrize(
    "rule",
    [
        rules.adam(lr=0.01), fl.chain(fl.clip_norm(0.5), rules.momentum(lr=0.1)), rules.lamb(lr=0.01),
        rules.adafactor(lr=0.1), fl.chain(rules.centralize(), rules.sgd(lr=0.1)),
    ],
    ids=lambda rule: rule.kind,
)  # fmt: skip
def test_a_run_in_a_wider_program_is_the_run_of_its_own_width(make: Any, rule: Any):
    """Against a plain loop over the narrow module, in float64."""
    task = classification(make, dtype=torch.float64)
    runs = [fl.Run(rule, seed=i, model={"width": width}) for i, width in enumerate((2, 3, 4, 7, 16))]
    for run, record in zip(runs, train(task, runs, steps=20), strict=True):
        width = run.model["width"]
        narrow = classification(lambda w=width: make(w), dtype=torch.float64)
        plain = loop(narrow, lambda w=width: make(w), nn.functional.cross_entropy, run, 20, 7)
        check_near(record.weights, weights(plain), without=["1.bias"] if make is filters else [])


def test_runs_of_many_widths_share_programs_and_are_bit_equal_in_any_fleet():
    task = classification(of_width)
    runs = [run_of(width, seed) for seed in range(3) for width in (2, 5, 17, 16, 9, 33)]
    whole = train(task, runs)
    for some in (runs[::-1], runs[3:4], runs[4:5], runs[1::3]):  # 16 fills its program where it is alone
        check_same(train(task, some), [whole[runs.index(run)] for run in some])
    cast = Cast(task)
    assert {cast.kind(run, 7).options for run in runs} == {
        (("width", 4),),
        (("width", 16),),
        (("width", 64),),
    }


def test_where_padding_would_change_a_model_each_width_has_its_own_program():
    cast = Cast(classification(normalized))
    assert [dict(cast.kind(run_of(width), 7).options) for width in (3, 5)] == [{"width": 3}, {"width": 5}]
    task = classification(normalized, dtype=torch.float64)
    run = run_of(3)
    (record,) = train(task, [run])
    plain = loop(
        classification(lambda: normalized(3), dtype=torch.float64), lambda: normalized(3),
        nn.functional.cross_entropy, run, 12, 7,
    )  # fmt: skip
    check_near(record.weights, weights(plain))


class Gated(nn.Module):
    """What is normalized over the width comes in through a gate that begins at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm, self.out = nn.Linear(6, width), nn.LayerNorm(width), nn.Linear(width, 3)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.first(x)
        return self.out(z + self.gate * self.norm(z))


def quiet(width: int = 5) -> nn.Module:
    """Dropout that drops nothing out, unless a run says so; its noise is drawn by place."""
    return nn.Sequential(nn.Linear(6, width), nn.Dropout(0.0), nn.Linear(width, 3))


@pytest.mark.parametrize("make", [lambda width=5: Gated(width), quiet], ids=["gated", "quiet dropout"])
def test_the_trial_sees_what_only_shows_later(make: Any):
    assert dict(Cast(classification(make)).kind(run_of(6), 7).options) == {"width": 6}


def test_an_option_that_is_no_width_shapes_a_program_of_its_own():
    def deep(depth: int = 1, bias: bool = True) -> nn.Module:
        return nn.Sequential(*(nn.Linear(6, 6, bias=bias) for _ in range(depth)), nn.Linear(6, 3))

    task = classification(deep)
    runs = [
        fl.Run(rules.sgd(lr=0.1), model={"depth": depth, "bias": bias})
        for depth in (1, 3)
        for bias in (True, False)
    ]
    records = train(task, runs)
    assert [len(record.weights) for record in records] == [4, 3, 8, 5]
    check_same(train(task, runs[2:]), records[2:])


@given(st.integers(1, 3000))
@settings(deadline=None)
def test_buckets_hold_their_widths_and_are_buckets_of_themselves(width: int):
    assert widths.bucket(width) >= width
    assert widths.bucket(widths.bucket(width)) == widths.bucket(width)


def test_an_unknown_option_is_told_with_the_nearest():
    with pytest.raises(NotFound, match=r"has no option or number .widht.; did you mean .width.\?$"):
        train(classification(of_width), [fl.Run(rules.sgd(lr=0.1), model={"widht": 4})])
    with pytest.raises(NotFound, match="its factory takes no arguments, and it has no dropout"):
        train(classification(), [fl.Run(rules.sgd(lr=0.1), model={"width": 4})])


# --- dropout ------------------------------------------------------------------------------------------------


def test_dropout_rates_differ_in_one_program_and_are_those_of_the_modules():
    runs = [fl.Run(rules.adam(lr=0.01), seed=i, model={"1.p": 0.3, "3.p": 0.15}) for i in range(3)]
    task = classification(lambda: dropping())
    ours = train(task, runs, steps=15)
    fixed = classification(lambda: dropping(0.3))
    theirs = train(fixed, [fl.Run(run.rule, seed=run.seed) for run in runs], steps=15)
    for one, other in zip(ours, theirs, strict=True):
        check_near(one.weights, other.weights, 1e-4)
    mixed = [fl.Run(rules.adam(lr=0.01), seed=0, model={"dropout": p}) for p in (0.0, 0.3, 0.9, 1.0)]
    records = train(task, mixed, steps=15)
    check_same(train(task, mixed[2:3], steps=15), records[2:3])
    assert len({record.weights["0.weight"].tobytes() for record in records}) == 4


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_rate_outside_of_its_range_is_refused(rate: float):
    with pytest.raises(BadValue, match="is a probability, from 0 to 1, got"):
        train(classification(dropping), [fl.Run(rules.sgd(lr=0.1), model={"dropout": rate})])


# --- batch size ---------------------------------------------------------------------------------------------


def test_batch_sizes_differ_by_groups():
    task = classification()
    runs = [fl.Run(rules.adam(lr=0.01), seed=i, batch=batch) for i in range(2) for batch in (1, 5, 30, 1000)]
    records = train(task, runs, batch=9)
    for run, record in zip(runs, records, strict=True):
        alone = fl.Run(run.rule, seed=run.seed)
        check_near(record.weights, train(task, [alone], batch=run.batch)[0].weights, 1e-12)
    assert len(fleet.run(task, runs, steps=3, workers=2)) == 8


@pytest.mark.parametrize("batch", [0, 2.5, True])
def test_a_batch_that_is_no_number_of_examples_is_refused(batch: Any):
    with pytest.raises(BadValue, match="batch must be a whole number of at least 1"):
        fl.Run(rules.sgd(lr=0.1), batch=batch)


# --- data ---------------------------------------------------------------------------------------------------


def seen_alone(task: Task, data: Mapping[str, float], **options: Any) -> Task:
    """A task whose training part is what such a run sees."""
    chosen, train_part = sample(task, data), task.parts["train"]
    columns = {name: chosen.columns.get(name, column)[chosen.train] for name, column in train_part.items()}
    validation = task.parts["validation"]
    if chosen.validation is not None:
        validation = {name: column[chosen.validation] for name, column in train_part.items()}
    given = {"train": columns, "validation": validation, "test": task.parts["test"]}
    pairs = {part: (c["inputs"].numpy(), c["target"].numpy()) for part, c in given.items()}
    return classification(**{**options, **{}}) if not pairs else fl.Task.supervised(
        lambda: layers.mlp(6, 5, 3, activation="tanh"), pairs["train"], pairs["validation"], pairs["test"],
        loss=losses.cross_entropy, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        {"label_noise": 0.3},
        {"subset": 11},
        {"resample": 4},
        {"fold": 1, "folds": 3},
        {"fold": 0, "label_noise": 0.5},
    ],
    ids=repr,
)
def test_a_run_that_sees_some_of_the_data_is_the_run_of_a_task_with_that_data(data: dict[str, float]):
    task = classification(dtype=torch.float64)
    run = fl.Run(rules.adam(lr=0.01), seed=3, data=data)
    others = [fl.Run(rules.adam(lr=0.1), seed=i, data={**data, "draw": 1}) for i in range(3)]
    record = train(task, [run, *others])[0]
    alone = train(seen_alone(task, data, dtype=torch.float64), [fl.Run(run.rule, seed=3)])[0]
    check_near(record.weights, alone.weights)
    for name, series in record.series.items():
        np.testing.assert_allclose(series.values, alone.series[name].values, rtol=1e-9)
    check_same(train(task, [run]), [record])


def test_runs_with_all_of_the_data_and_with_some_train_in_one_fleet():
    task = classification()
    asked: list[dict[str, float]] = [
        {},
        {"label_noise": 0.2},
        {"subset": 9},
        {"subset": 9, "draw": 1},
        {"fold": 2},
    ]
    runs = [fl.Run(rules.sgd(lr=0.1), seed=i, data=data) for data in asked for i in range(2)]
    whole = train(task, runs)
    check_same(train(task, runs[::-1]), whole[::-1])
    check_same(train(task, runs, workers=2), whole)


# --- streams ------------------------------------------------------------------------------------------------


def streamed(examples: int = 200, piece: int = 3, **options: Any) -> tuple[Task, Any, Any]:
    X = np.random.default_rng(4).normal(size=(examples, 6))
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)

    def stream() -> Any:
        for i in range(0, examples, piece):
            yield torch.from_numpy(X[i : i + piece]), torch.from_numpy(y[i : i + piece])

    held = parts(*table())
    task = fl.Task.supervised(
        lambda: layers.mlp(6, 5, 3, activation="tanh"), stream, held["validation"], held["test"],
        loss=losses.cross_entropy, dtype=torch.float64, **options,
    )  # fmt: skip
    return task, X, y


@pytest.mark.parametrize("piece", [1, 3, 50])
def test_a_stream_is_seen_once_in_its_order_by_all_runs(piece: int):
    task, X, y = streamed(piece=piece)
    runs = [fl.Run(rules.adam(lr=0.01), seed=seed) for seed in range(3)]
    records = train(task, runs, steps=20, batch=9)
    module = layers.mlp(6, 5, 3, activation="tanh").double()
    module.load_state_dict(task.init(1).params)
    shell = fl.optim.Optimizer(list(module.parameters()), runs[1].rule)
    for t in range(20):
        rows = slice(9 * t, 9 * t + 9)
        shell.zero_grad()
        nn.functional.cross_entropy(module(torch.from_numpy(X[rows])), torch.from_numpy(y[rows])).backward()
        shell.step()
    check_near(records[1].weights, weights(module))
    check_same(train(task, runs[1:2], steps=20, batch=9), records[1:2])


def test_a_stream_that_ends_before_the_training_is_told():
    task, *_ = streamed(40)
    with pytest.raises(BadTask, match="ended before the training did: it is seen once, so ask for"):
        train(task, [fl.Run(rules.sgd(lr=0.1))], steps=20, batch=9)
