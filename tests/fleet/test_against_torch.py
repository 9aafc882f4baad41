"""Where nothing is random, a run of a fleet is a loop with torch's own optimizer, its own clips and its schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fallline as fl
from fallline import layers, rules, schedules
from fallline.specs import Rule

from .cases import check_near, classification, loop, regression, train, weights

STEPS = 50

PEERS: dict[str, tuple[Rule, Callable[[list[Any]], torch.optim.Optimizer]]] = {
    "SGD": (rules.sgd(lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "SGD with momentum": (
        rules.momentum(lr=0.05, beta=0.8),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8),
    ),
    "SGD with Nesterov's momentum": (
        rules.nesterov(lr=0.05, beta=0.8),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True),
    ),
    "Adagrad": (
        rules.adagrad(lr=0.05, eps=1e-8),
        lambda p: torch.optim.Adagrad(p, lr=0.05, eps=1e-8),
    ),
    "RMSprop": (
        rules.rmsprop(lr=0.01, gamma=0.8, eps=1e-8),
        lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.8, eps=1e-8),
    ),
    "Adam": (
        rules.adam(lr=0.01, beta1=0.8, beta2=0.99, eps=1e-8),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), eps=1e-8),
    ),
    "AdamW": (
        rules.adamw(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    ),
}


def model() -> nn.Module:
    return layers.mlp(6, 5, 3, activation="tanh")


def bare(named: list[Any]) -> list[Any]:
    return [p for _, p in named]


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("executor", ["traced", "alone"])
def test_an_optimizer_of_torch(name: str, executor: str):
    rule, peer = PEERS[name]
    task, run = classification(dtype=torch.float64), fl.Run(rule, seed=5)
    others = [fl.Run(rule.replace(lr=0.001 * i), seed=i) for i in range(1, 3)]
    record = train(task, [run, *others], steps=STEPS, executor=executor)[0]
    module = loop(task, model, F.cross_entropy, run, STEPS, 7, lambda named: peer(bare(named)))
    check_near(record.weights, weights(module))


class Clipped(torch.optim.SGD):
    """Gradient descent after a clip of torch's."""

    clip: Callable[[Any], Any]

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure else None
        self.clip([p for group in self.param_groups for p in group["params"]])
        super().step()
        return loss


CLIPS: dict[str, tuple[Rule, Callable[[Any], Any], float]] = {
    "by value": (rules.clip_value(0.05), lambda p: nn.utils.clip_grad_value_(p, 0.05), 1e-10),
    "by norm": (rules.clip_norm(0.3), lambda p: nn.utils.clip_grad_norm_(p, 0.3), 1e-4),
}
"""Torch divides by ‖g‖ + 1e-6, and we by ‖g‖, so that clips by norm differ by about 1e-6 relative to the bound."""


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_of_torch(name: str):
    clip, peer, near = CLIPS[name]
    run = fl.Run(rules.chain(clip, rules.sgd(lr=0.5)), seed=1)
    task = classification(dtype=torch.float64)

    def make(named: list[Any]) -> torch.optim.Optimizer:
        optimizer = Clipped(bare(named), lr=0.5)
        optimizer.clip = peer
        return optimizer

    ours = train(task, [run, run], steps=STEPS)[0].weights
    check_near(ours, weights(loop(task, model, F.cross_entropy, run, STEPS, 7, make)), near)
    free = train(task, [fl.Run(rules.sgd(lr=0.5), seed=1)], steps=STEPS)[0].weights
    with pytest.raises(AssertionError, match="apart"):
        check_near(ours, free, near)


class Scheduled(torch.optim.SGD):
    """Gradient descent with a scheduler of torch's that goes on after each step."""

    scheduler: Any

    def step(self, closure: Any = None) -> Any:
        done = super().step(closure)
        self.scheduler.step()
        return done


PLANS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "cosine": (
        schedules.cosine(0.2, STEPS),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS),
    ),
    "step": (
        schedules.step(0.2, factor=0.5, every=8),
        lambda o: torch.optim.lr_scheduler.StepLR(o, 8, 0.5),
    ),
    "inverse time": (
        schedules.inverse_time(0.2),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 1 / (t + 1)),
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_scheduler_of_torch(name: str):
    plan, peer = PLANS[name]
    run, task = fl.Run(rules.sgd(lr=plan), seed=2), classification(dtype=torch.float64)

    def make(named: list[Any]) -> torch.optim.Optimizer:
        optimizer = Scheduled(bare(named), lr=0.2)
        optimizer.scheduler = peer(optimizer)
        return optimizer

    ours = train(task, [run, fl.Run(rules.sgd(lr=0.1), seed=3)], steps=STEPS)[0].weights
    check_near(ours, weights(loop(task, model, F.cross_entropy, run, STEPS, 7, make)))


def test_the_optimizers_of_this_package_by_torchs_names():
    """In the plain loop, the shell around the rule and the class by torch's name are the same run of the fleet."""
    task = regression(dtype=torch.float64)
    run = fl.Run(rules.adam(lr=0.01, eps=1e-8), seed=4)

    def loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ((prediction - target) ** 2).sum(1).mean()

    def two() -> nn.Module:
        return layers.mlp(6, 5, 2, activation="tanh")

    ours = train(task, [run, run], steps=STEPS)[0].weights
    for make in (lambda p: fl.optim.Optimizer(p, run.rule), lambda p: fl.optim.Adam(bare(p), lr=0.01)):
        check_near(ours, weights(loop(task, two, loss, run, STEPS, 7, make)))
