"""Study ``costs``: when a missed yes costs more than a false one (L4)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ... import layers, losses, rules, schedules, specs
from ...figure import Figure, Mark, Panel, Scale
from ...specs import Loss
from ...tasks.base import Task
from ..claims import Answer, Claim, Criterion, Table
from ..inquiry import inquiry
from ..lab import Floats, Lab, Side, outputs
from ..pictures import rows

NEAR, FAR = 0.10, 0.20
"""Written down before: a cost this share above the lowest possible one is near it, or far from it."""

L4 = Claim(
    "L4", "Custom loss functions: different cost of false positives and negatives",
    "Where errors cost differently, both ways come near the lowest possible cost: to train on the costs themselves, and to "
    "train on cross-entropy and move the threshold; cross-entropy alone does not.",
    {
        "moved": Criterion("cost above the lowest possible, as its share: cross-entropy, threshold moved", below=NEAR),
        "expected": Criterion("the same: expected cost as the loss", below=NEAR),
        "weighted": Criterion("the same: cross-entropy that weighs yes by its cost", below=NEAR),
        "plain": Criterion("the same: cross-entropy, threshold one half", above=FAR),
    },
)  # fmt: skip

BASE = 0.3
"""The share of yes."""
MEANS, SPREADS = ((-0.6, 0.0), (0.8, 0.4)), ((1.0, 1.0), (0.7, 1.3))
"""Of the two normal densities of no and yes, along two independent inputs."""


def probability(x: Floats) -> Floats:
    """The probability of yes at inputs [n, 2], from the densities."""
    log = [
        np.log(share) - sum(0.5 * ((x[:, i] - m[i]) / s[i]) ** 2 + np.log(s[i]) for i in range(2))
        for share, m, s in zip((1 - BASE, BASE), MEANS, SPREADS, strict=True)
    ]
    return np.asarray(1 / (1 + np.exp(log[0] - log[1])), dtype=np.float64)


def sampled(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Inputs [count, 2] and truths [count, 1]."""
    yes = (random.random(count) < BASE).astype(int)
    x = np.array(MEANS)[yes] + np.array(SPREADS)[yes] * random.normal(size=(count, 2))
    return x, yes[:, None].astype(np.float64)


def paid(decided: NDArray[np.bool_], p: Floats, ratio: float) -> float:
    """The mean cost of decisions where yes has the probability p: a false yes costs 1, a missed one ``ratio``."""
    return float(np.mean(np.where(decided, 1 - p, ratio * p)))


@inquiry("costs", [L4], minutes=2, quick=0.5)
def study(lab: Lab, ratio: float = 8.0) -> Iterator[Answer]:
    """When a missed yes costs more than a false one: which loss, which threshold?"""
    steps, examples = lab.few(1_500, 500), lab.few(2_000, 1_000)
    train, validation, test = (
        sampled(lab.random(1, part), count) for part, count in enumerate((40_000, 4_000, 20_000))
    )
    rule = rules.adam(lr=schedules.cosine(specs.log_axis(1e-3, 3e-2, 4), steps))
    bce = losses.binary_cross_entropy
    kinds: dict[str, Loss] = {
        "cross-entropy": bce, "expected cost": losses.expected_cost(false_negative=ratio), "weighted": bce(positive=ratio),
    }  # fmt: skip

    def task(name: str, loss: Loss) -> Task:
        return Task.supervised(
            lambda: layers.mlp(2, 16, 16, 1, activation="tanh"), train, validation, test, loss=loss, score="loss", name=name
        )  # fmt: skip

    sides = {
        name: Side(task(name, loss), rule, {"data": {"subset": examples}}) for name, loss in kinds.items()
    }
    trials = lab.compare(sides, steps=steps, batch=64)
    x = torch.as_tensor(test[0], dtype=torch.float32)
    p = probability(test[0])
    logits = {
        name: [outputs(side.task, record, x)[:, 0] for record in lab.again(trials, name)]
        for name, side in sides.items()
    }
    lowest = paid(ratio * p > 1 - p, p, ratio)
    moved = losses.bayes_threshold(1.0, ratio)
    ways = {
        "cross-entropy, threshold moved": ("cross-entropy", float(np.log(moved / (1 - moved)))),
        "expected cost": ("expected cost", 0.0),
        "cross-entropy, yes weighed": ("weighted", 0.0),
        "cross-entropy, threshold one half": ("cross-entropy", 0.0),
    }
    above = {
        label: np.array([paid(z > end, p, ratio) / lowest - 1 for z in logits[name]])
        for label, (name, end) in ways.items()
    }
    values = dict(zip(("moved", "expected", "weighted", "plain"), above.values(), strict=True))
    table = Table(
        f"Mean cost, a false yes costing 1 and a missed one {ratio:g}; the lowest possible is {lowest:.4f}",
        ("way", "mean cost", "above the lowest, %"),
        tuple((label, float(np.mean(lowest * (1 + own))), float(100 * np.mean(own))) for label, own in above.items()),
    )  # fmt: skip
    cheap = [label for label, own in above.items() if np.mean(own) < NEAR]
    ends = np.linspace(-5, 5, 81)
    curves = tuple(
        Mark("line", ends, np.array([paid(logits[name][0] > end, p, ratio) for end in ends]), style=style)
        for style, name in enumerate(logits)
    )
    places = Panel(
        Scale("threshold of the output"), Scale("mean cost"), (*curves, Mark("hline", y=np.array([lowest]), role="context")),
        alt="mean cost against the threshold of the output, for the first replicate of each loss", title="first replicate",
    )  # fmt: skip
    picture = Figure(
        "costs", f"{len(cheap)} of {len(above)} ways come within {NEAR:.0%} of the lowest possible cost",
        (rows(above, Scale("cost above the lowest possible (share)"), at=0.0), places),
        "Means over replicates with 95 % intervals, each replicate with data of its own; dashed: the lowest possible cost.",
        tuple((name, style) for style, name in enumerate(logits)),
    )  # fmt: skip
    notes = [
        "The lowest possible cost is computed from the densities that the data were drawn from: yes wherever its probability is "
        f"above 1 / (1 + {ratio:g}) = {moved:.3f}.",
        "Costs of decisions are averaged over the true probabilities at 20,000 inputs, not over drawn labels.",
    ]
    yield Answer(L4, values, [picture], [table], notes)
