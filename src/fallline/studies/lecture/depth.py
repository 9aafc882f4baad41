"""Study ``depth``: is deep better than shallow, at the same number of parameters? (R4)"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ... import layers, losses, rules, schedules, specs, tasks
from ...figure import Figure, Scale
from ...tasks.base import Task
from ..claims import Answer, Claim, Criterion, Table
from ..inquiry import inquiry
from ..lab import Floats, Lab, Side, Trials
from ..pictures import legend, lines, rows

GAIN, TIE = 0.05, 0.02
"""Written down before: what counts as a gain of R² or accuracy, and as none."""

R4 = Claim(
    "R4", "Is deep better than shallow? Why?",
    "With equal numbers of parameters a deep net can be what no shallow one can where the target is a composition, and "
    "training finds that; where the target is no composition they are level.",
    {
        "built": Criterion("largest error of a deep net with weights set by hand on a tent map applied five times", below=1e-6),
        "pieces": Criterion("straight pieces that a shallow net of as many parameters can have, of the 32 that are needed", below=32),
        "tent": Criterion("R² gained by training a deep net on that tent map", above=GAIN),
        "parity": Criterion("accuracy gained by training a deep net on the parity of 10 bits", above=GAIN),
        "smooth": Criterion("R² gained by depth on a sum of two slow waves", above=-TIE, below=TIE),
        "digits": Criterion("accuracy gained by depth on digits", above=-TIE, below=TIE),
    },
)  # fmt: skip

SHALLOW, DEEP = 1, 4
"""Hidden layers."""
FOLDS = 5


Make = Callable[[Callable[[], nn.Module], str], Task]


@dataclass(frozen=True)
class Target:
    """What is to be learned: a task for each depth, all of about the same number of parameters.

    Args:
        name: in tables.
        inputs, outputs: of the net.
        parameters: about how many.
        make: a task for a net.
        score: what is measured, with its unit.
    """

    name: str
    inputs: int
    outputs: int
    parameters: int
    make: Make
    score: str

    def width(self, depth: int) -> int:
        """The width at which a net of this depth has about that many parameters."""
        fitting = [w for w in range(1, self.parameters) if self.count(depth, w) <= self.parameters]
        return fitting[-1]

    def count(self, depth: int, width: int) -> int:
        """The parameters of a net with so many hidden layers of a width."""
        return (self.inputs + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * self.outputs

    def task(self, depth: int) -> Task:
        """The task for nets with so many hidden layers."""
        sizes = (self.inputs, *[self.width(depth)] * depth, self.outputs)
        return self.make(lambda: he(layers.mlp(*sizes)), f"{self.name}, {depth} hidden")


def he(net: nn.Module) -> nn.Module:
    """The net with the initial weights that ReLUs ask for, so that depth is not held back by vanishing signals."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    return net


def built(times: int) -> nn.Module:
    """A net two wide and as many layers deep that is the tent map applied so many times, on [0, 1].

    One fold is 2 · relu(x) − 4 · relu(x − 1/2), and its two terms are the units of one layer.
    """
    net = layers.mlp(1, *[2] * times, 1).double()
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    fold = torch.tensor([[2.0, -4.0]], dtype=torch.float64)
    with torch.no_grad():
        for i, layer in enumerate(linear):
            into = torch.ones(1, 1, dtype=torch.float64) if i == 0 else fold
            last = i == len(linear) - 1
            layer.weight.copy_(into if last else into.expand(2, -1))
            layer.bias.copy_(torch.zeros(1) if last else torch.tensor([0.0, -0.5]))
    return net


def tent(x: Floats, times: int) -> Floats:
    """The tent map, which folds [0, 1] once, applied several times: 2^times straight pieces.

    >>> tent(np.array([0.0, 0.25, 0.5, 1.0]), 1).tolist()
    [0.0, 0.5, 1.0, 0.0]
    """
    for _ in range(times):
        x = 1 - np.abs(2 * x - 1)
    return x


