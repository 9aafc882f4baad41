"""Runs that cannot be trained are refused before a step is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

import fallline as fl
from fallline.errors import BadRule, BadTask, BadValue
from fallline.tasks import Task

SGD = fl.rules.sgd(lr=0.1)


@pytest.fixture(scope="module")
def task() -> Task:
    """A line, with a weight in its loss that may differ from run to run."""
    X = np.random.default_rng(0).normal(size=(40, 2))
    loss = fl.losses.mse + fl.axis(0.1, 1) * fl.losses.mae
    return fl.Task.supervised(lambda: nn.Linear(2, 1), (X, X[:, :1]), loss=loss, name="line")


@pytest.mark.parametrize(
    ("runs", "options", "error", "told"),
    [
        ([], {}, BadValue, "^runs is empty: a fleet needs a list of at least one fl.Run$"),
        (fl.Run(SGD), {}, BadValue, "^runs is a Run: a fleet needs a list of at least one fl.Run$"),
        ([fl.Run(SGD)], {"prune": "halving"}, BadValue, r"^prune must be a policy such as fl.fleet.halving\(eta=3, first=100\), got 'halving'$"),
        ([fl.Run(SGD)], {"prune": fl.fleet.halving}, BadValue, r"^prune must be a policy such as"),
        ([SGD], {}, BadValue, r"^runs must be made by fl.Run\(rule=…, seed=…\), got sgd\(lr=0.1\)$"),
        (
            [fl.Run(SGD)],
            {},
            BadValue,
            r"^the loss number 1.weight=axis\(0.1, 1\) must be given a value in each run: Run\(loss=\{'1.weight': …\}\)$",
        ),
        ([fl.Run(SGD, loss={"1.wait": 1.0})], {}, BadValue, r"^the loss of line has no number \['1.wait'\]; it has \['1.weight'\]$"),
        ([fl.Run(SGD, loss={"1.weight": "1"})], {}, BadValue, "^the loss number 1.weight of a run must be a finite number, got '1'$"),
        ([fl.Run(fl.rules.clip_norm(1.0), loss={"1.weight": 1.0})], {}, BadRule, "gives a direction uphill, not a step"),
        ([fl.Run(SGD)], {"steps": 0}, BadValue, "^steps must be a whole number of at least 1, got 0$"),
        ([fl.Run(SGD)], {"batch": 0.5}, BadValue, "^batch must be a whole number of at least 1, got 0.5$"),
        ([fl.Run(SGD)], {"workers": -1}, BadValue, "^workers must be a whole number, 0 to train in this process, got -1$"),
        ([fl.Run(SGD)], {"executor": "eager"}, BadValue, "^executor must be auto, traced, compiled or alone, or graphed on a GPU, got 'eager'$"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(
    task: Task, runs: Any, options: dict[str, Any], error: type[Exception], told: str
):
    with pytest.raises(error, match=told):
        fl.fleet.run(task, runs, **{"steps": 2, **options})


def test_what_is_not_a_task_is_refused():
    with pytest.raises(
        BadTask, match=r"^task must be a fallline task such as fl.tasks.digits\(\), got a str$"
    ):
        fl.fleet.run("digits", [fl.Run(SGD)], steps=1)  # type: ignore[arg-type]
