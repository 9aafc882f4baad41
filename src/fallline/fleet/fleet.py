"""Many runs trained together as one program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import rules, specs
from ..errors import BadTask, BadValue
from ..records import Record
from ..specs import Run
from ..tasks.base import Task
from .block import Settings, evaluations
from .plan import Choice, choose, jobs
from .pool import Pool, cores

Progress = Callable[[int], None]
SMALL = 20_000
"""Run-steps below which starting worker processes costs more than it saves."""


class Fleet:
    """Tasks, ready to train runs of them; a context manager that holds the worker processes.

    Args:
        tasks: the tasks.
        workers: processes; left out, one per core.
        executor: auto, traced, compiled or alone.
    """

    def __init__(self, tasks: Sequence[Task], *, workers: int | None = None, executor: str = "auto") -> None:
        if executor not in ("auto", "traced", "compiled", "alone"):
            raise BadValue(f"executor must be auto, traced, compiled or alone, got {executor!r}")
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 0):
            raise BadValue(f"workers must be a whole number, 0 to train in this process, got {workers!r}")
        self.tasks = list(tasks)
        self.choices: list[Choice] = [choose(task, executor) for task in self.tasks]
        self.pool = Pool(self.tasks, cores() if workers is None else workers)

    def train(
        self, asked: Sequence[tuple[int, Run]], settings: Settings, progress: Progress | None = None
    ) -> Iterator[tuple[list[int], list[Record]]]:
        """Train runs, each with the number of its task; give back positions and records as blocks are done."""
        for task, run in asked:
            _check(self.tasks[task], run)
        runs = [run for _, run in asked]
        for job, records in self.pool.run(
            jobs(asked, self.choices), runs, settings, progress or (lambda n: None)
        ):
            yield list(job.positions), records

    def plan(self) -> dict[str, Any]:
        """How this fleet executes, as plain data for the provenance."""
        return {
            "workers": len(self.pool),
            "tasks": {
                task.name: choice.plain() for task, choice in zip(self.tasks, self.choices, strict=True)
            },
        }

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc: object) -> None:
        self.pool.close()


def _check(task: Task, run: Run) -> None:
    if not isinstance(run, Run):
        raise BadValue(f"runs must be made by fl.Run(rule=…, seed=…), got {run!r}")
    rules.check_trains(run.rule)
    unknown = set(run.loss) - set(task.numbers)
    if unknown:
        raise BadValue(
            f"the loss of {task.name} has no number {sorted(unknown)}; it has {sorted(task.numbers)}"
        )
    for path, value in {**task.numbers, **run.loss}.items():
        if isinstance(value, (specs.Axis, specs.Schedule)):
            raise BadValue(
                f"the loss number {path}={value!r} must be given a value in each run: Run(loss={{{path!r}: …}})"
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise BadValue(f"the loss number {path} of a run must be a finite number, got {value!r}")


def settings_for(
    tasks: Sequence[Task], steps: int, batch: int | None, *, judge: bool, weights: bool = False
) -> Settings:
    """Checked settings, with the first task's batch size where none is asked for."""
    for name, value in (("steps", steps), ("batch", tasks[0].batch if batch is None else batch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadValue(f"{name} must be a whole number of at least 1, got {value!r}")
    return Settings(steps, batch or tasks[0].batch, evaluations(steps), judge=judge, weights=weights)


def run(
    task: Task,
    runs: Sequence[Run],
    *,
    steps: int,
    batch: int | None = None,
    weights: bool = False,
    workers: int | None = None,
    executor: str = "auto",
    progress: Progress | None = None,
) -> list[Record]:
    """Train runs together and return a record for each, in their order.

    Runs whose rules have the same structure train in one program, each with its own hyperparameters, its own
    initial weights and its own order of data. A run gives the same numbers alone and in any fleet; one that leaves
    the finite numbers is frozen and recorded, and touches no other.

    Args:
        task: what is trained.
        runs: such as ``fl.Run(rule=fl.rules.adam(lr=1e-3), seed=0)``.
        steps: steps of each run.
        batch: examples in a training batch; the task's where left out.
        weights: whether to keep each run's final parameters in its record.
        workers: processes, 0 for this one; left out, one per core where that pays.
        executor: auto, traced, compiled or alone.
        progress: called with the number of run-steps done since its last call.

    >>> from fallline import rules, tasks
    >>> records = run(tasks.digits(), [Run(rules.sgd(lr=lr)) for lr in (0.1, 1e30)], steps=20)
    >>> [record.outcome.status for record in records]
    ['finished', 'diverged']
    """
    if not isinstance(task, Task):
        raise BadTask(f"task must be a fallline task such as fl.tasks.digits(), got a {type(task).__name__}")
    if not runs:
        raise BadValue("runs is empty: a fleet needs at least one fl.Run")
    settings = settings_for([task], steps, batch, judge=True, weights=weights)
    if workers is None and steps * len(runs) <= SMALL:
        workers = 0
    found: dict[int, Record] = {}
    with Fleet([task], workers=workers, executor=executor) as fleet:
        for positions, records in fleet.train([(0, run) for run in runs], settings, progress):
            found.update(zip(positions, records, strict=True))
    return [found[i] for i in range(len(runs))]
