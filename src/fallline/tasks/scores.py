"""Scores by name: one number for each example, whose mean over a part is the score.

Each example counts alike: weights are for training. A weighted training so is judged by what it does for the examples
as they come, and a training without weights beside it by the same measure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..errors import BadTask, NotFound, nearest
from .base import Batch, Metric

Score: TypeAlias = Callable[[Tensor, Batch], Tensor]


def _accuracy(prediction: Tensor, batch: Batch) -> Tensor:
    """1 where the largest output is the label's, else 0."""
    each = (prediction.argmax(1) == batch["target"]).to(torch.float32)
    return each.flatten(1).mean(1) if each.ndim > 1 else each


def _r2(prediction: Tensor, batch: Batch) -> Tensor:
    """1 − (y − f)²/Var(y), averaged over outputs; its mean over the part is the coefficient of determination."""
    each = 1 - (prediction - batch["target"]) ** 2 / batch["variance"]
    return each.flatten(1).mean(1) if each.ndim > 1 else each


def _mse(prediction: Tensor, batch: Batch) -> Tensor:
    each = (prediction - batch["target"]) ** 2
    return each.flatten(1).mean(1) if each.ndim > 1 else each


def _mae(prediction: Tensor, batch: Batch) -> Tensor:
    each = (prediction - batch["target"]).abs()
    return each.flatten(1).mean(1) if each.ndim > 1 else each


NAMED: dict[str, tuple[Score | None, Metric]] = {
    "accuracy": (_accuracy, Metric("accuracy")),
    "r2": (_r2, Metric("r2")),
    "mse": (_mse, Metric("mse", "lower")),
    "mae": (_mae, Metric("mae", "lower")),
    "loss": (None, Metric("loss", "lower")),
}


def find(score: Any, better: Any, *, classes: bool) -> tuple[Score | None, Metric]:
    """The function and the metric for a score's name or function; ``None`` stands for the loss itself."""
    if score is None:
        score = "accuracy" if classes else "r2"
    if better not in ("higher", "lower"):
        raise BadTask(f"better must be 'higher' or 'lower', got {better!r}")
    if callable(score):
        name = getattr(score, "__name__", "score")
        return _of_target(score), Metric("score" if name == "<lambda>" else name, better)
    if score not in NAMED:
        raise NotFound(f"no score is called {score!r}; {nearest(str(score), NAMED)} (or pass a function)")
    if score == "accuracy" and not classes:
        raise BadTask(
            "accuracy needs class numbers as targets, of an integer type; for numbers use score='r2'"
        )
    if score in ("r2", "mse", "mae") and classes:
        raise BadTask(
            f"{score} needs numbers as targets, the labels are classes: use score='accuracy', or y.float()"
        )
    return NAMED[score]


def _of_target(score: Callable[[Tensor, Tensor], Any]) -> Score:
    """A score that knows the target alone; what it counts (a comparison) becomes numbers."""

    def of_batch(prediction: Tensor, batch: Batch) -> Tensor:
        each = score(prediction, batch["target"])
        whole = isinstance(each, Tensor) and not each.is_floating_point()
        return each.to(prediction.dtype) if whole else each

    return of_batch


def with_variance(columns: Batch) -> Batch:
    """Add each output's variance over the part, which r2 divides by."""
    variance = columns["target"].var(0, unbiased=False, keepdim=True)
    if bool((variance == 0).any()):
        raise BadTask(
            "r2 is not defined for a target that is the same for all examples of a part: use score='mse'"
        )
    return {**columns, "variance": variance.expand_as(columns["target"])}
