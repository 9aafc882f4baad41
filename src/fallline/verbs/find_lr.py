"""Which learning rates train a model: a range and the edge of stability, each with an interval."""

from __future__ import annotations

import copy
import html
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import BadTask, BadValue
from ..figure import Mark, Panel, Scale
from ..records import jsonable
from ..reports import words
from ..reports.draw_svg import draw
from ..studies.find_lr import SHARE, Curve, Judgment, judged, searched
from ..studies.stats import check_level
from ..tasks.base import Task
from ..tasks.find import find
from .progress import meter
from .train import rule_of


@dataclass(frozen=True, eq=False)
class FoundRate:
    """The answer of :func:`find_lr`: it prints as sentences, and shows itself with its curve in a notebook.

    Args:
        document: the whole answer as plain data, as ``fallline find-lr --json`` prints it.
    """

    document: dict[str, Any]

    @property
    def suggestion(self) -> float | None:
        """The suggested learning rate; None where no rate works."""
        rate: float | None = self.document["suggestion"]["rate"]
        return rate

    @property
    def range(self) -> tuple[float | None, float | None]:
        """The smallest and the largest rate that work."""
        found = self.document["range"]
        return found["low"]["value"], found["high"]["value"]

    @property
    def edge(self) -> float | None:
        """The edge of stability; None where it is not on the ladder."""
        value: float | None = self.document["edge"]["value"]
        return value

    def __str__(self) -> str:
        found = self.document
        rule = re.sub(r"\blr=[^,()]*", "lr=…", found["rule"])
        asked = (
            f"{rule} on {found['task']}: {len(found['rates'])} learning rates × "
            f"{words.count(found['seeds'], 'seed')}, {words.count(found['steps'], 'step')} each from the same start"
        )
        return "\n".join([asked, *found["sentences"]])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in str(self).splitlines())
        return f"<div>{lines}{draw(_panel(self.document), 'find-lr')}</div>"


