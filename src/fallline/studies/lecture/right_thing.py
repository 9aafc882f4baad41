"""Study ``right-thing``: what it costs to choose models by the wrong measure (O13)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from ... import layers, losses, rules
from ...figure import Figure, Mark, Panel, Scale
from ...specs import Run
from ...tasks.base import Task
from ..claims import Answer, Claim, Criterion, Table
from ..inquiry import inquiry
from ..lab import Floats, Lab, outputs
from ..pictures import rows
from .costs import paid, probability, sampled

O13 = Claim(
    "O13", "Make sure to optimize the right thing!",
    "From one family of trained models, choosing by accuracy or by cross-entropy costs more than choosing by the cost that "
    "counts, although each is the best model by its own measure.",
    {
        "accuracy": Criterion("cost of the model with the best accuracy over that of the one with the best cost, minus 1", above=0.05),
        "cross-entropy": Criterion("the same for the model with the best cross-entropy", above=0.05),
        "cost": Criterion("cost of the model with the best cost on validation over the lowest possible, minus 1", below=0.10),
    },
)  # fmt: skip

WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""How much a yes counts in training: what makes the models of the family different."""
RATES = (3e-3, 1e-2)

Measure = Callable[[Floats, Floats], float]
"""(outputs, truths) → what a model is chosen by, lower being better."""


@inquiry("right-thing", [O13], minutes=1, quick=0.5)
def study(lab: Lab, ratio: float = 8.0) -> Iterator[Answer]:
    """What does it cost to choose a model by the wrong measure?"""
    train, validation, test = (
        sampled(lab.random(1, part), count) for part, count in enumerate((40_000, 4_000, 20_000))
    )
    task = Task.supervised(
        lambda: layers.mlp(2, 16, 16, 1, activation="tanh"), train, validation, test, loss=losses.binary_cross_entropy(positive=1.0),
        score="loss", name="two densities",
    )  # fmt: skip
    family = [(rate, weight) for rate in RATES for weight in WEIGHTS]
    runs = [
        Run(rules.adam(lr=rate), seed=seed, loss={"positive": weight}, data={"subset": 1_000, "draw": seed})
        for seed in lab.seeds() for rate, weight in family
    ]  # fmt: skip
    records = lab.train(task, runs, steps=lab.few(1_000, 300), batch=64, weights=True, judge=False)
    known = [
        [outputs(task, record, torch.as_tensor(x, dtype=torch.float32))[:, 0] for record in records]
        for x in (validation[0], test[0])
    ]
    p = probability(test[0])
    true = np.array([paid(z > 0, p, ratio) for z in known[1]]).reshape(-1, len(family))
    lowest = paid(ratio * p > 1 - p, p, ratio)
    chosen = {
        name: np.array([measure(z, validation[1][:, 0]) for z in known[0]]).reshape(-1, len(family)).argmin(1)
        for name, measure in _measures(ratio).items()
    }
    replicates = np.arange(len(true))
    costs = {name: true[replicates, own] for name, own in chosen.items()}
    regret = {name: own / costs["cost"] - 1 for name, own in costs.items() if name != "cost"}
    table = Table(
        f"What the chosen model costs: a false yes 1, a missed one {ratio:g}; the lowest possible is {lowest:.4f}",
        ("chosen by", "weight of yes that is chosen (median)", "mean cost"),
        tuple(
            (name, float(np.median([family[i][1] for i in own])), float(costs[name].mean())) for name, own in chosen.items()
        ),
    )  # fmt: skip
    told = " and ".join(f"{own.mean():.0%} by {name}" for name, own in regret.items())
    picture = Figure(
        "right-thing", f"Choosing by the wrong measure costs {told} more", (rows(regret, Scale("regret (share)"), at=0.0), _family(true, lowest)),
        "Left: means over replicates with 95 % intervals. Right: cost against the weight of yes in training, means over replicates.",
    )  # fmt: skip
    note = f"The same {len(family)} trained models are chosen from in all rows; only the measure on validation differs."
    values = {**regret, "cost": costs["cost"] / lowest - 1}
    yield Answer(O13, {name: values[name] for name in O13.criteria}, [picture], [table], [note])


def _measures(ratio: float) -> dict[str, Measure]:
    def wrong(z: Floats, y: Floats) -> float:
        return float(np.mean((z > 0) != (y > 0)))

    def cross_entropy(z: Floats, y: Floats) -> float:
        return float(-np.mean(np.log(np.clip(np.where(y > 0, expit(z), expit(-z)), 1e-300, None))))

    def cost(z: Floats, y: Floats) -> float:
        yes: NDArray[np.bool_] = z > 0
        return float(np.mean(np.where(yes, y == 0, ratio * (y > 0))))

    return {"accuracy": wrong, "cross-entropy": cross_entropy, "cost": cost}


def _family(true: Floats, lowest: float) -> Panel:
    shaped = true.reshape(len(true), len(RATES), len(WEIGHTS)).mean(0)
    marks = [Mark("line", np.array(WEIGHTS), row, style=i) for i, row in enumerate(shaped)]
    alt = (
        "mean cost of the trained models against the weight of yes in training, a line for each learning rate"
    )
    at = Mark("hline", y=np.array([lowest]), role="context")
    return Panel(
        Scale("weight of yes in training", log=True),
        Scale("mean cost"),
        (*marks, at),
        alt=alt,
        title="the family",
    )
