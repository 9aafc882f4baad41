"""Builders in fleets: runs trained together are those that are trained by themselves."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fallline as fl
from fallline import layers, losses, rules
from fleet.cases import EXAMPLES, check_near, check_same, loop, numbers, table, train, weights

random = np.random.default_rng(8)


def pictures(channels: int, size: int) -> tuple[Any, Any]:
    return numbers(1, EXAMPLES, channels, size, size), random.integers(0, 3, EXAMPLES)


Model = Callable[[], nn.Module]
MODELS: dict[str, tuple[Model, Any]] = {
    "linear": (lambda: layers.linear(6, 3, init="glorot"), table()),
    "mlp": (lambda: layers.mlp(6, 5, 3, norm="batch", activation="silu", init="own"), table()),
    "mlp with layer norm": (lambda: layers.mlp(6, 5, 3, norm="layer", init="orthogonal"), table()),
    "cnn": (lambda: layers.cnn(1, 3, outputs=3, size=4, norm="layer", init="he"), pictures(1, 4)),
    "lstm": (lambda: layers.lstm(2, 3, outputs=3), table()),
    "resnet": (lambda: layers.resnet(8, width=2, outputs=3, channels=1), pictures(1, 4)),
    "resnet without norm": (
        lambda: layers.init.zero_residual(layers.resnet(8, width=2, outputs=3, channels=1, norm="none")),
        pictures(1, 4),
    ),
    "large resnet": (lambda: layers.resnet(18, width=2, outputs=3, channels=1), pictures(1, 33)),
    "reflections": (
        lambda: nn.Sequential(
            layers.GroupConv2d(1, 2, group="left_right", lift=True),
            nn.ReLU(),
            layers.GroupConv2d(2, 2, group="left_right"),
            layers.GroupPool2d("left_right"),
            layers.GlobalPool2d("max"),
            nn.Linear(2, 3),
        ),
        pictures(1, 4),
    ),
    "averaged": (lambda: layers.Invariant(layers.mlp(16, 5, 3), "p4"), pictures(1, 4)),
    "local": (
        lambda: nn.Sequential(
            layers.LocallyConnected2d(1, 2, 3, height=4, width=4), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)
        ),
        pictures(1, 4),
    ),
    "set": (lambda: nn.Sequential(nn.Unflatten(1, (3, 2)), layers.deep_sets(2, 4, outputs=3)), table()),
    "bounded": (
        lambda: nn.Sequential(
            layers.LipschitzLinear(6, 5, 2.0), nn.ReLU(), layers.LipschitzLinear(5, 3, 2.0)
        ),
        table(),
    ),
    "mass": (
        lambda: nn.Sequential(layers.MassConservingLinear(6, 5), layers.MassConserving(nn.Linear(5, 3))),
        table(),
    ),
    "causal": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (2, 3)), layers.CausalConv1d(2, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)
        ),
        table(),
    ),
    "attention": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (3, 2)), layers.Residual(layers.Attention(2)), layers.SetPool(), nn.Linear(2, 3)
        ),
        table(),
    ),
    "vgg19": (lambda: layers.vgg19(width=1 / 256, outputs=3, channels=1), pictures(1, 32)),
}
SLOW = ("large resnet", "vgg19")
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MODELS]


def task_of(name: str) -> fl.Task:
    make, data = MODELS[name]
    return fl.Task.supervised(make, data, loss=losses.cross_entropy, dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_gives_the_same_bits_in_any_fleet(name: str):
    task = task_of(name)
    runs = [fl.Run(rules.adam(lr=0.002 * (1 + i)), seed=i) for i in range(2)]
    whole = train(task, runs, steps=3)
    assert all(record.outcome.status == "finished" for record in whole)
    for i, run in enumerate(runs):
        check_same(train(task, [run], steps=3), [whole[i]], name)


@pytest.mark.parametrize("name", [p for p in NAMES if "vgg19" not in p.values])
def test_a_run_trains_as_in_a_plain_loop(name: str):
    """But for vgg19, whose dropout is of the fleet."""
    task, run = task_of(name), fl.Run(rules.momentum(lr=0.001), seed=4)
    record = train(task, [run, fl.Run(rules.momentum(lr=0.002), seed=5)], steps=20)[0]
    module = loop(task, MODELS[name][0], F.cross_entropy, run, steps=20, batch=7)
    check_near(record.weights, weights(module), without=without_a_gradient(module))


def without_a_gradient(module: nn.Module) -> list[str]:
    """Biases before a batch norm, which takes them away: what training gives them is rounding."""
    chain = list(module.named_children())
    return [f"{name}.bias" for (name, _), (_, after) in pairwise(chain) if isinstance(after, nn.BatchNorm1d)]


def test_initial_weights_are_an_option_of_a_run():
    task = fl.Task.supervised(
        lambda init="default": layers.mlp(6, 5, 3, init=init), table(), loss=losses.cross_entropy
    )
    runs = [fl.Run(rules.sgd(lr=0.0), seed=0, model={"init": name}) for name in ("he", "glorot", "he")]
    he, glorot, same = (record.weights["1.weight"] for record in train(task, runs, steps=1))
    assert np.array_equal(he, same)
    assert not np.array_equal(he, glorot)
