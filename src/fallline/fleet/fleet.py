"""Many runs trained together as one program."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from ..errors import BadTask, BadValue
from ..records import Record
from ..specs import Run
from ..tasks.base import Task
from . import device as devices
from . import probing
from .keep import Keep
from .machine import free_memory
from .members import Cast, Kind, check_run
from .plan import Job, jobs, told
from .pool import Pool, cores
from .pruning import Policy, pruned
from .settings import Settings, evaluations
from .snapshot import Snapshot
from .trial import LONG, SHARE, Choice, check_fits, choose, fitted

Progress = Callable[[int], None]
Standing = tuple[Snapshot, int]
Variant = tuple[int, tuple[tuple[str, Any], ...]]
SMALL = 20_000
"""Run-steps below which starting worker processes costs more than it saves."""


class Fleet:
    """Tasks, ready to train runs of them; a context manager that holds the worker processes.

    Args:
        tasks: the tasks.
        workers: processes; left out, one per core.
        executor: auto, traced, compiled or alone; on a GPU auto, graphed, traced or alone.
        device: cpu, cuda, cuda:1; auto takes a GPU where it is faster, or where the plan says so. On a GPU all blocks
            train in this process, one after another.
        steps: of the longest runs, by which it is known whether compiling pays; left out, it does not.
        batch: examples in a training batch, with which a few steps are tried; left out, the task's.
        keep: where blocks in training are saved from time to time; left out, nowhere.
        plan: what :meth:`plan` told about an earlier fleet of these tasks, whose choices are taken over.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        workers: int | None = None,
        executor: str = "auto",
        device: str = "auto",
        steps: int = 0,
        batch: int | None = None,
        keep: Keep | None = None,
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        then = plan.get("device", "cpu") if plan else "auto"
        asked = then if device == "auto" else device
        self.device = devices.place("cpu" if asked == "auto" else asked)
        probing.check_executor(executor, self.device)
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 0):
            raise BadValue(f"workers must be a whole number, 0 to train in this process, got {workers!r}")
        self.tasks, self.executor, self.steps, self.batch = list(tasks), executor, steps, batch
        self._memory, self._takes = free_memory(), dict[tuple[int, Kind], int]()
        self._casts = [Cast(task) for task in self.tasks]
        self.choices: dict[Variant, Choice] = _recalled(plan or {}, self.tasks, self.device)
        self.workers = cores() if workers is None else workers
        if self.device.type == "cuda":
            self.workers = 0  # a GPU gains by one large block, and no fork may use it
        for task in range(len(self.tasks)):
            self._choice((task, ()))
        if asked == "auto" and executor == "auto" and steps >= LONG and devices.gpus():
            self._try_gpu()
        self.pool = Pool(self.tasks, self.workers, keep)
        if then not in ("auto", str(self.device)):
            self.pool.events.append(
                f"the plan was made for {then} and is made anew for {self.device}: from here on runs may differ in their "
                "last digits"
            )

    def _try_gpu(self) -> None:
        """Go to the GPU where all tasks together are faster there."""
        gpu = devices.place("cuda")
        with suppress(BadTask):  # what does not fit there trains here
            there = {variant: probing.choose(self._tried(variant), gpu) for variant in self.choices}
            if probing.faster(list(there.values()), list(self.choices.values()), max(1, self.workers)):
                self.device, self.choices, self.workers = gpu, there, 0

    def _tried(self, variant: Variant) -> Task:
        """The variant of a task, with the batch that is to be tried."""
        own = self._casts[variant[0]].variant(dict(variant[1]))
        return own if self.batch is None else replace(own, batch=self.batch)

    def _choice(self, variant: Variant) -> Choice:
        if variant not in self.choices:
            own = self._tried(variant)
            if self.device.type == "cuda":
                self.choices[variant] = probing.choose(own, self.device, self.executor)
                return self.choices[variant]
            choice = choose(own, self.executor, self.steps)
            choice, workers = fitted(choice, max(1, self.workers), self._memory, own.name)
            self.workers = min(self.workers, workers)
            self.choices[variant] = choice
        return self.choices[variant]

    def train(
        self,
        asked: Sequence[tuple[int, Run]],
        settings: Settings,
        progress: Progress | None = None,
        standing: Mapping[int, Standing] | None = None,
    ) -> Iterator[tuple[list[int], list[Record]]]:
        """Train runs to the end; give back positions and records as blocks are done.

        Args:
            asked: runs, each with the number of its task.
            settings: how.
            progress: called with the number of run-steps done since its last call.
            standing: where runs stand that are not at their beginning, by position: a snapshot and the row in it.
        """
        for job, content in self._run(asked, settings, progress, standing or {}, None):
            assert isinstance(content, list)
            yield list(job.positions), content

    def advance(
        self,
        asked: Sequence[tuple[int, Run]],
        settings: Settings,
        until: int,
        progress: Progress | None = None,
        standing: Mapping[int, Standing] | None = None,
    ) -> list[Standing]:
        """Train runs to one of the steps at which they are evaluated; where each of them stands then."""
        found: dict[int, Standing] = {}
        for job, content in self._run(asked, settings, progress, standing or {}, until):
            assert isinstance(content, Snapshot)
            found.update({position: (content, row) for row, position in enumerate(job.positions)})
        return [found[i] for i in range(len(asked))]

    def _run(
        self,
        asked: Sequence[tuple[int, Run]],
        settings: Settings,
        progress: Progress | None,
        standing: Mapping[int, Standing],
        until: int | None,
    ) -> Iterator[tuple[Job, list[Record] | Snapshot]]:
        made, _ = self._jobs(asked, settings, standing, until)
        return self.pool.run(made, [run for _, run in asked], settings, progress or (lambda n: None))

    def _jobs(
        self,
        asked: Sequence[tuple[int, Run]],
        settings: Settings,
        standing: Mapping[int, Standing],
        until: int | None,
    ) -> tuple[list[Job], list[Kind]]:
        for task, run in asked:
            check_run(self.tasks[task], run)
        kinds = [self._casts[task].kind(run, settings.batch) for task, run in asked]
        takes = [self._bytes(task, run, kind) for (task, run), kind in zip(asked, kinds, strict=True)]
        workers = max(1, self.workers)
        room = math.inf if self.device.type == "cuda" else SHARE * self._memory / workers
        return jobs(asked, kinds, self.choices, takes, standing, until, workers=workers, room=room), kinds

    def _bytes(self, task: int, run: Run, kind: Kind) -> int:
        """What a run takes in training, as far as it is known: what was measured, and what its own rule keeps."""
        if (task, kind) not in self._takes:
            choice = self._choice((task, kind.options))
            memory = choice.memory
            if memory and self.device.type == "cpu":
                kept = self._casts[task].state(run, dict(kind.options))
                larger = max(1.0, kind.batch / (self.batch or self.tasks[task].batch))
                memory = int(memory * larger) + 2 * kept  # before a step and after it
                check_fits(memory + choice.beside, self._memory, self.tasks[task].name)
            self._takes[task, kind] = memory
        return self._takes[task, kind]

    def forecast(self, asked: Sequence[tuple[int, Run]], settings: Settings) -> list[dict[str, Any]]:
        """What training these runs would be, before it starts: a row of plain data for each kind of run."""
        made, kinds = self._jobs(asked, settings, {}, None)
        return told(made, kinds, [task.name for task in self.tasks], settings.steps)

    def plan(self) -> dict[str, Any]:
        """How this fleet executes, as plain data for the provenance."""
        tasks: dict[str, Any] = {task.name: self.choices[i, ()].plain() for i, task in enumerate(self.tasks)}
        for (i, options), choice in self.choices.items():
            if options:
                own = tasks[self.tasks[i].name].setdefault("variants", [])
                own.append({"options": dict(options), **choice.plain()})
        where = {"device": str(self.device)} | (
            {} if self.device.type == "cpu" else {"gpu": devices.name(self.device)}
        )
        return {"workers": len(self.pool), **where, "tasks": tasks, "events": list(self.pool.events)}

    def free(self) -> int:
        """Bytes that runs in training can take, on the device."""
        return probing.free(self.device)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc: object) -> None:
        self.pool.close()


