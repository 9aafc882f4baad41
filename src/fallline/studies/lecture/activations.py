"""Study ``activations``: why are ReLUs popular? (R3)"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ... import losses, rules, schedules, specs, tasks
from ...figure import Figure, Scale
from ...tasks.base import Task
from ..claims import Answer, Claim, Criterion, Table
from ..inquiry import inquiry
from ..lab import Floats, Lab, Side, Trials
from ..pictures import legend, lines

WIDTH, DEPTHS, DEEPEST = 32, (2, 10, 30), 30
TRAINS, CHANCE = 0.8, 0.5
"""Written down before: the accuracy on digits above which a net trains, and below which it does not; guessing has 0.1."""

R3 = Claim(
    "R3", "Why are ReLUs popular?",
    "Thirty layers train with no activation at torch's default initial weights, ReLU included; with the initial weights that "
    "each activation asks for, ReLU, tanh and a centered sigmoid all train, and ReLU costs least.",
    {
        "default": Criterion(f"test accuracy of {DEEPEST} layers at default weights, best activation", below=CHANCE),
        "relu": Criterion(f"test accuracy of {DEEPEST} layers of ReLU at its own weights", above=TRAINS),
        "tanh": Criterion(f"test accuracy of {DEEPEST} layers of tanh at its own weights", above=TRAINS),
        "sigmoid": Criterion(f"test accuracy of {DEEPEST} layers of centered sigmoids at their own weights", above=TRAINS),
        "cost": Criterion("time of tanh over that of ReLU, forward and back (log2)", above=0.0),
    },
)  # fmt: skip


@dataclass(frozen=True)
class Activation:
    """A function between layers, with the initial weights that keep signals from vanishing or exploding.

    Args:
        function: it.
        gain: the standard deviation of a weight is gain / √inputs: 1 / √E[φ(z)²] for a standard normal z keeps the
            size of signals; a function that is nearly linear at 0 asks for 1 / slope.
    """

    function: Callable[[], nn.Module]
    gain: float


class Centered(nn.Module):
    """The sigmoid minus one half: σ(x) − ½, whose slope at 0 is ¼."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return x.sigmoid() - 0.5


ACTIVATIONS: Mapping[str, Activation] = {
    "ReLU": Activation(nn.ReLU, 2**0.5),
    "tanh": Activation(nn.Tanh, 1.0),
    "centered sigmoid": Activation(Centered, 4.0),
    "sigmoid": Activation(nn.Sigmoid, 4.0),
    "GELU": Activation(nn.GELU, 1.534),
}
"""GELU's gain is 1 / √E[φ(z)²]; that of ReLU is √2 by the same rule (He et al. 2015)."""


def net(name: str, depth: int, *, own: bool) -> nn.Module:
    """A net of so many hidden layers, at its activation's own initial weights or at torch's default ones."""
    known = ACTIVATIONS[name]
    sizes = [64, *[WIDTH] * depth]
    parts: list[nn.Module] = [nn.Flatten()]
    for into, out in pairwise(sizes):
        parts += [nn.Linear(into, out), known.function()]
    made = nn.Sequential(*parts, nn.Linear(WIDTH, 10))
    for layer in (layer for layer in made if own and isinstance(layer, nn.Linear)):
        nn.init.normal_(layer.weight, std=known.gain / layer.in_features**0.5)
        nn.init.zeros_(layer.bias)
    return made


