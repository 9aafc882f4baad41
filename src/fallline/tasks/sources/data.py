"""What a source gives: parts with inputs and targets, and what is known about them; and the task made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from ... import losses
from .. import data as columns
from ..base import PARTS, Task
from .cache import Writer
from .small import small

Array: TypeAlias = np.ndarray[Any, Any]
Rows: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Arrays: TypeAlias = Mapping[str, tuple[Array, Array]]
"""(X, y) by part."""
BLOCK = 4096
"""Rows that are copied at a time."""


@dataclass(frozen=True, eq=False)
class Data:
    """Data in parts, ready to train on.

    Args:
        name: what it is called.
        parts: (inputs, target) for train, and for validation and test where they came apart.
        facts: plain data about it, for the record: features, classes, what was done to the columns.
        model: makes a model that fits, where not an MLP or a CNN.
        score: what a model is judged by, where not accuracy or r2.
    """

    name: str
    parts: Arrays
    facts: Mapping[str, Any] = field(default_factory=dict)
    model: Callable[..., nn.Module] | None = None
    score: str | None = None

    @property
    def outputs(self) -> int:
        """How many outputs a model needs: the number of classes, or 1."""
        target = self.parts["train"][1]
        if target.dtype.kind == "f":
            return int(target.shape[-1]) if target.ndim > 1 else 1
        return len(self.facts["classes"]) if "classes" in self.facts else int(target.max()) + 1

    def task(self, model: Callable[..., nn.Module] | None = None, loss: Any = None, **options: Any) -> Task:
        """The task of these data.

        Args:
            model: makes the model; left out, one that fits: an MLP with 64 hidden units, a small CNN for pictures, or a small
                transformer for text.
            loss: left out, cross-entropy for classes, and the mean squared error for numbers.
            **options: more arguments of ``Task.supervised``.
        """
        inputs, target = self.parts["train"]
        loss = loss or (losses.mse if target.dtype.kind == "f" else losses.cross_entropy)
        model = model or self.model or small(inputs[0], self.outputs)
        given: dict[str, Any] = {**self.parts, "name": self.name, **options}
        given["score"] = given.get("score") or self.score
        return _told(Task.supervised(model, loss=loss, **given), dict(self.facts))


def _told(task: Task, facts: dict[str, Any]) -> Task:
    """The task with facts about its source, and all its variants with them."""
    vary = task.vary
    return replace(
        task,
        facts={**task.facts, "source": facts},
        vary=vary and (lambda options: _told(vary(options), facts)),
    )


def split(targets: Mapping[str, Array]) -> dict[str, tuple[str, Rows]]:
    """For each part, which of the given parts its rows are from, and which rows: as ``Task.supervised`` splits."""
    given = {
        part: {"target": torch.from_numpy(np.array(target)), "rows": torch.arange(len(target))}
        for part, target in targets.items()
    }
    found = columns.split(given)
    return {part: (part if part in targets else "train", found[part]["rows"].numpy()) for part in PARTS}


def standardized(name: str, X: Array, y: Array) -> Data:
    """Data whose columns, and a target of numbers, have mean 0 and deviation 1 over the training part."""
    parts = {part: rows for part, (_, rows) in split({"train": y}).items()}

    def scaled(values: Array) -> Array:
        of_train = values[parts["train"]]
        return ((values - of_train.mean(0)) / of_train.std(0)).astype(np.float32)

    X, y = scaled(X), y if y.dtype.kind in "iu" else scaled(y)
    return Data(name, {part: (X[rows], y[rows]) for part, rows in parts.items()})


def ordered(
    writer: Writer, given: Arrays, shape: tuple[int, ...] | None = None, dtype: Any = None
) -> dict[str, int]:
    """Write X and y part after part, so that each part is a slice of them; the sizes of the parts.

    Args:
        writer: of the entry that gets the columns.
        given: (X, y) of train, and of the parts that came apart; they may be mapped.
        shape: of one row of X; left out, the one that it has.
        dtype: of X; left out, float32 for numbers, bytes for bytes and int64 for other whole numbers.
    """
    first, target = given["train"]
    shape = tuple(first.shape[1:]) if shape is None else shape
    parts = split({part: y for part, (_, y) in given.items()})
    total = sum(len(rows) for _, rows in parts.values())
    X = writer.column("X", (total, *shape), dtype or _kept_as(first.dtype, small=True))
    y = writer.column("y", (total, *target.shape[1:]), _kept_as(target.dtype, small=False))
    at = 0
    for source, rows in parts.values():
        for start in range(0, len(rows), BLOCK):  # choosing rows copies them, so a block at a time
            some = rows[start : start + BLOCK]
            X[at : at + len(some)] = given[source][0][some].reshape(len(some), *shape)
            y[at : at + len(some)] = given[source][1][some]
            at += len(some)
    return {part: len(rows) for part, (_, rows) in parts.items()}


def _kept_as(dtype: np.dtype[Any], *, small: bool) -> Any:
    """The type in which a task trains on numbers of this type."""
    if dtype.kind == "f":
        return np.float32
    return np.uint8 if small and dtype == np.uint8 else np.int64


def sliced(name: str, kept: Mapping[str, Array], facts: Mapping[str, Any]) -> Data:
    """Data whose rows lie part after part in the columns X and y, so that each part is a view."""
    X, y, at = kept["X"], kept["y"], 0
    parts = {}
    for part in PARTS:
        size = facts["sizes"].get(part, 0)
        if size:
            parts[part] = (X[at : at + size], y[at : at + size])
        at += size
    return Data(name, parts, {key: fact for key, fact in facts.items() if key != "sizes"})