def _recalled(plan: Mapping[str, Any], tasks: Sequence[Task], device: torch.device) -> dict[Variant, Choice]:
    """The choices for a device that a plan tells of."""
    found: dict[Variant, Choice] = {}
    for i, task in enumerate(tasks):
        if task.name in plan.get("tasks", {}) and plan.get("device", "cpu") == str(device):
            own = plan["tasks"][task.name]
            for data in ({**own, "options": {}}, *own.get("variants", [])):
                found[i, tuple(sorted(data["options"].items()))] = Choice.rebuild(data)
    return found


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
    device: str = "auto",
    prune: Policy | None = None,
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
        executor: auto, traced, compiled or alone; on a GPU auto, graphed, traced or alone.
        device: cpu, cuda, cuda:1; auto takes a GPU where there is one, the training is long, and a trial finds it
            faster.
        prune: which runs are given up early, such as ``fl.fleet.halving(eta=3, first=100)``; left out, none.
        progress: called with the number of run-steps done since its last call.

    >>> from fallline import rules, tasks
    >>> records = run(tasks.digits(), [Run(rules.sgd(lr=lr)) for lr in (0.1, 1e30)], steps=20)
    >>> [record.outcome.status for record in records]
    ['finished', 'diverged']
    """
    if not isinstance(task, Task):
        raise BadTask(f"task must be a fallline task such as fl.tasks.digits(), got a {type(task).__name__}")
    if not isinstance(runs, Sequence) or not runs:
        told = "is empty" if isinstance(runs, Sequence) else f"is a {type(runs).__name__}"
        raise BadValue(f"runs {told}: a fleet needs a list of at least one fl.Run")
    if prune is not None and (isinstance(prune, type) or not hasattr(prune, "rungs")):
        raise BadValue(f"prune must be a policy such as fl.fleet.halving(eta=3, first=100), got {prune!r}")
    settings = settings_for([task], steps, batch, judge=True, weights=weights)
    if workers is None and steps * len(runs) <= SMALL:
        workers = 0
    asked, found = [(0, run) for run in runs], dict[int, Record]()
    own: dict[str, Any] = {"workers": workers, "executor": executor, "device": device}
    with Fleet([task], **own, steps=steps, batch=settings.batch) as fleet:
        for choice in fleet.choices.values():
            if choice.unwilling and len(runs) > 1:
                warnings.warn(f"{task.name}: {choice.reason}", stacklevel=2)
        if prune is not None:
            return pruned(fleet, asked, settings, prune, progress).records
        for positions, records in fleet.train(asked, settings, progress):
            found.update(zip(positions, records, strict=True))
    return [found[i] for i in range(len(runs))]
