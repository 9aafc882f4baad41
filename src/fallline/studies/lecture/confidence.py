"""Study ``confidence``: what a penalty on confidence does to probabilities (L6)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from ... import layers, losses, rules, tasks
from ...figure import Figure, Scale
from ...tasks.base import Task
from ..claims import Answer, Claim, Criterion, Table
from ..inquiry import inquiry
from ..lab import Floats, Lab, Side, outputs
from ..pictures import lines

L6 = Claim(
    "L6", "Regularization: output probability close to 0.5",
    "A penalty on confidence makes the probabilities of an overconfident net truer, up to a point: a large one ruins them.",
    {
        "overconfident": Criterion("mean confidence minus accuracy, without a penalty (shares)", above=0.0),
        "helps": Criterion("calibration error without a penalty minus that with the best one (shares)", above=0.0),
        "ruins": Criterion("calibration error with the largest penalty minus that with the best one (shares)", above=0.0),
    },
)  # fmt: skip

PENALTIES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
BINS = 15


def calibration_error(p: Floats, y: Floats) -> float:
    """The expected calibration error: Σ_b n_b / n · |accuracy_b − confidence_b| over 15 equal bins of the largest probability.

    >>> calibration_error(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1]))
    0.0

    Source: Guo et al., On calibration of modern neural networks, 2017.
    """
    sure, right = p.max(1), p.argmax(1) == y
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(float(np.sum(right[place == b]) - np.sum(sure[place == b]))) for b in range(BINS)]
    return float(sum(gaps) / len(y))


def temperature(logits: Floats, y: Floats) -> float:
    """The number that logits are divided by for the lowest cross-entropy."""

    def cost(log_t: float) -> float:
        return float(-np.mean(log_softmax(logits / np.exp(log_t), 1)[np.arange(len(y)), y]))

    return float(np.exp(minimize_scalar(cost, bounds=(-4, 4), method="bounded").x))


@inquiry("confidence", [L6], minutes=3, quick=0.5)
def study(lab: Lab, noise: float = 0.2) -> Iterator[Answer]:
    """Does a penalty on confidence make probabilities truer?"""
    steps, examples = lab.few(2_000, 500), 100
    digits = tasks.digits()
    parts = {
        part: (digits.parts[part]["inputs"], digits.parts[part]["target"])
        for part in ("train", "validation", "test")
    }
    task = Task.supervised(
        lambda: layers.mlp(64, 64, 10), *parts.values(), loss=losses.cross_entropy + 1.0 * losses.confidence_penalty,
        score="accuracy", name="digits, few and noisy",
    )  # fmt: skip
    rule = rules.adam(lr=1e-2)
    given = {"data": {"subset": examples, "label_noise": noise}}
    sides = {f"{beta:g}": Side(task, rule, {**given, "loss": {"1.weight": beta}}) for beta in PENALTIES}
    trials = lab.compare(sides, steps=steps)
    logits: dict[str, dict[str, list[Floats]]] = {}
    for label in sides:
        records = lab.again(trials, label)
        logits[label] = {
            part: [outputs(task, record, parts[part][0]) for record in records]
            for part in ("validation", "test")
        }
    truth = {part: parts[part][1].numpy() for part in ("validation", "test")}

    def errors(part: str) -> Floats:
        """[penalties, replicates]"""
        return np.array(
            [[calibration_error(softmax(z, 1), truth[part]) for z in logits[label][part]] for label in sides]
        )

    found, chosen = errors("test"), errors("validation").argmin(0)
    best = found[chosen, np.arange(found.shape[1])]
    scaled = np.array([
        calibration_error(softmax(z / temperature(v, truth["validation"]), 1), truth["test"])
        for v, z in zip(logits["0"]["validation"], logits["0"]["test"], strict=True)
    ])  # fmt: skip
    accuracy: Floats = np.array(
        [[float(np.mean(z.argmax(1) == truth["test"])) for z in logits[label]["test"]] for label in sides]
    )
    table = Table(
        "Over replicates, means", ("penalty", "calibration error", "accuracy"),
        (
            *((label, float(found[i].mean()), float(accuracy[i].mean())) for i, label in enumerate(sides)),
            ("chosen on validation", float(best.mean()), float(accuracy[chosen, np.arange(len(chosen))].mean())),
            ("none, but a temperature", float(scaled.mean()), float(accuracy[0].mean())),
        ),
    )  # fmt: skip
    x = np.array(PENALTIES)
    picture = Figure(
        "confidence", f"Calibration is best at a penalty of {PENALTIES[int(found.mean(1).argmin())]:g}",
        (
            lines(x, {"penalty": found.T}, Scale("penalty β (nats per nat)"), Scale("calibration error", low=0)),
            lines(x, {"penalty": accuracy.T}, Scale("penalty β (nats per nat)"), Scale("test accuracy")),
        ),
        "Means over replicates with 95 % intervals.",
    )  # fmt: skip
    gap = float((scaled - best).mean())
    notes = [
        f"The control: one temperature, fitted on validation to the net without a penalty, leaves a calibration error of "
        f"{scaled.mean():.3f}, {abs(gap):.3f} {'more' if gap > 0 else 'less'} than the penalty that validation chooses.",
        f"A replicate trains on {examples} digits of its own, {noise:.0%} of them with a wrong label, "
        "all at one learning rate, at which they come to fit these labels. Tuned for accuracy, the rate would be so small that the "
        "labels are not fitted and the net is not overconfident: no penalty helps it.",
    ]
    sure = [float(softmax(z, 1).max(1).mean()) for z in logits["0"]["test"]]
    yield Answer(
        L6,
        {"overconfident": np.array(sure) - accuracy[0], "helps": found[0] - best, "ruins": found[-1] - best},
        [picture],
        [table],
        notes,
    )
