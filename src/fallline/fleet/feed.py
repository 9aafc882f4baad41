"""What is fed to a block of runs at each step: the numbers of rules and losses, and which examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import rng, schedules, specs
from ..errors import BadTask
from ..specs import Run
from ..tasks.base import Batch, Task
from .members import MODEL, Cast


class Numbers:
    """The hyperparameters of all runs, as data: [runs] in float64, for each step."""

    def __init__(self, cast: Cast, runs: Sequence[Run]) -> None:
        self.of_rules = [dict(specs.flatten(run.rule)) for run in runs]
        given = [cast.numbers(run) for run in runs]
        own = {name: value for name, value in cast.task.numbers.items() if not name.startswith(MODEL)}
        of_task = [{**own, **numbers} for numbers in given]
        self.loss = {name: _column([row[name] for row in of_task]) for name in of_task[0]}
        self.fixed, self.scheduled = {}, []
        for path in self.of_rules[0]:
            column = [row[path] for row in self.of_rules]
            if any(isinstance(value, specs.Schedule) for value in column):
                self.scheduled.append(path)
            else:
                self.fixed[path] = _column(column)

    def between(self, start: int, stop: int) -> tuple[dict[str, Tensor], set[str]]:
        """The numbers at some steps: [runs] each, [steps, runs] of those whose names are in the set."""
        return {**self.fixed, **self.tables(start, stop)}, set(self.scheduled)

    def at(self, step: int) -> dict[str, Tensor]:
        """The numbers at a step."""
        return {**self.fixed, **{path: table[0] for path, table in self.tables(step, step + 1).items()}}

    def tables(self, start: int, stop: int) -> dict[str, Tensor]:
        """The numbers that change with the steps, [steps, runs]."""
        steps = torch.arange(start, stop)
        tables = {}
        for path in self.scheduled:
            rows = [schedules.values(row[path], steps) for row in self.of_rules]
            tables[path] = torch.stack(rows, 1)
        return tables

    def move(self, device: torch.device) -> None:
        """Bring the numbers that stay to a device."""
        self.loss = {path: column.to(device) for path, column in self.loss.items()}
        self.fixed = {path: column.to(device) for path, column in self.fixed.items()}


def _column(values: Sequence[Any]) -> Tensor:
    return torch.tensor([float(v) for v in values], dtype=torch.float64)


def own_columns(columns: Batch, samples: Sequence[Any]) -> Batch:
    """The columns that differ from run to run, [runs, examples, …]."""
    names = sorted({name for sample in samples if sample is not None for name in sample.columns})
    return {
        name: torch.stack(
            [columns[name] if s is None else s.columns.get(name, columns[name]) for s in samples]
        )
        for name in names
    }


class Order:
    """Which examples each run sees at each step: every epoch a new permutation, cut into batches without gaps.

    Args:
        seeds: of the runs.
        examples: how many examples each run has.
        batch: how many it sees at a step.
        rows: for each run the rows of the columns that are its examples; None for all.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        examples: int,
        batch: int,
        rows: Sequence[np.ndarray[Any, Any] | None] = (),
    ) -> None:
        self.seeds, self.examples, self.batch = seeds, examples, min(batch, examples)
        self.rows = list(rows) or [None] * len(seeds)
        self._epochs: dict[tuple[int, int], np.ndarray[Any, Any]] = {}

    def between(self, start: int, stop: int) -> Tensor:
        """Numbers of examples, [steps, runs, batch]."""
        if not self.examples:
            return torch.zeros(stop - start, len(self.seeds), 0, dtype=torch.int64)
        first, last = start * self.batch // self.examples, (stop * self.batch - 1) // self.examples
        self._epochs = {key: order for key, order in self._epochs.items() if key[1] >= first}
        drawn = {seed: self._stretch(seed, first, last, start, stop) for seed in set(self.seeds)}
        both = zip(self.seeds, self.rows, strict=True)
        chosen = [drawn[seed] if rows is None else rows[drawn[seed]] for seed, rows in both]
        return torch.from_numpy(np.stack(chosen, 1))

    def _stretch(self, seed: int, first: int, last: int, start: int, stop: int) -> np.ndarray[Any, Any]:
        for epoch in range(first, last + 1):
            if (seed, epoch) not in self._epochs:
                self._epochs[seed, epoch] = rng.order(seed, epoch, self.examples)
        joined = np.concatenate([self._epochs[seed, epoch] for epoch in range(first, last + 1)])
        offset = start * self.batch - first * self.examples
        return joined[offset : offset + (stop - start) * self.batch].reshape(stop - start, self.batch)


class Stream:
    """Training data that is seen once, in order: at each step the next examples, the same for all runs.

    Args:
        task: the task whose stream it is.
        batch: examples at a step.
        start: the steps that were done before.
    """

    def __init__(self, task: Task, batch: int, start: int) -> None:
        assert task.stream is not None
        self.name, self.batch = task.name, batch
        self._held: list[Batch] = []
        self._source: Iterator[Batch] = task.stream()
        for _ in range(start):
            self.next()

    def next(self) -> Batch:
        """The examples of one step."""
        while sum(map(_length, self._held)) < self.batch:
            piece = next(self._source, None)
            if piece is None:
                raise BadTask(
                    f"the training data of {self.name} ended before the training did: it is seen once, so ask for "
                    "fewer steps, or for smaller batches"
                )
            self._held.append(piece)
        whole = {name: torch.cat([piece[name] for piece in self._held]) for name in self._held[0]}
        self._held = [{name: column[self.batch :] for name, column in whole.items()}]
        return {name: column[: self.batch] for name, column in whole.items()}


def _length(piece: Batch) -> int:
    return len(next(iter(piece.values())))
