"""Study ``losses``: which number each loss finds, and what a softmax applied twice does (L1 to L3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import ndtr

from ... import layers, losses, rules, schedules, specs, tasks
from ...figure import Figure, Scale
from ...records import Record
from ...specs import Loss
from ...tasks.base import Task
from ..claims import Answer, Claim, Criterion, Table
from ..inquiry import inquiry
from ..lab import Floats, Lab, Side, Trials, outputs
from ..pictures import legend, lines, rows
from ..stats import interval

L1 = Claim(
    "L1", "Loss functions: L2 = MSE, or L1 = MAE",
    "Where the noise is lopsided, least squares finds the mean of the targets and least absolute deviations their median.",
    {
        "mse": Criterion("where MSE's model lies, the median being 0 and the mean 1", above=0.8, below=1.2),
        "mae": Criterion("where MAE's model lies, the median being 0 and the mean 1", above=-0.2, below=0.2),
    },
)  # fmt: skip
L2 = Claim(
    "L2", "Loss functions: cosine similarity",
    "One minus the cosine similarity does not see the size of the output, its gradient is orthogonal to the output, and "
    "an output of zeros has a loss and a gradient.",
    {
        "scale": Criterion("largest change of the loss when outputs are multiplied by 1e-3 to 1e3", below=1e-12),
        "angle": Criterion("largest cosine between gradient and output", below=1e-12),
        "zero": Criterion("loss and gradients at an output of zeros that are not finite (count)", below=0.5),
    },
)  # fmt: skip
L3 = Claim(
    "L3", "Cross-entropy: be careful not to apply the softmax twice",
    "With the softmax applied twice the loss has a floor of log(e + K - 1) - 1 nats for K classes, and on clean labels a "
    "training needs more steps.",
    {
        "floor": Criterion("distance of the lowest loss that gradient descent finds from the floor, for K = 2 to 1000", below=1e-9),
        "slower": Criterion("steps to 95 % accuracy with the softmax twice, over those with it once (log2)", above=0.0),
    },
)  # fmt: skip

TWICE = "fallline.studies.lecture.losses:softmax_twice"
TARGET = 0.95
NOISE = 0.4


def softmax_twice(given: Any, h: Any) -> torch.Tensor:
    """Cross-entropy of the probabilities, as if they were logits: what a model that ends in a softmax is trained by."""
    p = given.prediction.softmax(1)
    return p.exp().sum(1).log() - p.gather(1, given.target.long().unsqueeze(1)).squeeze(1)


def twice_applied() -> Loss:
    """The loss of a softmax twice; it is made known when it is asked for, so that it counts as no loss of everyone's."""
    known = losses.base.Behavior(softmax_twice, frozenset({"prediction", "target"}), "example")
    specs.register(Loss, TWICE, known)
    return Loss(TWICE)


@inquiry("losses", [L1, L2, L3], minutes=3, quick=0.5)
def study(lab: Lab) -> Iterator[Answer]:
    """What does each loss make of the same data, and what does a softmax too many cost?"""
    yield mean_and_median(lab)
    yield cosine(lab)
    yield twice(lab)


# --- L1 -----------------------------------------------------------------------------------------------------

SHARE, SHIFT, SPREAD, OUTLIERS = 0.25, 2.0, 0.25, 0.5
"""A quarter of the targets is shifted up by 2; the others have normal noise of 0.25, those of 0.5."""


def curve(x: Floats) -> Floats:
    """The curve that is to be found."""
    return np.sin(2 * x)


def offsets() -> tuple[float, float]:
    """The mean and the median of the noise, from its distribution."""

    def below(v: float) -> float:
        return float((1 - SHARE) * ndtr(v / SPREAD) + SHARE * ndtr((v - SHIFT) / OUTLIERS))

    return SHARE * SHIFT, float(brentq(lambda v: below(v) - 0.5, -2, 2, xtol=1e-14))