def targets(lab: Lab) -> dict[str, Target]:
    """The four targets, named before anything was trained."""
    random = lab.random(0)
    x = random.uniform(0, 1, size=(3_000, 1))
    bits = np.array([[(i >> k) & 1 for k in range(10)] for i in range(1024)], dtype=np.float64)
    order = random.permutation(1024)
    digits = tasks.digits()

    def numbers(y: Floats) -> Make:
        parts = [
            (2 * x[rows] - 1, y[rows]) for rows in (slice(0, 1000), slice(1000, 2000), slice(2000, 3000))
        ]
        return lambda make, name: Task.supervised(make, *parts, loss=losses.mse, score="r2", name=name)

    def parity(make: Callable[[], nn.Module], name: str) -> Task:
        own = [order[:700], order[700:860], order[860:]]
        parts = [(2 * bits[rows] - 1, bits[rows].sum(1).astype(int) % 2) for rows in own]
        return Task.supervised(make, *parts, loss=losses.cross_entropy, score="accuracy", name=name)

    def digit(make: Callable[[], nn.Module], name: str) -> Task:
        parts = [
            (digits.parts[p]["inputs"], digits.parts[p]["target"]) for p in ("train", "validation", "test")
        ]
        return Task.supervised(make, *parts, loss=losses.cross_entropy, score="accuracy", name=name)

    smooth = np.sin(3 * x) + 0.5 * np.cos(5 * x)
    return {
        "tent": Target("tent map", 1, 1, 2_000, numbers(tent(x, FOLDS)), "R²"),
        "parity": Target("parity", 10, 2, 2_000, parity, "accuracy"),
        "smooth": Target("slow waves", 1, 1, 2_000, numbers(smooth), "R²"),
        "digits": Target("digits", 64, 10, 5_000, digit, "accuracy"),
    }


@inquiry("depth", [R4], minutes=2, quick=0.5)
def study(lab: Lab) -> Iterator[Answer]:
    """Is deep better than shallow, at the same number of parameters?"""
    steps, depths = lab.few(6_000, 1_000), (SHALLOW, 2, DEEP)
    rule = rules.adam(lr=schedules.cosine(specs.log_axis(1e-3, 3e-2, 4), steps))
    found: dict[str, Trials] = {}
    named, hand = targets(lab), sum(p.numel() for p in built(FOLDS).parameters())
    for name, target in named.items():
        sides = {f"{depth} hidden": Side(target.task(depth), rule) for depth in depths}
        found[name] = lab.compare(sides, steps=steps)
    scores = {
        name: {label: trials.finals(label) for label in (f"{d} hidden" for d in depths)}
        for name, trials in found.items()
    }
    gains = {name: own[f"{DEEP} hidden"] - own[f"{SHALLOW} hidden"] for name, own in scores.items()}
    table = Table(
        f"Test scores after {steps:,} steps, each at its best rate (mean over replicates)",
        ("target", "score", *(f"{d} hidden" for d in depths), *(f"width, {d} hidden" for d in depths), "parameters"),
        tuple(
            (
                target.name, target.score, *(float(np.nanmean(scores[name][f"{d} hidden"])) for d in depths),
                *(target.width(d) for d in depths), target.count(DEEP, target.width(DEEP)),
            )
            for name, target in named.items()
        ),
    )  # fmt: skip
    best = [named[name].name for name, gain in gains.items() if np.nanmean(gain) > GAIN]
    picture = Figure(
        "depth", f"Depth gains on {' and '.join(best)}" if best else "Depth gains nowhere",
        (
            rows({named[name].name: gain for name, gain in gains.items()}, Scale(f"score of {DEEP} hidden layers minus that of {SHALLOW}"), at=0.0),
            lines(depths, {named[name].name: np.stack([own[f"{d} hidden"] for d in depths], 1) for name, own in scores.items()}, Scale("hidden layers"), Scale("test score")),
        ),
        "Means over replicates with 95 % intervals; dots: replicates. All nets of a target have about the same number of parameters.",
        legend({target.name: None for target in named.values()}),
    )  # fmt: skip
    notes = [
        f"A net of {hand} parameters with weights set by hand is the tent map: depth can. Whether gradient descent finds such a net "
        "is the other question, and the one that the trained nets answer.",
        "All nets have He's initial weights: torch's default ones shrink the signal from layer to layer (study activations).",
        "The bits of a parity are the same to it in any order, which a wide layer learns as one sum: a composition is not the only "
        "way to see it.",
    ]
    exact = {"built": _error(), "pieces": float(_pieces(hand))}
    yield Answer(R4, {**exact, **gains}, [picture], [table], notes)


def _error() -> float:
    x = np.linspace(0, 1, 4097)
    with torch.no_grad():
        found = built(FOLDS)(torch.as_tensor(x[:, None]))[:, 0].numpy()
    return float(np.abs(found - tent(x, FOLDS)).max())


def _pieces(parameters: int) -> int:
    """The most straight pieces of a shallow net on a line: one more than its units, each of which has three numbers."""
    return (parameters - 1) // 3 + 1
