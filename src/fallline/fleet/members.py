"""What a run is in a fleet: its variant of the task, the program that it shares with others, what it sees of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .. import rules, specs
from ..specs import Run
from ..tasks.base import Task
from ..tasks.sampling import Sample, sample
from . import widths
from .widths import MODEL as MODEL


class Member(NamedTuple):
    """One run and what it is made of.

    Args:
        run: the run.
        task: its variant of the task: what it would be alone.
        sample: what it sees of the data; None for all.
    """

    run: Run
    task: Task
    sample: Sample | None


class Kind(NamedTuple):
    """What runs have in common that share a program; plain data that sorts runs into groups."""

    structure: str
    options: tuple[tuple[str, Any], ...]
    numbers: tuple[str, ...]
    batch: int
    examples: tuple[int, int]


@dataclass(eq=False)
class Cast:
    """A task with its variants and samples, each made once in a process."""

    task: Task
    _tasks: dict[Any, Task] = field(default_factory=dict)
    _wide: dict[Any, dict[str, Any]] = field(default_factory=dict)
    _samples: dict[Any, Sample] = field(default_factory=dict)

    def member(self, run: Run) -> Member:
        """A run with its variant and its sample."""
        return Member(run, self.variant(self.options(run)), self.sample(run.data))

    def options(self, run: Run) -> dict[str, Any]:
        """The options of the model that a run sets."""
        return {name: value for name, value in run.model.items() if name in self.task.options}

    def numbers(self, run: Run) -> dict[str, float]:
        """The numbers of loss and model that a run sets."""
        of_model = {MODEL + k: v for k, v in run.model.items() if k not in self.task.options}
        return {**run.loss, **of_model}

    def variant(self, options: Mapping[str, Any]) -> Task:
        """The task with these options; with none, the task itself."""
        key = tuple(sorted(options.items()))
        if key not in self._tasks:
            self._tasks[key] = self.task.variant(options) if options else self.task
        return self._tasks[key]

    def wide(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of the program for a run with these options."""
        key = tuple(sorted(options.items()))
        if key not in self._wide:
            self._wide[key] = widths.wide(self.task, options) if options else {}
        return self._wide[key]

    def sample(self, data: Mapping[str, float]) -> Sample | None:
        """What a run sees of the data."""
        key = tuple(sorted(data.items()))
        if data and key not in self._samples:
            self._samples[key] = sample(self.task, data)
        return self._samples[key] if data else None

    def kind(self, run: Run, batch: int) -> Kind:
        """The program that a run belongs to, and with that the runs beside which it can train."""
        seen = self.sample(run.data)
        train, judged = self.task.size("train"), self.task.size("validation")
        if seen is not None:
            train = len(seen.train)
            judged = judged if seen.validation is None else len(seen.validation)
        numbers = sorted(name for name in self.numbers(run) if name.startswith(MODEL))
        wide = self.options(run) if rules.shaped(run.rule) else self.wide(self.options(run))
        options = tuple(sorted(wide.items()))
        if self.task.stream is not None:  # the part holds the first few examples
            train = 0
        size = min(run.batch or batch, train) if train else run.batch or batch
        return Kind(specs.structure(run.rule), options, tuple(numbers), size, (train, judged))
