"""What each process of the test beside this file does: trains some tasks, and the first one writes what came out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import fallline as fl
from fallline import losses, rules
from fallline.fleet.single import Plan, Trained, train
from fallline.fleet.single.ranks import alone
from fallline.specs import Rule
from fallline.tasks import Task


class Unused(nn.Module):
    """A model with a parameter that the loss does not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out, self.idle = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.first(x)))


def task(*middle: nn.Module, weighted: bool = False, linear: bool = False) -> Task:
    drawn = np.random.default_rng(0)
    X, y = drawn.normal(size=(60, 6)), drawn.integers(0, 3, 60)

    def model() -> nn.Module:
        if linear:
            return nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), *middle, nn.Linear(5, 3)) if middle else Unused()

    made = fl.Task.supervised(model, (X, y), loss=losses.cross_entropy, dtype=torch.float64, name="made")
    if weighted:
        train = made.parts["train"]
        weight = torch.from_numpy(drawn.uniform(0.1, 2.0, made.size("train")))
        made = replace(made, parts={**made.parts, "train": {**train, "weight": weight}})
    return made


def go(given: Task, rule: Rule, accumulate: int = 1, batch: int = 11, file: Path | None = None) -> Trained:
    plan = Plan(50, batch, keep="last", device="cpu", accumulate=accumulate, file=file, every=0.0)
    return train(given, fl.Run(rule, 3), plan)


def plain() -> Trained:
    """Uneven shares, and a parameter without a gradient."""
    return go(task(), rules.adam(lr=0.01))


def weighted() -> Trained:
    return go(task(weighted=True), rules.chain(rules.clip_norm(0.1), rules.momentum(lr=0.1)), accumulate=2)


def noisy(accumulate: int = 1) -> Trained:
    """Dropout and batch norm, which see parts: two processes are one that takes its batch in two parts."""
    return go(task(nn.BatchNorm1d(5), nn.Dropout(0.3)), rules.sgd(lr=0.1), accumulate)


def diverges() -> Trained:
    return go(task(linear=True), rules.sgd(lr=1e200))


def main(folder: Path) -> None:
    for make in (plain, weighted, noisy, diverges):
        found = make()
        if alone():
            series = {f"series {name}": s.values for name, s in found.record.series.items()}
            np.savez(folder / f"{make.__name__}.npz", stopped=found.stopped, **found.record.weights, **series)
    go(task(), rules.sgd(lr=0.1), file=folder / "saved")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
