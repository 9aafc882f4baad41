"""Pruning in a fleet is its sequential definition, run by run, on the same seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fallline import layers, rng, rules
from fallline.fleet import Fleet, Settings, halving, hyperband, median_rule, patience, population, pruned
from fallline.fleet.pruning import Policy, reference
from fallline.fleet.workshop import Workshop
from fallline.records import Record
from fallline.specs import Run
from fallline.tasks import Task

from .cases import classification, order, regression

STEPS, BATCH, EVALUATIONS = 18, 7, (0, 2, 5, 9, 14, 18)
Twin = Callable[..., dict[int, Record]]

PAIRS: dict[str, tuple[Policy, Twin, dict[str, Any]]] = {
    "halving": (halving(eta=3, first=2), reference.halving, {"eta": 3, "first": 2}),
    "halving by loss": (
        halving(eta=2, first=3, metric="loss"),
        reference.halving,
        {"eta": 2, "first": 3},
    ),
    "hyperband": (hyperband(eta=3, first=2), reference.hyperband, {"eta": 3, "first": 2}),
    "median rule": (median_rule(grace=4, every=2), reference.median_rule, {"grace": 4, "every": 2}),
    "patience": (patience(evaluations=2, least=0.01), reference.patience, {"evaluations": 2, "least": 0.01}),
}


def mixed(count: int, seed: int) -> list[Run]:
    """Rates over four decades, two structures, two batch sizes; one run in seven diverges."""
    made: list[Run] = []
    for i in range(count):
        lr = 1e300 if i % 7 == 3 else 10 ** (-3 + 4 * ((5 * i + seed) % count) / count)
        rule = rules.adam(lr=lr) if i % 3 else rules.momentum(lr=lr)
        made.append(Run(rule, seed=seed + i % 4, batch=5 if i % 4 == 1 else None))
    return made


def settings(policy: Policy, executor: Any = "traced") -> Settings:
    """With the rungs among the evaluations."""
    rungs = policy.rungs(STEPS, EVALUATIONS)
    return Settings(STEPS, BATCH, tuple(sorted({*EVALUATIONS, *rungs})), weights=True, executor=executor)


TASKS = {"classification": classification(), "regression": regression()}
WORKSHOP = Workshop()


def alone(task: Task, policy: Policy, executor: Any = "traced") -> reference.Alone:
    """The trainer of the twins; programs are made once for all tests."""
    return reference.Alone(task, settings(policy), executor, policy.metric, WORKSHOP)


def in_fleet(task: Task, runs: Sequence[Run], policy: Policy, workers: int = 0) -> list[Record]:
    given = replace(settings(policy), evaluations=EVALUATIONS)
    with Fleet([task], workers=workers, executor="traced") as fleet:
        return pruned(fleet, [(0, run) for run in runs], given, policy).records


def check_twins(ours: Sequence[Record], theirs: dict[int, Record]) -> None:
    """The same steps, series, numbers and weights, bit for bit."""
    assert sorted(theirs) == list(range(len(ours)))
    for i, one in enumerate(ours):
        other = theirs[i]
        assert one.outcome.step == other.outcome.step
        assert one.outcome.diverged == other.outcome.diverged
        assert one.outcome.diverged or (one.outcome.status == "stopped") == (one.outcome.step < STEPS)
        assert dict(one.series) == dict(other.series)
        assert repr(dict(one.outcome.numbers)) == repr(dict(other.outcome.numbers))
        assert list(one.weights) == list(other.weights)
        assert all(w.tobytes() == other.weights[name].tobytes() for name, w in one.weights.items())


@pytest.mark.parametrize(("count", "seed"), [(11, 0), (5, 7)])
@pytest.mark.parametrize("name", PAIRS)
def test_runs_are_given_up_as_one_after_another(name: str, count: int, seed: int):
    policy, twin, numbers = PAIRS[name]
    task = TASKS[("classification", "regression")[seed % 2]]
    runs = mixed(count, seed)
    given = dict(enumerate(runs)) if twin is reference.halving else runs
    theirs = twin(alone(task, policy), given, **numbers)
    ours = in_fleet(task, runs, policy)
    check_twins(ours, theirs)
    assert {record.outcome.status for record in ours} >= {"stopped", "diverged"}


@pytest.mark.parametrize("name", ["halving", "median rule"])
def test_in_workers_the_same(name: str):
    policy, twin, numbers = PAIRS[name]
    task, runs = TASKS["classification"], mixed(11, 0)
    given = dict(enumerate(runs)) if twin is reference.halving else runs
    check_twins(in_fleet(task, runs, policy, workers=2), twin(alone(task, policy), given, **numbers))


@pytest.mark.parametrize("name", PAIRS)
def test_across_executors_the_same_runs_are_given_up_with_the_same_numbers(name: str):
    """The twin's runs are single ones in float64, without batching: law (c)."""
    policy, twin, numbers = PAIRS[name]
    task = regression(dtype=torch.float64)
    runs = [Run(rules.adam(lr=10 ** (-3 + i / 3)), seed=i % 2) for i in range(7)]
    theirs = twin(
        alone(task, policy, "alone"), dict(enumerate(runs)) if twin is reference.halving else runs, **numbers
    )
    for i, one in enumerate(in_fleet(task, runs, policy)):
        assert one.outcome.step == theirs[i].outcome.step
        for k, w in one.weights.items():
            np.testing.assert_allclose(w, theirs[i].weights[k], rtol=1e-9, atol=1e-12)