def find_lr(
    task: Task | str | nn.Module,
    rule: Any = "adam",
    *,
    train: Any = None,
    loss: Any = None,
    steps: int = 100,
    points: int = 64,
    seeds: int = 4,
    seed: int = 0,
    low: float | None = None,
    high: float | None = None,
    batch: int | None = None,
    level: float = 0.95,
    workers: int | None = None,
    executor: str = "auto",
    progress: bool | None = None,
) -> FoundRate:
    """Find the learning rates that train a model, and the rate from which on it is unstable.

    Each rate is a run of its own from the same start, for several seeds, all in one fleet: no rate sees weights that
    another one has changed. The model itself is not touched. What is compared is the validation loss after the last
    step with that before the first: the edge of stability is the largest rate at which it does not end higher. Where
    it is not on the ladder, the ladder is continued, at most twice.

    Args:
        task: a task, a built-in name or ``path/file.py:function``; or a module, whose weights are then every run's
            start, with ``train`` and ``loss``.
        rule: a rule or its name. Numbers of it that are called lr are moved together.
        train, loss: for a module: its data and its loss, as ``fl.Task.supervised`` takes them.
        steps: steps of each run.
        points: learning rates on the ladder, at least 3, at equal ratios.
        seeds: runs for each rate; they differ in the order of the data and, but for a module, in the initial weights.
        seed: the first seed.
        low, high: the ends of the ladder; left out, well beyond the range that the rule declares.
        batch: examples in a training batch; the task's where left out.
        level: the confidence level of the intervals over seeds.
        workers: processes, 0 for this one; left out, one per core where that pays.
        executor: auto, traced, compiled or alone.
        progress: whether to show a progress bar; left out, where someone is watching.

    >>> found = find_lr("iris", "sgd", steps=20, points=16, seeds=2, low=0.001, high=1000.0, workers=0)
    >>> low, high = found.range
    >>> low <= high <= found.edge and found.suggestion < found.edge
    True

    Source: the test of learning rates of Smith, Cyclical learning rates for training neural networks, 2017, which
    raises the rate within one run; here each rate starts anew. Cohen et al., Gradient descent on neural networks
    typically occurs at the edge of stability, 2021: for gradient descent the edge is 2 / curvature, for heavy ball
    2 · (1 + β) / curvature.
    """
    found = _task(task, train, loss)
    chosen, _ = rule_of(rule)
    for name, value, least in (("points", points, 3), ("seeds", seeds, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadValue(f"find_lr({name}={value!r}): {name} must be a whole number of at least {least}")
    check_level(level)
    with meter(f"finding the learning rate of {found.name}", shown=progress) as bar:
        curve = searched(
            found, chosen, points=points, seeds=range(seed, seed + seeds), steps=steps, low=low, high=high, batch=batch,
            workers=workers, executor=executor, progress=bar,
        )  # fmt: skip
    return FoundRate(_document(found, chosen, steps, curve, judged(curve, level), level))


def _task(given: Any, train: Any, loss: Any) -> Task:
    if isinstance(given, nn.Module):
        if train is None or loss is None:
            raise BadTask(
                f"a {type(given).__name__} alone cannot be trained: give its data and its loss, as in "
                "fl.find_lr(model, train=(X, y), loss=fl.losses.cross_entropy)"
            )
        start = copy.deepcopy(given)
        dtype = next((p.dtype for p in start.parameters() if p.is_floating_point()), torch.float32)
        return Task.supervised(
            lambda: copy.deepcopy(start), train, loss=loss, name=type(given).__name__, dtype=dtype
        )
    if train is not None or loss is not None:
        raise BadTask("train and loss go with a module; a task has its own")
    found = find(given) if isinstance(given, str) else given
    if not isinstance(found, Task):
        raise BadTask(
            f"find_lr takes a task such as fl.tasks.digits(), a name or a module, got a {type(found).__name__}"
        )
    return found


# --- what is told -----------------------------------------------------------------------------------------------


def _document(
    task: Task, rule: Any, steps: int, curve: Curve, known: Judgment, level: float
) -> dict[str, Any]:
    ends = [np.where(np.isfinite(row), row, math.nan) for row in curve.end]
    found: dict[str, Any] = jsonable({
        "task": task.name, "rule": repr(rule), "steps": steps, "seeds": len(curve.start), "level": level,
        "rates": curve.rates, "loss_at_start": curve.start, "losses": ends,
        "diverged": np.isinf(curve.end).sum(axis=1),
        "range": {"low": known.low.plain(), "high": known.high.plain(), "share": SHARE},
        "edge": known.edge.plain(), "suggestion": {"rate": known.suggestion, "reason": known.reason},
    })  # fmt: skip
    return {**found, "sentences": _sentences(found)}


def _sentences(found: dict[str, Any]) -> list[str]:
    low, high, limit = found["range"]["low"], found["range"]["high"], found["edge"]
    told = []
    if low["value"] is not None:
        told.append(
            f"works:      {_rate(low)} to {_rate(high)}: at least {SHARE:.0%} of the best decrease of the validation loss"
        )
    if limit["value"] is not None:
        told.append(f"edge:       {_rate(limit)}: above it the loss ends higher than it began, or diverges")
    else:
        told.append(f"edge:       not between {found['rates'][0]:.3g} and {found['rates'][-1]:.3g}")
    rate = found["suggestion"]["rate"]
    told.append(f"suggestion: {'none' if rate is None else f'{rate:.3g}'}: {found['suggestion']['reason']}")
    return told


def _rate(known: dict[str, Any]) -> str:
    if known["low"] is None:
        return f"{known['value']:.3g} (n = {known['n']})"
    return f"{known['value']:.3g} ({known['low']:.3g} to {known['high']:.3g}, n = {known['n']})"


def _panel(found: dict[str, Any]) -> Panel:
    """The loss at the end against the rate: each seed faintly, their mean where all finished."""
    rates = np.array(found["rates"])
    losses = np.array(found["losses"], dtype=np.float64)
    start = float(np.mean(found["loss_at_start"]))
    shown = np.where(losses <= 2 * max(np.max(found["loss_at_start"]), 0.0), losses, math.nan)
    mean = shown.mean(axis=1)
    kept = np.isfinite(mean)
    marks = [Mark("hline", y=np.array([start]), role="context")]
    low, high = (found["range"][end]["value"] for end in ("low", "high"))
    if low is not None:
        marks.append(Mark("vspan", low=np.array([low]), high=np.array([high]), role="context"))
    for seed in shown.T:
        own = np.isfinite(seed)
        marks.append(Mark("line", rates[own], seed[own], style=0, role="faint"))
    marks.append(Mark("line", rates[kept], mean[kept], style=0))
    alt = f"the validation loss after {found['steps']} steps for {len(rates)} learning rates; {'; '.join(found['sentences'])}"
    x, y = Scale("learning rate", log=True), Scale("validation loss at the end")
    return Panel(x, y, tuple(marks), alt=alt, size=(760, 290))
