"""The law: a run inside a fleet gives the numbers that it gives alone; as functions of rules, tasks and sizes.

Nothing here knows a member: rules, schedules, clips and wrappers are those that are registered, and their numbers are
drawn from the domains that they declare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

import fallline as fl
from fallline import layers, rules, specs
from fallline.optim.closure import TOLD
from fallline.rules import base, clipping
from fallline.rules.parse import named
from fallline.specs import Domain, Rule, Run, Schedule
from fallline.tasks import Task
from fleet.cases import check_near, check_same, classification, loop, regression, train, weights

from .samples import Draw

SIZES = (1, 2, 3, 5, 17, 64)
RUNS = 70
STEPS = 50
LARGE = 1e30
"""A learning rate that leaves the finite numbers within a few steps, in float32 and in float64."""

NAMED = named()
DTYPES = (torch.float32, torch.float64)


# --- what is registered -----------------------------------------------------------------------------------


def clips() -> list[str]:
    """The kinds of rule that bound a gradient."""
    return [k for k in specs.kinds(Rule) if base.behavior(Rule(k)).make.__module__ == clipping.__name__]


def wrappers() -> list[str]:
    """The kinds of rule that stand around one other rule and have numbers of their own."""
    found = []
    for kind in specs.kinds(Rule):
        own = base.behavior(Rule(kind))
        if own.domains and len(own.sample(Draw(0)).children) == 1:
            found.append(kind)
    return found


class Calm(Draw):
    """Numbers with which a training stays stable: values between 0.01 and 0.05 where a domain leaves it open."""

    def __call__(self, domain: Domain) -> float:
        if "steps" in domain.meaning:
            return float(np.ceil(domain.low) + self.random.integers(1, 30))
        if np.isinf(domain.low) or np.isinf(domain.high):
            return float(max(domain.low, 0.0) + self.random.uniform(0.01, 0.05))
        return super().__call__(domain)


def schedules_of(seed: int) -> list[Schedule]:
    """One schedule of each kind."""
    return [
        specs.behavior(Schedule(kind)).sample(Calm(seed + i)) for i, kind in enumerate(specs.kinds(Schedule))
    ]


Around = Callable[[Rule], Rule]


def structures(seed: int = 0) -> dict[str, Around]:
    """What can stand around a named rule: nothing, each clip before it, each wrapper around it."""

    def clipped(kind: str) -> Around:
        return lambda rule: rules.chain(base.behavior(Rule(kind)).sample(Draw(seed)), rule)

    def wrapped(kind: str) -> Around:
        own = base.behavior(Rule(kind))
        return lambda rule: own.make(rule, **{n: Draw(seed)(d) for n, d in own.domains.items()})

    found: dict[str, Around] = {"alone": lambda rule: rule}
    found.update({kind: clipped(kind) for kind in clips()})
    found.update({kind: wrapped(kind) for kind in wrappers()})
    return found


def tuned(kind: str, share: float) -> Rule:
    """A named rule with what it declares to be tuned at a share of its range, from 0 (low) to 1 (high)."""
    own = base.behavior(Rule(kind))
    at = {name: low * (high / low) ** share for name, (low, high) in own.search.items()}
    made: Rule = own.make(**at)
    return made


def members(kind: str, around: Around, count: int) -> list[Run]:
    """Runs of one structure: rates over the whole range and beyond, schedules of each kind, shared seeds."""
    plans: list[Any] = [None, *schedules_of(3)]
    (first, *_) = base.behavior(Rule(kind)).search
    runs = []
    for i in range(count):
        rule = tuned(kind, i / count)
        plan = plans[i % len(plans)]
        rule = rule if plan is None else rule.replace(**{first: plan})
        rule = rule.replace(**{first: LARGE}) if i % 16 == 11 else rule
        runs.append(Run(around(rule), seed=i % 7))
    return runs


def tasks(dtype: torch.dtype) -> dict[str, Task]:
    return {"classification": classification(dtype=dtype), "regression": regression(dtype=dtype)}


# --- (a) one executor: bit-equal for any fleet size, order and neighbors ------------------------------------


def check_sizes(task: Task, runs: Sequence[Run], sizes: Sequence[int] = SIZES, **options: Any) -> None:
    """Runs in fleets of other sizes, in another order, beside other neighbors, give the same bits."""
    whole = train(task, runs, **options)
    shuffled = np.random.default_rng(1).permutation(len(runs)).tolist()
    for start, size in enumerate(sizes):
        chosen = (shuffled[start:] + shuffled[:start])[:size]
        some = train(task, [runs[i] for i in chosen], **options)
        check_same(some, [whole[i] for i in chosen], f"in a fleet of {size}")


def check_twins(task: Task, run: Run, count: int = 37, **options: Any) -> None:
    """The same run in every place of a block gives the same bits."""
    first, *others = train(task, [run] * count, **options)
    check_same(others, [first] * len(others), "in another place")


# --- (c) across executors, and against a plain loop ---------------------------------------------------------


def check_executors(task: Task, run: Run, others: Sequence[Run], **options: Any) -> None:
    """Batched with others and alone, 50 stable steps in float64 agree to 1e-10."""
    batched = train(task, [run, *others], steps=STEPS, **options)[0]
    alone = train(task, [run], steps=STEPS, executor="alone", **options)[0]
    assert not batched.outcome.diverged
    check_near(batched.weights, alone.weights)
    for name, series in batched.series.items():
        np.testing.assert_allclose(series.values, alone.series[name].values, rtol=1e-9, atol=1e-12)


def check_plain_loop(
    task: Task, run: Run, others: Sequence[Run], make: Callable[[], nn.Module], loss: Any, **options: Any
) -> None:
    """Batched with others, and a loop of a module, autograd and an optimizer, agree to 1e-10 after 50 steps.

    A rule that asks for more than a loop can give trains in fleets alone.
    """
    if rules.needs(run.rule) - TOLD:
        return
    batched = train(task, [run, *others], steps=STEPS, **options)[0]
    module = loop(task, make, loss, run, STEPS, options.get("batch", 7))
    check_near(batched.weights, weights(module))


def stable(kind: str, around: Around, plan: int | None) -> Run | None:
    """A run at the low end of what is tuned; none where the rule is not continuous, which the law leaves out."""
    rule = tuned(kind, 0.1)
    if plan is not None:
        (first, *_) = base.behavior(Rule(kind)).search
        calm = schedules_of(5)[plan % len(specs.kinds(Schedule))]
        rule = rule.replace(**{first: fl.schedules.scaled(calm, dict(specs.flatten(rule))[first])})
    made = around(rule)
    return None if rules.discontinuous(made) else Run(made, seed=3)


MODELS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "classification": (
        lambda: layers.mlp(6, 5, 3, activation="tanh"),
        torch.nn.functional.cross_entropy,
    ),
    "regression": (
        lambda: layers.mlp(6, 5, 2, activation="tanh"),
        lambda prediction, target: ((prediction - target) ** 2).sum(1).mean(),
    ),
}
"""The modules and losses of the tasks, for the plain loop; the losses of torch, or by hand."""
