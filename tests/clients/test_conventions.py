"""What torch promises of an optimizer, asked of every one of ours."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from contracts.samples import SHAPES, sample, trainer
from fallline import optim, rules, specs
from fallline.specs import Rule
from optim.cases import GRID, Problem

KINDS = [kind for kind in specs.kinds(Rule) if not rules.needs(trainer(sample(kind)))]


def by_rule(kind):
    return lambda params: optim.Optimizer(params, trainer(sample(kind)))


ALL = {name: getattr(optim, name) for name in GRID} | {kind: by_rule(kind) for kind in KINDS}
every = pytest.mark.parametrize("make", ALL.values(), ids=ALL)


def named(problem):
    return list(zip(SHAPES, problem.params, strict=True))


def train(problem, optimizer, steps=2):
    for _ in range(steps):
        problem.blow()
        optimizer.step()


@every
def test_it_is_an_optimizer_whose_hooks_are_called(make):
    problem, seen = Problem(), []
    optimizer = make(named(problem))
    assert isinstance(optimizer, torch.optim.Optimizer)
    handles = [
        optimizer.register_step_pre_hook(lambda one, args, kwargs: seen.append(("pre", one.steps))),
        optimizer.register_step_post_hook(lambda one, args, kwargs: seen.append(("post", one.steps))),
        register_optimizer_step_pre_hook(lambda one, args, kwargs: seen.append(("any pre", one.steps))),
        register_optimizer_step_post_hook(lambda one, args, kwargs: seen.append(("any post", one.steps))),
    ]
    train(problem, optimizer, 1)
    assert sorted(seen) == [("any post", 1), ("any pre", 0), ("post", 1), ("pre", 0)]
    for handle in handles:
        handle.remove()
    train(problem, optimizer, 1)
    assert len(seen) == 4


@every
def test_a_profiler_sees_its_steps_by_name(make):
    problem = Problem()
    optimizer = make(named(problem))
    problem.blow()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        optimizer.step()
        optimizer.zero_grad()
    names = {event.name for event in profiler.events()}
    name = type(optimizer).__name__
    assert {f"Optimizer.step#{name}.step", f"Optimizer.zero_grad#{name}.zero_grad"} <= names


@every
@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad(make, to_none):
    problem = Problem()
    optimizer = make(named(problem))
    problem.blow()
    optimizer.zero_grad(set_to_none=to_none)
    assert all((p.grad is None) if to_none else not p.grad.any() for p in problem.params)


@every
def test_a_group_may_come_later_as_in_a_thawing_model(make):
    problem, twin = Problem(), Problem()
    late, early = make(named(problem)[:2]), make(named(twin)[:2])
    train(problem, late)
    train(twin, early)
    late.add_param_group({"params": named(problem)[2:]})
    early.add_param_group({"params": named(twin)[2:]})
    train(problem, late)
    again = make(named(twin)[:2])
    again.add_param_group({"params": named(twin)[2:]})
    again.load_state_dict(early.state_dict())
    train(twin, again)
    assert again.steps == late.steps == 4
    assert all(torch.equal(p, q) for p, q in zip(problem.params, twin.params, strict=True))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("name", GRID)
def test_copies_go_on_alike(name, copied):
    problem = Problem()
    optimizer = getattr(optim, name)(named(problem))
    train(problem, optimizer)
    params, twin = copied((problem.params, optimizer))
    for _ in range(2):
        problem.blow()
        for p, q in zip(params, problem.params, strict=True):
            p.grad = q.grad.clone()
        optimizer.step()
        twin.step()
    assert all(torch.equal(p, q) for p, q in zip(params, problem.params, strict=True))
