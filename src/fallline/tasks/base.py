"""What is trained: a task says how a run starts, what it makes small, which examples it sees, and how it is judged.

A task is written for one run: ``init(seed)`` gives its variables, ``loss`` and ``score`` are pure functions of
them. The fleet lifts them to many runs. Data sits in ``parts`` once, as columns of tensors, for all runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from .. import rng
from ..errors import BadTask, NotFound, nearest
from ..specs import Axis, Schedule
from ..types import Numbers, Tree

Batch: TypeAlias = dict[str, Tensor]
PARTS = ("train", "validation", "test")


class Variables(NamedTuple):
    """What a run holds: parameters, which are trained, and buffers, which a step may change beside them."""

    params: Tree
    buffers: Tree


@dataclass(frozen=True)
class Metric:
    """What runs are judged by: its name, and whether higher or lower is better."""

    name: str
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained.

    Args:
        name: how it is called in tables and reports.
        init: ``seed → Variables``: the same seed gives the same variables.
        loss: ``(params, buffers, batch, h) → (loss, buffers)``: the training loss of one batch, 0-d.
        score: ``(params, buffers, batch, h) → {"loss", "score"}``: both [examples], or 0-d where a measure is not a
            mean over examples.
        parts: columns of tensors for train, validation and test; the first axis is the examples. Empty columns
            make a task without data, such as a function to be minimized.
        metric: the name and direction of "score".
        numbers: the numbers of the loss, by path, and those of the model, as ``model.dropout``; a run may give its
            own.
        batch: examples in a training batch, unless something else is asked for.
        facts: plain data about the task, for the record.
        comparable: what must agree for two tasks' losses to be compared.
        options: what shapes the model and a run may set, with the values it has here, as in ``{"width": 32}``.
        vary: makes the same task with other options.
        stream: makes a new iterator over the training examples, as batches of any size, for data that is seen
            once; "train" in ``parts`` then holds the first few of them.
        module: the model that is called with each run's variables, where it is one; of its own weights only the
            frozen ones count.

    A function of two numbers is a task:

    >>> bowl = Task(
    ...     "bowl",
    ...     init=lambda seed: Variables({"w": torch.tensor([3.0, 1.0])}, {}),
    ...     loss=lambda p, b, batch, h: ((p["w"] ** 2 * torch.tensor([1.0, 10.0])).sum(), b),
    ...     score=lambda p, b, batch, h: {"loss": (p["w"] ** 2).sum(), "score": p["w"].norm()},
    ...     parts={},
    ...     metric=Metric("distance", "lower"),
    ... )
    >>> bowl.size("train")
    0
    """

    name: str
    init: Callable[[int], Variables]
    loss: Callable[[Tree, Tree, Batch, Numbers], tuple[Tensor, Tree]]
    score: Callable[[Tree, Tree, Batch, Numbers], dict[str, Tensor]]
    parts: Mapping[str, Batch]
    metric: Metric
    numbers: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 32
    facts: Mapping[str, Any] = field(default_factory=dict)
    comparable: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    vary: Callable[[Mapping[str, Any]], Task] | None = None
    stream: Callable[[], Iterator[Batch]] | None = None
    module: nn.Module | None = None

    def variant(self, options: Mapping[str, Any]) -> Task:
        """This task with other options of its model; the data are shared."""
        for name in options:
            if name not in self.options:
                raise NotFound(
                    f"the model of {self.name} has no option {name!r}; {nearest(name, self.options)}"
                )
        if self.vary is None or all(self.options[name] == value for name, value in options.items()):
            return self
        return self.vary({**self.options, **options})

    def size(self, part: str) -> int:
        """How many examples a part has; 0 for a task without data."""
        columns = self.parts.get(part, {})
        return next((len(column) for column in columns.values()), 0)

    def first_numbers(self) -> dict[str, float]:
        """The loss's numbers, of an axis its first value and of a schedule its value at step 0."""

        def first(number: Any) -> float:
            number = number.values[0] if isinstance(number, Axis) else number
            return float(number.at(0) if isinstance(number, Schedule) else number)

        return {path: first(number) for path, number in self.numbers.items()}

    def check(self) -> None:
        """Try one step's worth on a few examples, and refuse with a sentence what cannot be trained."""
        first, again = self.init(0), self.init(0)
        if not first.params:
            raise BadTask(f"the model of {self.name} has no parameters that are trained: nothing to learn")
        for name, p in {**first.params, **first.buffers}.items():
            if not torch.equal(p, {**again.params, **again.buffers}[name]):
                raise BadTask(
                    f"the initial {name} of {self.name} differs for the same seed: draw it from torch's generator "
                    "(torch.manual_seed is set for each run), not from NumPy, random or the clock"
                )
        few = {name: column[: min(len(column), 4)] for name, column in self.parts.get("train", {}).items()}
        with (
            rng.untouched(f"the model or the loss of {self.name}"),
            rng.Noise(*torch.zeros(2, dtype=torch.int64)),
        ):
            loss, _ = self.loss(*first, few, self.first_numbers())
        if loss.ndim != 0:
            raise BadTask(f"the loss of {self.name} must be one number, got shape {list(loss.shape)}")

    @staticmethod
    def supervised(
        model: Any,
        train: Any,
        validation: Any = None,
        test: Any = None,
        *,
        loss: Any = None,
        score: Any = None,
        name: str = "",
        better: Literal["higher", "lower"] = "higher",
        batch: int | None = None,
        dtype: torch.dtype = torch.float32,
        target: Any = None,
        weight: Any = None,
        group: Any = None,
        augment: Callable[[Any], Any] | None = None,
    ) -> Task:
        """A model, data, a loss and a score: the usual task.

        Args:
            model: a function that makes the ``nn.Module``, called once for each seed. Its arguments with a plain
                default (a number, text, True or False) are options that a run may set, and so are the rates of its
                dropout modules. Parameters that are frozen to the same values for all seeds are stored once.
            train: (X, y) as arrays or tensors, where X may be several in a tuple, or in a dict by the names of the
                model's arguments; a dict or a data frame of named columns; a ``Dataset`` or a ``DataLoader`` of pairs
                or dicts. A data frame's columns of numbers are one input, side by side. An ``IterableDataset`` without
                a length, or a function that makes an iterator, is a stream: seen once, in order, and never held in
                memory. A float32 array is shared and not copied, and a memory-mapped array stays in its file. Whole
                numbers are indices, but uint8 inputs of three axes or more are pictures: the model is given floats
                from 0 to 255.
            validation, test: the same; what is left out is split off from train by a fixed seed, 20 % each,
                stratified where the target is classes. A stream needs both.
            loss: such as ``fl.losses.cross_entropy``; losses add and scale.
            score: accuracy, r2, mse, mae or loss; or a function (prediction, target) → one number per example.
                Left out: accuracy for classes, r2 for numbers.
            name: how the task is called; the model's name where left out.
            better: whether a higher or a lower value of a score function is better.
            batch: examples in a training batch; the DataLoader's, else 32.
            dtype: floating-point type of parameters and inputs.
            target: the name of the target among named columns, or a list of names; left out, target, label, labels or
                y. Text is the names of classes: they are numbered in their order, which ``facts`` tells.
            weight: the name of a column, or a number of at least 0 for each training example: the loss of a batch is
                the mean by weight. Weights are for training; validation and test count each example alike.
            group: the name of a column, or a group for each training example, for losses that compare groups.
            augment: a function from inputs to inputs, such as ``tasks.augment.flip()``, applied in training only, with
                each run's own noise; for several inputs it is given the tuple or the dict that the model is given.

        >>> import numpy as np
        >>> from fallline import layers, losses
        >>> X = np.random.default_rng(0).normal(size=(100, 3))
        >>> Task.supervised(lambda: layers.mlp(3, 8, 2), (X, (X[:, 0] > 0).astype(int)), loss=losses.cross_entropy)
        Task('Sequential', 60 + 20 + 20 examples, by accuracy)
        """
        from .supervised import supervised

        return supervised(
            model, train, validation, test, loss=loss, score=score, name=name, better=better, batch=batch, dtype=dtype,
            target=target, weight=weight, group=group, augment=augment,
        )  # fmt: skip

    def __repr__(self) -> str:
        train = str(self.size("train")) if self.stream is None else "a stream"
        sizes = " + ".join([train, *(str(self.size(part)) for part in PARTS[1:])])
        return f"Task({self.name!r}, {sizes} examples, by {self.metric.name})"