# --- population-based training ------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "exploit", "seed"), [(11, 0.2, 0), (6, 0.5, 3), (2, 0.2, 1)])
def test_a_population_is_its_loop(count: int, exploit: float, seed: int):
    policy = population(every=4, exploit=exploit, seed=seed, names=("lr",))
    task, runs = TASKS["classification"], mixed(count, seed)
    theirs = reference.population(
        alone(task, policy), runs, policy.explored, every=4, exploit=exploit, seed=seed
    )
    ours = in_fleet(task, runs, policy)
    assert all(record.outcome.status == "finished" for record in ours), "the lost were replaced"
    assert any("lineage" in record.run.tags for record in ours)
    check_twins(ours, theirs)


def test_a_population_in_plain_pytorch():
    """Modules, autograd and optimizers of one population, with ``load_state_dict`` for copies."""
    policy = population(every=5, exploit=0.4, perturb=(0.5, 2.0), seed=4, metric="loss")
    task = regression(dtype=torch.float64)
    runs = [Run(rules.adam(lr=0.01 * 2**i), seed=i % 3) for i in range(5)]
    ours = in_fleet(task, runs, policy)
    members = [_Member(task, run) for run in runs]
    for t in range(STEPS):
        for member in members:
            member.step(t)
        if (t + 1) % 5 == 0:
            ranking = sorted(range(5), key=lambda i: members[i].loss())
            best, worst = ranking[:2], ranking[-2:]
            for i in worst:
                members[i].copy(members[best[_drawn("which run", t + 1, i, 4) % 2]])
            for i in worst:
                members[i].lr *= (0.5, 2.0)[_drawn("lr", t + 1, i, 4) % 2]
    for record, member in zip(ours, members, strict=True):
        for name, p in member.module.named_parameters():
            np.testing.assert_allclose(record.weights[name], p.detach().numpy(), rtol=1e-9, atol=1e-12)
        lineage = record.run.tags.get("lineage")
        last = lineage[-1]["run"]["rule"]["numbers"]["lr"] if lineage else record.run.rule.numbers["lr"]
        assert last == pytest.approx(member.lr)
    assert any("lineage" in record.run.tags for record in ours)


def _drawn(what: str, step: int, i: int, seed: int) -> int:
    return rng.seed_for(seed, f"population, {what}, {step}, {i}")


class _Member:
    """One training in plain PyTorch, which can take over from another."""

    def __init__(self, task: Task, run: Run) -> None:
        self.task, self.run, self.lr = task, run, run.rule.numbers["lr"]
        self.module: nn.Module = layers.mlp(6, 5, 2, activation="tanh").double()
        self.module.load_state_dict(task.init(run.seed).params)
        self.shell = torch.optim.Adam(self.module.parameters(), self.lr)
        self.order = order(run.seed, task.size("train"), BATCH, STEPS)

    def step(self, t: int) -> None:
        self.shell.param_groups[0]["lr"] = self.lr
        self.shell.zero_grad()
        columns = self.task.parts["train"]
        _squared(self.module, columns, self.order[t]).backward()
        self.shell.step()

    def loss(self) -> float:
        with torch.no_grad():
            return float(_squared(self.module, self.task.parts["validation"], slice(None)))

    def copy(self, other: _Member) -> None:
        self.module.load_state_dict(other.module.state_dict())
        self.shell.load_state_dict(copy.deepcopy(other.shell.state_dict()))
        self.lr = other.lr


def _squared(module: nn.Module, columns: Any, rows: Any) -> Any:
    return ((module(columns["inputs"][rows]) - columns["target"][rows]) ** 2).sum(1).mean()