@inquiry("activations", [R3], minutes=10, quick=2)
def study(lab: Lab) -> Iterator[Answer]:
    """Why are ReLUs popular, and does depth forgive another choice?"""
    digits = tasks.digits()
    depths = DEPTHS if not lab.quick else (2, DEEPEST)
    steps = lab.few(2_000, 300)
    rule = rules.adam(lr=schedules.cosine(specs.log_axis(1e-4, 1e-2, 5), steps))
    found: dict[tuple[bool, int], Trials] = {}
    for own in (False, True):
        for depth in depths:
            sides = {name: Side(_task(digits, name, depth, own=own), rule) for name in ACTIVATIONS}
            found[own, depth] = lab.compare(sides, steps=steps)
    scores = {key: {name: trials.finals(name) for name in ACTIVATIONS} for key, trials in found.items()}
    deepest, default = scores[True, DEEPEST], scores[False, DEEPEST]
    gradients = {(own, name): _first_gradient(name, own=own) for own in (False, True) for name in ACTIVATIONS}
    costs = {name: _cost(known) for name, known in ACTIVATIONS.items()}
    values = {
        "default": np.max([np.nan_to_num(own, nan=0.1) for own in default.values()], axis=0),
        "relu": deepest["ReLU"], "tanh": deepest["tanh"], "sigmoid": deepest["centered sigmoid"],
        "cost": np.log2(costs["tanh"] / costs["ReLU"]),
    }  # fmt: skip
    table = Table(
        f"At {DEEPEST} hidden layers",
        ("activation", "accuracy, default weights", "accuracy, own weights", "first layer's gradient over the last one's, default", "the same, own", "time, µs for 32 × 32 × 32 numbers"),
        tuple(
            (name, float(np.mean(default[name])), float(np.mean(deepest[name])), gradients[False, name], gradients[True, name], float(1e6 * np.median(costs[name])))
            for name in ACTIVATIONS
        ),
    )  # fmt: skip
    panels = tuple(
        lines(depths, {name: np.stack([scores[own, depth][name] for depth in depths], 1) for name in ACTIVATIONS}, Scale("hidden layers"), Scale("test accuracy", low=0, high=1), title="own initial weights" if own else "torch's default weights")
        for own in (False, True)
    )  # fmt: skip
    trains = [name for name, own in deepest.items() if np.mean(own) > TRAINS]
    title = (
        f"With its own initial weights {' and '.join(trains)} trains at {DEEPEST} layers"
        if trains
        else f"Nothing trains at {DEEPEST} layers"
    )
    picture = Figure(
        "activations", title, panels,
        f"Test accuracy on digits after {steps:,} steps, each at its best rate; means over replicates with 95 % intervals.",
        legend(ACTIVATIONS),
    )  # fmt: skip
    notes = [
        "The plain sigmoid is not centered: its mean of one half adds up from layer to layer, whatever the weights.",
        "What ReLU has over tanh here is its price and that it needs no care, not its accuracy.",
    ]
    yield Answer(R3, values, [picture], [table], notes)


def _task(digits: Task, name: str, depth: int, *, own: bool) -> Task:
    parts = [
        (digits.parts[part]["inputs"], digits.parts[part]["target"])
        for part in ("train", "validation", "test")
    ]
    weights = "own" if own else "default"
    return Task.supervised(
        lambda: net(name, depth, own=own), *parts, loss=losses.cross_entropy, score="accuracy",
        name=f"digits, {depth} {name}, {weights} weights",
    )  # fmt: skip


def _first_gradient(name: str, *, own: bool) -> float:
    """The norm of the first hidden layer's gradient over that of the last layer, before training, a median over starts."""
    ratios = []
    for seed in range(5):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = net(name, DEEPEST, own=own)
            x, y = torch.randn(64, 64), torch.randint(0, 10, (64,))
        nn.functional.cross_entropy(made(x), y).backward()
        weights = [p for p in made.parameters() if p.ndim == 2]
        norms = [float(torch.linalg.vector_norm(p.grad)) for p in weights if p.grad is not None]
        ratios.append(norms[0] / norms[-1])
    return float(np.median(ratios))


def _cost(known: Activation, rounds: int = 30) -> Floats:
    """[rounds] seconds of a pass forward and back."""
    x, function = torch.randn(32, 32, 32, requires_grad=True), known.function()
    ones, taken = torch.ones(32, 32, 32), []
    for _ in range(rounds + 3):
        began = time.perf_counter()
        for _ in range(10):
            torch.autograd.grad(function(x), x, ones)
        taken.append((time.perf_counter() - began) / 10)
    return np.array(taken[3:])
