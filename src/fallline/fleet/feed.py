"""What is fed to a block of runs at each step: the numbers of rules and losses, and which examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import rng, schedules, specs
from ..specs import Run
from ..tasks.base import Task


class Numbers:
    """The hyperparameters of all runs, as data: [runs] in float64, for each step."""

    def __init__(self, task: Task, runs: Sequence[Run]) -> None:
        self.of_rules = [dict(specs.flatten(run.rule)) for run in runs]
        of_loss = [{**task.numbers, **run.loss} for run in runs]
        self.loss = {name: _column([row[name] for row in of_loss]) for name in task.numbers}
        self.fixed, self.scheduled = {}, []
        for path in self.of_rules[0]:
            column = [row[path] for row in self.of_rules]
            if any(isinstance(value, specs.Schedule) for value in column):
                self.scheduled.append(path)
            else:
                self.fixed[path] = _column(column)

    def between(self, start: int, stop: int) -> Callable[[int], dict[str, Tensor]]:
        """The numbers at the steps from ``start``, by the number of steps since then."""
        steps = torch.arange(start, stop)
        tables = {}
        for path in self.scheduled:
            rows = [schedules.values(row[path], steps) for row in self.of_rules]
            tables[path] = torch.stack(rows, 1)
        return lambda t: {**self.fixed, **{path: table[t] for path, table in tables.items()}}


def _column(values: Sequence[Any]) -> Tensor:
    return torch.tensor([float(v) for v in values], dtype=torch.float64)


class Order:
    """Which examples each run sees at each step: every epoch a new permutation, cut into batches without gaps."""

    def __init__(self, seeds: Sequence[int], examples: int, batch: int) -> None:
        self.seeds, self.examples, self.batch = seeds, examples, min(batch, examples)
        self._epochs: dict[tuple[int, int], np.ndarray[Any, Any]] = {}

    def between(self, start: int, stop: int) -> Tensor:
        """Numbers of examples, [steps, runs, batch]."""
        if not self.examples:
            return torch.zeros(stop - start, len(self.seeds), 0, dtype=torch.int64)
        first, last = start * self.batch // self.examples, (stop * self.batch - 1) // self.examples
        self._epochs = {key: order for key, order in self._epochs.items() if key[1] >= first}
        drawn = {seed: self._stretch(seed, first, last, start, stop) for seed in set(self.seeds)}
        return torch.from_numpy(np.stack([drawn[seed] for seed in self.seeds], 1))

    def _stretch(self, seed: int, first: int, last: int, start: int, stop: int) -> np.ndarray[Any, Any]:
        for epoch in range(first, last + 1):
            if (seed, epoch) not in self._epochs:
                self._epochs[seed, epoch] = rng.order(seed, epoch, self.examples)
        joined = np.concatenate([self._epochs[seed, epoch] for epoch in range(first, last + 1)])
        offset = start * self.batch - first * self.examples
        return joined[offset : offset + (stop - start) * self.batch].reshape(stop - start, self.batch)
