"""What a run is in a fleet: its variant of the task, the program that it shares with others, what it sees of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from .. import rules, specs
from ..errors import BadValue, NotFound, nearest
from ..specs import Rule, Run
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
    _facts: dict[Any, tuple[rules.Fact, ...]] = field(default_factory=dict)

    def member(self, run: Run) -> Member:
        """A run with its variant and its sample, the conditions of its rule settled."""
        return Member(
            replace(run, rule=self.fitted(run)), self.variant(self.options(run)), self.sample(run.data)
        )

    def fitted(self, run: Run) -> Rule:
        """The rule of a run, with its conditions on parameters settled for the run's own variant of the model."""
        if not rules.conditional(run.rule):
            return run.rule
        key = tuple(sorted(self.options(run).items()))
        if key not in self._facts:
            own = self.variant(dict(key))
            self._facts[key] = rules.facts(own.init(0).params, own.module)
        return rules.fit(run.rule, self._facts[key], stored=True)

    def state(self, run: Run, options: Mapping[str, Any]) -> int:
        """How many bytes the rule of a run keeps from step to step, in the program with these options."""
        rule = self.fitted(run)
        params = self.variant(options).init(0).params
        shapes = {name: torch.empty_like(p, device="meta") for name, p in params.items()}
        h = {path: x.at(0) if isinstance(x, specs.Schedule) else x for path, x in specs.flatten(rule)}
        held = rules.init(rule, shapes, h)
        return sum(t.nbytes for t in pytree.tree_leaves(held))

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
        return Kind(specs.structure(self.fitted(run)), options, tuple(numbers), size, (train, judged))


def check_run(task: Task, run: Run) -> None:
    """Refuse what a task cannot train, or has no number for."""
    if not isinstance(run, Run):
        raise BadValue(f"runs must be made by fl.Run(rule=…, seed=…), got {run!r}")
    rules.check_trains(run.rule)
    of_loss = {name: value for name, value in task.numbers.items() if not name.startswith(MODEL)}
    unknown = set(run.loss) - set(of_loss)
    if unknown:
        raise BadValue(f"the loss of {task.name} has no number {sorted(unknown)}; it has {sorted(of_loss)}")
    _check_model(task, run)
    for path, value in {**of_loss, **run.loss}.items():
        if isinstance(value, (specs.Axis, specs.Schedule)):
            raise BadValue(
                f"the loss number {path}={value!r} must be given a value in each run: Run(loss={{{path!r}: …}})"
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise BadValue(f"the loss number {path} of a run must be a finite number, got {value!r}")


def _check_model(task: Task, run: Run) -> None:
    numbers = [name.removeprefix(MODEL) for name in task.numbers if name.startswith(MODEL)]
    for name, value in run.model.items():
        if name not in task.options and name not in numbers:
            known = [*task.options, *numbers]
            what = nearest(name, known) if known else "its factory takes no arguments, and it has no dropout"
            raise NotFound(f"the model of {task.name} has no option or number {name!r}; {what}")
        if name in numbers and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise BadValue(f"the model's number {name} of a run must be a number, got {value!r}")
        if name in numbers and not 0 <= value <= 1:
            raise BadValue(f"the model's {name} is a probability, from 0 to 1, got {value!r}")