def sampled(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Inputs [count, 1] and targets [count, 1]."""
    x = random.uniform(-2, 2, count)
    out = random.random(count) < SHARE
    noise = np.where(out, SHIFT + OUTLIERS * random.normal(size=count), SPREAD * random.normal(size=count))
    return x[:, None], (curve(x) + noise)[:, None]


def mean_and_median(lab: Lab) -> Answer:
    """Train one model by each loss on data whose noise has another mean than median."""
    steps, examples = lab.few(2_000, 500), lab.few(2_000, 1_000)
    train, validation, test = (
        sampled(lab.random(1, part), count) for part, count in enumerate((20_000, 2_000, 2_000))
    )
    rule = rules.adam(lr=schedules.cosine(specs.log_axis(2e-3, 5e-2, 4), steps))
    sides = {
        name: Side(
            tasks.Task.supervised(
                lambda: layers.mlp(1, 32, 32, 1, activation="tanh"), train, validation, test, loss=loss, score="loss",
                name=f"outliers, {name}",
            ),
            rule, {"data": {"subset": examples}},
        )
        for name, loss in (("MSE", losses.mse), ("MAE", losses.mae))
    }  # fmt: skip
    trials = lab.compare(sides, steps=steps, batch=64)
    x = np.linspace(-1.8, 1.8, 73)
    found = {
        name: np.array([_places(side.task, record, x) for record in lab.again(trials, name)])
        for name, side in sides.items()
    }
    mean, median = offsets()
    shares = {name: (own - median).mean(1) / (mean - median) for name, own in found.items()}
    drawn = {
        **{name: own + curve(x) for name, own in found.items()}, "the mean": curve(x) + mean, "the median": curve(x) + median,
    }  # fmt: skip
    panels = (
        lines(x, drawn, Scale("input"), Scale("output")),
        rows(shares, Scale("place between median (0) and mean (1)"), at=0.0),
    )
    picture = Figure(
        "mean-and-median", f"MSE's model lies at {shares['MSE'].mean():.2f} and MAE's at {shares['MAE'].mean():.2f} of the way from median to mean",
        panels, f"Means over {len(x)} inputs and over replicates, each with {examples:,} examples of its own; bands and bars: 95 % intervals.",
        legend(drawn),
    )  # fmt: skip
    note = f"{SHARE:.0%} of the targets are shifted up by {SHIFT:g}: the noise has the mean {mean:.3f} and the median {median:.3f}."
    return Answer(L1, {"mse": shares["MSE"], "mae": shares["MAE"]}, [picture], notes=[note])


def _places(task: Task, record: Record, x: Floats) -> Floats:
    """How far above the curve a model's outputs lie, [inputs]."""
    return outputs(task, record, torch.as_tensor(x[:, None], dtype=torch.float32))[:, 0] - curve(x)


# --- L2 -----------------------------------------------------------------------------------------------------


def cosine(lab: Lab) -> Answer:
    """Compute, in float64, what is claimed of every output, on a thousand of them."""
    random = lab.random(2)
    output = torch.tensor(random.normal(size=(1000, 7)), requires_grad=True)
    target = torch.tensor(random.normal(size=(1000, 7)))
    each = torch.func.vmap(lambda p, t: losses.cosine(p[None], t[None]))
    found = each(output, target)
    scales = torch.tensor(10 ** random.uniform(-3, 3, size=(1000, 1)))
    change = (each(scales * output, target) - found).detach().abs().max()
    (gradient,) = torch.autograd.grad(found.sum(), output)
    angle = torch.nn.functional.cosine_similarity(gradient, output.detach()).abs().max()
    zero = torch.zeros(1, 7, dtype=torch.float64, requires_grad=True)
    at_zero = losses.cosine(zero, target[:1])
    (slope,) = torch.autograd.grad(at_zero, zero)
    lost = (~torch.isfinite(torch.cat([at_zero.detach().reshape(1), slope.flatten()]))).sum()
    note = (
        "The slide gives the similarity itself, which is largest where output and target agree: the loss is one minus it. "
        f"An output of zeros has no direction; its loss is {float(at_zero.detach()):g} here."
    )
    return Answer(L2, {"scale": float(change), "angle": float(angle), "zero": float(lost)}, notes=[note])


# --- L3 -----------------------------------------------------------------------------------------------------


def floor(classes: int) -> float:
    """The lowest cross-entropy of a softmax twice: the first one's outputs can be no farther apart than 1 and 0.

    >>> round(floor(10), 3)
    1.461
    """
    return math.log(math.e + classes - 1) - 1


def lowest(classes: int) -> float:
    """The loss to which gradient descent on the logits of one example comes, in float64."""
    logits = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True)
    target = torch.zeros(1, dtype=torch.int64)
    optimizer = torch.optim.Rprop([logits], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        loss = twice_applied()(logits, target)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def twice(lab: Lab) -> Answer:
    """Train on digits with the softmax once and twice, on clean and on noisy labels, each at its own best rate."""
    far = max(abs(lowest(classes) - floor(classes)) for classes in (2, 3, 10, 100, 1000))
    steps = lab.few(3_000, 600)
    digits = tasks.digits()
    kinds = {"once": losses.cross_entropy, "twice": twice_applied()}
    models = {
        name: tasks.Task.supervised(
            lambda: layers.mlp(64, 32, 10), *(_pair(digits, part) for part in ("train", "validation", "test")), loss=loss,
            score="accuracy", name=f"digits, softmax {name}",
        )
        for name, loss in kinds.items()
    }  # fmt: skip
    rule = rules.adam(lr=specs.log_axis(1e-3, 1e-1, 7))
    trials = {
        noise: lab.compare(
            {name: Side(task, rule, {"data": {"label_noise": noise}} if noise else {}) for name, task in models.items()},
            steps=steps,
        )
        for noise in (0.0, NOISE)
    }  # fmt: skip
    needed = {name: _steps_to(trials[0.0], name) for name in kinds}
    slower = np.log2(needed["twice"] / needed["once"])
    scores = {(noise, name): found.finals(name) for noise, found in trials.items() for name in kinds}
    table = Table(
        f"Test accuracy after {steps:,} steps, each at the rate that is best for it: mean [95 % interval]",
        ("labels changed", "softmax once", "softmax twice", "twice − once"),
        tuple(
            (f"{noise:.0%}", _told(scores[noise, "once"]), _told(scores[noise, "twice"]), _told(scores[noise, "twice"] - scores[noise, "once"]))
            for noise in trials
        ),
    )  # fmt: skip
    gain = interval(scores[NOISE, "twice"] - scores[NOISE, "once"])
    notes = [
        f"Under {NOISE:.0%} of changed labels the second softmax {_effect(gain.low, gain.high)}: it bounds what one wrong label can cost.",
        "Rates were tuned for each side by validation accuracy; on clean labels a softmax too many mostly asks for a larger one.",
    ]
    return Answer(L3, {"floor": far, "slower": slower}, [_curves(trials)], [table], notes)


def _pair(task: Task, part: str) -> tuple[Any, Any]:
    return task.parts[part]["inputs"], task.parts[part]["target"]


def _steps_to(trials: Trials, arm: str) -> Floats:
    """[replicates] the first evaluated step at which a run's validation accuracy reaches the target; NaN where none does."""
    found = []
    for record in trials.records(arm):
        score = record.series["validation_score"]
        reached = score.values >= TARGET
        found.append(float(score.steps[np.argmax(reached)]) if reached.any() else math.nan)
    return np.array(found)


def _curves(trials: dict[float, Trials]) -> Figure:
    panels = []
    for noise, found in trials.items():
        drawn = {
            f"softmax {name}": np.array([r.series["validation_score"].values for r in found.records(name)])
            for name in ("once", "twice")
        }
        steps = found.records("once")[0].series["validation_score"].steps
        panels.append(
            lines(steps[1:], {k: v[:, 1:] for k, v in drawn.items()}, Scale("step", log=True), Scale("validation accuracy"), title=f"{noise:.0%} of labels changed")
        )  # fmt: skip
    return Figure(
        "softmax-twice", "A second softmax slows the training, and changes what label noise does", tuple(panels),
        "Means over replicates with 95 % intervals, each side at its own best rate.", legend(drawn),
    )  # fmt: skip


def _told(values: Floats) -> str:
    found = interval(values)
    ends = "" if found.low is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return "–" if found.value is None else f"{found.value:.3f}{ends}"


def _effect(low: float | None, high: float | None) -> str:
    if low is None or high is None or low <= 0 <= high:
        return "makes no difference that could be told apart from chance"
    return "helps the test accuracy" if low > 0 else "harms the test accuracy"
