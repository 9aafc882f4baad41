"""Every scheduler that torch has drives our optimizers as it drives torch's: rates, momenta, steps and resuming."""

from __future__ import annotations

import copy
import inspect
import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler, swa_utils

from fallline import optim, rules, schedules
from optim.cases import GRID, Problem, deviation

STEPS = 24
BASE = 0.05
OPTIONS = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9}}

ABSTRACT = {"LRScheduler", "_LRScheduler"}
ARGUMENTS = {
    "LambdaLR": {"lr_lambda": lambda t: 0.9**t},
    "MultiplicativeLR": {"lr_lambda": lambda t: 0.95},
    "StepLR": {"step_size": 5, "gamma": 0.5},
    "MultiStepLR": {"milestones": [3, 11], "gamma": 0.3},
    "ConstantLR": {},
    "LinearLR": {"total_iters": 9},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": 20, "power": 2.0},
    "CosineAnnealingLR": {"T_max": 13, "eta_min": 1e-4},
    "CosineAnnealingWarmRestarts": {"T_0": 5, "T_mult": 2},
    "ReduceLROnPlateau": {"patience": 2, "factor": 0.5},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": STEPS + 1},
    "SWALR": {"swa_lr": 0.01, "anneal_epochs": 6},
}


def chained(optimizer):
    parts = [lr_scheduler.LinearLR(optimizer, total_iters=4), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    return lr_scheduler.ChainedScheduler(parts, optimizer=optimizer)


def sequential(optimizer):
    parts = [lr_scheduler.ConstantLR(optimizer, 0.5, 5), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[7])


NESTED = {"ChainedScheduler": chained, "SequentialLR": sequential}


def classes():
    found = {"SWALR": swa_utils.SWALR}
    for name, one in vars(lr_scheduler).items():
        if inspect.isclass(one) and issubclass(one, lr_scheduler.LRScheduler) and name not in ABSTRACT:
            found[name] = one
    return found


def scheduled(name, optimizer):
    if name in NESTED:
        return NESTED[name](optimizer)
    arguments = dict(ARGUMENTS[name])
    if "cycle_momentum" in inspect.signature(classes()[name]).parameters:
        arguments["cycle_momentum"] = "momentum" in optimizer.defaults or "betas" in optimizer.defaults
    return classes()[name](optimizer, **arguments)


def advance(scheduler, t):
    plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
    scheduler.step(*([1.0 if t % 7 else 0.1] if plateau else []))


def numbers(optimizer):
    names = ("lr", "momentum", "betas")
    return [{key: group[key] for key in names if key in group} for group in optimizer.param_groups]


def groups(problem):
    return [{"params": problem.params[:2], "lr": 0.02}, {"params": problem.params[2:]}]


def test_every_scheduler_of_torch_is_here():
    assert set(classes()) == set(ARGUMENTS) | set(NESTED)


@pytest.mark.parametrize("name", GRID)
@pytest.mark.parametrize("scheduler", [*ARGUMENTS, *NESTED])
def test_rates_and_steps_are_those_of_torchs_optimizer(scheduler, name):
    ours, theirs = Problem(), Problem()
    options = {"lr": BASE, **OPTIONS.get(name, {})}
    both = [
        (problem, getattr(family, name)(groups(problem), **options))
        for family, problem in ((optim, ours), (torch.optim, theirs))
    ]
    driven = [scheduled(scheduler, optimizer) for _, optimizer in both]
    for t in range(STEPS):
        assert numbers(both[0][1]) == numbers(both[1][1])
        for (problem, optimizer), one in zip(both, driven, strict=True):
            problem.blow()
            optimizer.step()
            advance(one, t)
    assert driven[0].state_dict().keys() == driven[1].state_dict().keys()
    assert deviation(ours.values(), theirs.values()) < 1e-12


def composed(problem):
    named = zip(("a", "b", "c", "d", "e"), problem.params, strict=True)
    inner = rules.chain(rules.clip_norm(1.0), rules.adamw(lr=BASE))
    return optim.Optimizer(named, rules.average(inner, decay=0.9))


def adam(problem):
    return optim.Adam(problem.params, lr=BASE)


@pytest.mark.parametrize("make", [composed, adam])
@pytest.mark.parametrize("scheduler", [*ARGUMENTS, *NESTED])
def test_a_run_that_was_saved_with_its_scheduler_goes_on_bit_equal(scheduler, make):
    problem = Problem()
    optimizer = make(problem)
    driving = scheduled(scheduler, optimizer)

    def go(problem, optimizer, driving, steps):
        for t in steps:
            problem.blow()
            optimizer.step()
            advance(driving, t)

    go(problem, optimizer, driving, range(10))
    saved = copy.deepcopy((optimizer.state_dict(), driving.state_dict()))
    twin = copy.deepcopy(problem)
    again = make(twin)
    resumed = scheduled(scheduler, again)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR complains of being loaded before a step
        resumed.load_state_dict(saved[1])
    again.load_state_dict(saved[0])
    assert numbers(again) == numbers(optimizer)
    go(problem, optimizer, driving, range(10, STEPS))
    go(twin, again, resumed, range(10, STEPS))
    assert all(torch.equal(a, b) for a, b in zip(problem.params, twin.params, strict=True))


def test_a_composed_rate_follows_the_same_numbers_as_torchs():
    for name in (*ARGUMENTS, *NESTED):
        ours, theirs = Problem(), Problem()
        rule = rules.chain(rules.clip_norm(1e9), rules.sgd(lr=BASE))
        pair = optim.Optimizer(ours.params, rule), torch.optim.SGD(theirs.params, lr=BASE)
        if "cycle_momentum" in inspect.signature(classes()[name]).parameters:
            arguments = {**ARGUMENTS[name], "cycle_momentum": False}
            driven = [classes()[name](optimizer, **arguments) for optimizer in pair]
        else:
            driven = [scheduled(name, optimizer) for optimizer in pair]
        for t in range(STEPS):
            for problem, optimizer, one in zip((ours, theirs), pair, driven, strict=True):
                problem.blow()
                optimizer.step()
                advance(one, t)
            assert pair[0].param_groups[0]["lr"] == pair[1].param_groups[0]["lr"]
        assert deviation(ours.values(), theirs.values()) < 1e-12, name


def test_swa_averages_and_update_bn_take_our_optimizers():
    torch.manual_seed(0)
    x = torch.randn(16, 3)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    averaged = swa_utils.AveragedModel(model)
    scheduler = swa_utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=2)
    mean = torch.zeros_like(model[0].weight)
    for t in range(4):
        optimizer.zero_grad()
        model(x).pow(2).mean().backward()
        optimizer.step()
        averaged.update_parameters(model)
        scheduler.step()
        mean += (model[0].weight.detach() - mean) / (t + 1)
    swa_utils.update_bn([x], averaged)
    torch.testing.assert_close(averaged.module[0].weight, mean)
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_a_rule_scheduler_tells_rates_and_changes_nothing():
    problem = Problem()
    rule = rules.route({"0": rules.sgd(lr=schedules.inverse_time(0.1))}, otherwise=rules.sgd(lr=0.07))
    optimizer = optim.Optimizer(problem.params, rule)
    scheduler = optim.RuleScheduler(optimizer)
    before = copy.deepcopy(optimizer.state_dict())
    assert scheduler.get_last_lr() == [0.1]
    assert optimizer.state_dict() == before
    problem.blow()
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.07]
    again = optim.RuleScheduler(optimizer)
    again.load_state_dict(scheduler.state_dict())
    assert (again.last_epoch, again.get_last_lr()) == (1, [0.07])
    ruled = optim.Optimizer(problem.params, rules.chain(rules.descend(0.5)))
    del ruled.param_groups[0]["lr"]
    assert math.isnan(optim.RuleScheduler(ruled).get_last_lr()[0])
