"""Study ``soft-constraint``: a new task learned without forgetting an old model (L5)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ... import layers, losses, rules, specs, tasks
from ...figure import Figure, Mark, Panel, Scale
from ...records import Record
from ...specs import Loss, Run
from ...tasks.base import Task
from ..claims import Answer, Claim, Criterion, Table
from ..inquiry import inquiry
from ..lab import Floats, Lab, Side, outputs
from ..pictures import rows

KEPT, PRICE = 0.05, 0.10

L5 = Claim(
    "L5", "Custom loss functions: the model should be similar to an existing model",
    "Fine-tuned on a few examples of a new task, a model that is held to the old one, by its weights or by its outputs, keeps "
    "more of the old task, at a price on the new one.",
    {
        "weights": Criterion("accuracy on the old task that L2 to the old weights keeps, over plain fine-tuning", above=KEPT),
        "outputs": Criterion("accuracy on the old task that KL to the old outputs keeps, over plain fine-tuning", above=KEPT),
        "price of weights": Criterion("accuracy on the new task that the first costs", below=PRICE),
        "price of outputs": Criterion("accuracy on the new task that the second costs", below=PRICE),
    },
)  # fmt: skip

STRENGTHS = {"weights": (0.01, 0.03, 0.1, 0.3, 1.0), "outputs": (0.1, 0.3, 1.0, 3.0, 10.0)}
FEW = 100


def turned(x: Tensor) -> Tensor:
    """Digits, [n, 64], turned by a quarter: the new task."""
    return torch.rot90(x.reshape(-1, 8, 8), 1, (1, 2)).reshape(-1, 64)


@inquiry("soft-constraint", [L5], minutes=3, quick=0.5)
def study(lab: Lab) -> Iterator[Answer]:
    """Does holding a model to an old one keep what that knew, and at what price?"""
    digits = tasks.digits()
    parts = {
        part: (digits.parts[part]["inputs"], digits.parts[part]["target"])
        for part in ("train", "validation", "test")
    }
    old = _old(lab, digits)
    kinds: dict[str, Loss] = {
        "plain": losses.cross_entropy,
        "weights": losses.cross_entropy + 1.0 * losses.l2_sp(old=old, alpha=1.0, beta=0.0),
        "outputs": losses.cross_entropy + 1.0 * losses.distillation(old=old),
    }
    models = {
        name: Task.supervised(
            lambda: _copy(old), *((turned(x), y) for x, y in parts.values()), loss=loss, score="accuracy", batch=20,
            name=f"turned digits, {name}",
        )
        for name, loss in kinds.items()
    }  # fmt: skip
    rule, given = rules.adam(lr=specs.log_axis(1e-3, 1e-2, 3)), {"data": {"subset": FEW}}
    sides = {"plain": Side(models["plain"], rule, given)}
    for name, strengths in STRENGTHS.items():
        sides |= {
            f"{name} {s:g}": Side(models[name], rule, {**given, "loss": {"1.weight": s}}) for s in strengths
        }
    trials = lab.compare(sides, steps=lab.few(400, 150))
    scores: dict[str, dict[str, Floats]] = {}
    for label, side in sides.items():
        records = lab.again(trials, label)
        scores[label] = {
            f"{which} {part}": np.array([_accuracy(side.task, record, x if which == "old" else turned(x), y) for record in records])
            for part, (x, y) in parts.items() if part != "train"
            for which in ("old", "new")
        }  # fmt: skip
    plain, values = scores["plain"], {}
    chosen = {name: _chosen(scores, [f"{name} {s:g}" for s in STRENGTHS[name]]) for name in STRENGTHS}
    for name, found in chosen.items():
        values[name] = found["old"] - plain["old test"]
        values[f"price of {name}"] = plain["new test"] - found["new"]
    before = {
        which: _accuracy_of(old, x, parts["test"][1])
        for which, x in (("old", parts["test"][0]), ("new", turned(parts["test"][0])))
    }
    table = Table(
        f"Test accuracy after fine-tuning on {FEW} turned digits, means over replicates", ("held to", "old task", "new task"),
        (
            ("not fine-tuned", before["old"], before["new"]),
            *((label, float(own["old test"].mean()), float(own["new test"].mean())) for label, own in scores.items()),
        ),
    )  # fmt: skip
    kept = {
        f"{name}: {what}": values[key]
        for name in STRENGTHS
        for what, key in (("old kept", name), ("new paid", f"price of {name}"))
    }
    picture = Figure(
        "soft-constraint", _title(values), (_front(scores), rows(kept, Scale("accuracy, against plain fine-tuning"), at=0.0)),
        "Left: means over replicates, a line along the strength of each constraint. Right: the strength that is best on validation "
        "for both tasks together, means with 95 % intervals.",
        (("L2 to the old weights", 0), ("KL to the old outputs", 1)),
    )  # fmt: skip
    notes = [
        f"The old model reads upright digits (accuracy {before['old']:.3f}); the new task is to read them turned by a quarter.",
        "Each strength at its own best learning rate on the new task. One old model; replicates differ in the examples of the new "
        "task and their order.",
    ]
    yield Answer(L5, {name: values[name] for name in L5.criteria}, [picture], [table], notes)


def _old(lab: Lab, digits: Task) -> nn.Module:
    """The existing model."""
    (record,) = lab.train(
        digits, [Run(rules.adam(lr=3e-3), seed=lab.seed)], steps=lab.few(1_500, 500), weights=True
    )
    assert digits.module is not None
    old = layers.mlp(64, 32, 10)
    old.load_state_dict({name: torch.as_tensor(value) for name, value in record.weights.items()})
    return old


def _copy(old: nn.Module) -> nn.Module:
    made = layers.mlp(64, 32, 10)
    made.load_state_dict(old.state_dict())
    return made


def _accuracy(task: Task, record: Record, x: Tensor, y: Tensor) -> float:
    return float(np.mean(outputs(task, record, x).argmax(1) == y.numpy()))


def _accuracy_of(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def _chosen(scores: dict[str, dict[str, Floats]], labels: list[str]) -> dict[str, Floats]:
    """[replicates] test accuracies of the strength whose two validation accuracies have the highest sum."""
    both = np.array([scores[label]["old validation"] + scores[label]["new validation"] for label in labels])
    best = both.argmax(0)
    return {
        which: np.array([scores[labels[i]][f"{which} test"][r] for r, i in enumerate(best)])
        for which in ("old", "new")
    }


def _title(values: dict[str, Floats]) -> str:
    told = [
        f"{'weights' if name == 'weights' else 'outputs'} keep {values[name].mean():+.2f} of the old for {values[f'price of {name}'].mean():.2f} of the new"
        for name in STRENGTHS
    ]
    return f"Held by {' ; by '.join(told)}"


def _front(scores: dict[str, dict[str, Floats]]) -> Panel:
    plain = scores["plain"]
    marks = [
        Mark("points", plain["new test"].mean(), plain["old test"].mean()),
        Mark("text", plain["new test"].mean(), plain["old test"].mean(), text=("plain",), role="context"),
    ]
    for style, (name, strengths) in enumerate(STRENGTHS.items()):
        own = [scores[f"{name} {s:g}"] for s in strengths]
        x, y = (np.array([one[f"{which} test"].mean() for one in own]) for which in ("new", "old"))
        marks += [Mark("line", x, y, style=style), Mark("points", x, y, style=style)]
    alt = "accuracy on the old task against that on the new one, along the strength of each constraint"
    return Panel(
        Scale("accuracy on the new task"),
        Scale("accuracy on the old task"),
        tuple(marks),
        alt=alt,
        title="what is kept, what is paid",
    )
