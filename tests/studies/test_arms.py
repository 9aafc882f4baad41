"""Arms: what tells them apart in a table, and what they try."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fallline as fl
from fallline.errors import BadValue, NotFound
from fallline.specs import Rule
from fallline.studies.arms import Arm, arms, rule_of
from fallline.tasks import Metric, Task, Variables


def task(name: str) -> Task:
    def nothing(params, buffers, batch, h):  # type: ignore[no-untyped-def]
        return params["w"].sum(), buffers

    def score(params, buffers, batch, h):  # type: ignore[no-untyped-def]
        return {"loss": params["w"].sum(), "score": params["w"].sum()}

    return Task(name, lambda seed: Variables({"w": torch.zeros(1)}, {}), nothing, score, {}, Metric("x"))


def labels(*given: Any, tasks: tuple[str, ...] = ("one",)) -> list[str]:
    return [arm.label for arm in arms([task(name) for name in tasks], given, 3)]


def test_a_rule_is_called_by_its_kind_where_that_is_enough():
    assert labels("sgd", "adam(lr=0.1)", fl.rules.momentum) == ["sgd", "adam", "momentum"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["sgd", "sgd(lr=0.1)"], ["sgd", "sgd(lr=0.1)"]),
        (["adam(lr=0.001, beta1=0.5)", "adam(lr=0.01)"], ["adam(beta1=0.5)", "adam(lr=0.01)"]),
        (
            [fl.rules.sgd(lr=fl.schedules.cosine(0.1, 20)), "sgd(lr=0.1)"],
            ["sgd(lr=cosine(start=0.1, steps=20, end=0))", "sgd(lr=0.1)"],
        ),
        (
            ["chain(clip_norm(1.0), adam)", "chain(clip_norm(1.0), sgd(lr=0.1))"],
            ["clip_norm(max_norm=1) → adam", "clip_norm(max_norm=1) → sgd(lr=0.1)"],
        ),
        (
            [fl.rules.average(fl.rules.sgd(lr=0.1), 0.9), fl.rules.average(fl.rules.adam(lr=0.1), 0.9)],
            ["average(sgd(lr=0.1), decay=0.9)", "average(adam(lr=0.1), decay=0.9)"],
        ),
        (
            [
                fl.route({"w": fl.rules.sgd(lr=0.1)}, otherwise=fl.rules.adam(lr=0.1)),
                fl.route({"w": fl.rules.sgd(lr=0.2)}, otherwise=fl.rules.adam(lr=0.1)),
            ],
            ["route(w: sgd(lr=0.1), *: adam(lr=0.1))", "route(w: sgd(lr=0.2), *: adam(lr=0.1))"],
        ),
    ],
)
def test_rules_of_one_kind_are_told_apart_by_what_is_unusual(given: list[Any], told: list[str]):
    assert labels(*given) == told


def test_several_tasks_stand_before_the_rules():
    assert labels("sgd", tasks=("old", "new")) == ["old", "new"]
    assert labels("sgd", "adam", tasks=("old", "new")) == [
        "old / sgd",
        "old / adam",
        "new / sgd",
        "new / adam",
    ]


@pytest.mark.parametrize(
    "given",
    [
        ["sgd", "sgd"],
        ["sgd", fl.rules.sgd],
        ["adam(lr=0.01)", "adam(lr=0.01, eps=1e-8)"],
        ["sgd(lr=0.1)", fl.rules.sgd(lr=0.1)],
    ],
)
def test_one_rule_given_twice_is_refused(given: list[Any]):
    with pytest.raises(BadValue, match=r"^the rule \w+(\(lr=0.\d+\))? is given twice: give each arm once$"):
        labels(*given)


def test_what_is_tuned_is_one_number():
    (arm,) = arms([task("one")], ["adam"], 5)
    assert arm.path == "lr"
    assert arm.axis is not None
    assert arm.settings() == [{"lr": value} for value in arm.axis.values]
    assert arm.at({"lr": 0.5}) == fl.rules.adam(lr=0.5)
    (fixed,) = arms([task("one")], ["adam(lr=0.5)"], 5)
    assert (fixed.path, fixed.axis, fixed.settings(), fixed.at({})) == (
        None,
        None,
        [{}],
        fl.rules.adam(lr=0.5),
    )
    with pytest.raises(
        BadValue, match=r"sgd has 2 axes \(lr.start, lr.end\): a comparison tunes one number of each arm"
    ):
        rule_of(fl.rules.sgd(lr=fl.schedules.cosine(fl.axis(0.1, 1), 20, end=fl.axis(0.01, 0.1))), 3)


@pytest.mark.parametrize(
    "rule", [fl.rules.sgd(lr=fl.axis(0.1, 1)), fl.rules.sgd(lr=fl.schedules.cosine(fl.axis(0.1, 1), 20))]
)
def test_a_range_grows_wherever_its_axis_stands(rule: Rule):
    arm = Arm("x", 0, rule).grown([10.0, 0.01])
    assert arm.axis == fl.axis(0.01, 0.1, 1, 10)
    assert (arm.label, arm.task, arm.path) == ("x", 0, Arm("x", 0, rule).path)


def test_a_misspelt_rule_is_refused():
    with pytest.raises(NotFound, match=r"^no rule is called 'adaam'; did you mean 'adam'\?$"):
        labels("adaam")
