"""Study ``style-transfer``: how content and style trade off, and which rule makes the picture (S1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from ... import rules
from ...figure import Figure, Mark, Panel, Scale
from ...records import Record
from ...specs import Rule, Run
from ...tasks import images
from ...tasks.base import Task
from ...tasks.bundled import picture
from ..claims import Answer, Claim, Criterion, Picture, Table
from ..inquiry import inquiry
from ..lab import Floats, Lab
from ..pictures import legend, lines

S1 = Claim(
    "S1", "Custom loss functions: style transfer",
    "As β/α grows, the picture comes nearer to the style and farther from the content; and the losses are those of the slides.",
    {
        "style": Criterion("rank correlation of β with the style loss", below=-0.8),
        "content": Criterion("rank correlation of β with the content loss", above=0.8),
        "equations": Criterion("largest relative difference from the slides' sums, written out as loops", below=1e-9),
    },
)  # fmt: skip

BETAS = (0.1, 1.0, 10.0, 100.0, 1_000.0)
MIDDLE = 100.0
"""The β at which rules are compared."""


@inquiry("style-transfer", [S1], minutes=6, quick=1.5)
def study(lab: Lab, content: str = "", style: str = "", size: int = 96) -> Iterator[Answer]:
    """How do content and style trade off along β/α?"""
    steps, seeds = lab.few(120, 30), lab.seeds(lab.few(5, 3))
    pair = (content or picture("china.jpg"), style or picture("flower.jpg"))
    task = images.style_transfer(*pair, size=size)
    asked = [Run(rules.lbfgs(), seed=seed, loss={"beta": beta}) for seed in seeds for beta in BETAS]
    records = lab.train(task, asked, steps=steps, weights=True, judge=False)
    found = np.array([_losses(task, record) for record in records]).reshape(len(seeds), len(BETAS), 2)
    ranks = {
        what: np.array([float(spearmanr(BETAS, own[:, i]).statistic) for own in found])
        for i, what in enumerate(("content", "style"))
    }
    curves, rates = _compared(lab, task, steps, seeds)
    ends = {name: own[:, -1] for name, own in curves.items()}
    table = Table(
        f"Loss after {steps} steps at β = {MIDDLE:g}, means over {len(seeds)} starts", ("rule", "learning rate", "loss"),
        tuple((name, rates[name], float(np.mean(own))) for name, own in ends.items()),
    )  # fmt: skip
    front = _front(found)
    logs = {name: np.log10(own) for name, own in curves.items()}
    race = lines(
        _evaluated(curves),
        logs,
        Scale("evaluation"),
        Scale("log₁₀ of the loss"),
        title=f"rules at β = {MIDDLE:g}",
    )
    best = min(ends, key=lambda name: float(np.mean(ends[name])))
    drawn = Figure(
        "style-transfer", f"{_bought(ranks)}; {best} gets lowest in {steps} steps", (front, race),
        f"Left: a dot for each picture, {len(seeds)} starts for each β. Right: means over starts with 95 % intervals.",
        legend(curves),
    )  # fmt: skip
    sheet = tuple(
        Picture(f"β = {beta:g}", images.composed(_levels(record)))
        for beta, record in zip(BETAS, records, strict=False)
    )
    notes = [
        "The slide sums the Gram matrix over channels; the equation that it is taken from, and this study, sum over positions.",
        "The features are random: they carry color and texture, and know no objects.",
    ]
    values: dict[str, Any] = {"style": ranks["style"], "content": ranks["content"], "equations": _far()}
    yield Answer(S1, values, [drawn], [table], notes, sheet)


def _bought(ranks: dict[str, Floats]) -> str:
    bought = ranks["style"].mean() < -0.8 and ranks["content"].mean() > 0.8
    return "Style is bought with content" if bought else "Content and style do not trade off in order of β"


def _evaluated(curves: dict[str, Floats]) -> Floats:
    return np.arange(1, next(iter(curves.values())).shape[1] + 1, dtype=np.float64)


def _levels(record: Record) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(value) for name, value in record.weights.items()}


def _losses(task: Task, record: Record) -> tuple[float, float]:
    """L_content and Σ_l w_l E_l of the picture that a run made, from the task's loss at (α, β) = (1, 0) and (0, 1)."""
    levels = _levels(record)
    with torch.no_grad():
        both = [task.loss(levels, {}, {}, {"alpha": a, "beta": 1.0 - a})[0] for a in (1.0, 0.0)]
    return float(both[0]), float(both[1])


def _compared(
    lab: Lab, task: Task, steps: int, seeds: list[int]
) -> tuple[dict[str, Floats], dict[str, float]]:
    """By rule, [seeds, points] the training loss at the best of its rates, and that rate."""
    ladders: dict[str, tuple[Callable[..., Rule], tuple[float, ...]]] = {
        "lbfgs": (rules.lbfgs, (1.0,)),
        "adam": (rules.adam, (1e-3, 4e-3, 1.6e-2)),
        "momentum": (rules.momentum, (1e-4, 1e-3, 1e-2)),
    }
    asked = [(name, rate) for name, (_, rates) in ladders.items() for rate in rates]
    runs = [
        Run(ladders[name][0](lr=rate), seed=seed, loss={"beta": MIDDLE})
        for name, rate in asked
        for seed in seeds
    ]
    records = lab.train(task, runs, steps=steps, judge=False)
    curves: dict[str, Floats] = {}
    chosen: dict[str, float] = {}
    for i, (name, rate) in enumerate(asked):
        own = records[i * len(seeds) : (i + 1) * len(seeds)]
        if any(record.outcome.diverged for record in own):
            continue
        found = np.array([record.series["train_loss"].values for record in own], dtype=np.float64)
        if name not in curves or found[:, -1].mean() < curves[name][:, -1].mean():
            curves[name], chosen[name] = found, rate
    return curves, chosen


def _front(found: Floats) -> Panel:
    middle = found.mean(0)
    marks = (
        Mark("points", found[..., 0].ravel(), found[..., 1].ravel(), role="faint"),
        Mark("line", middle[:, 0], middle[:, 1], style=0),
        Mark(
            "text", middle[:, 0], middle[:, 1], text=tuple(f"β = {beta:g}" for beta in BETAS), role="context"
        ),
    )
    alt = (
        "style loss against content loss: from left to right the content loss rises and the style loss falls"
    )
    return Panel(
        Scale("content loss", log=True), Scale("style loss", log=True), marks, alt=alt, title="the family"
    )


def _far() -> float:
    """How far the losses are from the slides' sums, on small random features, in float64."""
    random = np.random.default_rng(0)
    f, p, a = random.random((3, 1, 3, 4, 5))
    n, m = 3, 20

    def g(x: Floats) -> Floats:
        flat = x.reshape(n, m)
        return np.array(
            [[sum(flat[i, k] * flat[j, k] for k in range(m)) for j in range(n)] for i in range(n)]
        )

    content = 0.5 * sum(
        (f.reshape(n, m)[i, j] - p.reshape(n, m)[i, j]) ** 2 for i in range(n) for j in range(m)
    )
    style = sum((g(f)[i, j] - g(a)[i, j]) ** 2 for i in range(n) for j in range(n)) / (4 * n**2 * m**2)
    ours = [
        images.content_loss(torch.as_tensor(f), torch.as_tensor(p)),
        images.style_loss(torch.as_tensor(f), images.gram(torch.as_tensor(a))),
    ]
    return max(abs(float(own) / true - 1) for own, true in zip(ours, (content, style), strict=True))
