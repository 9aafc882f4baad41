"""What a study of the lecture works with: it trains families of runs, compares arms, and stops when it is asked to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from ..errors import BadValue
from ..fleet import Fleet, Keep, Stopped, settings_for
from ..records import Record
from ..specs import Rule, Run
from ..tasks.base import Task
from .arms import Arm
from .compare import Compared, Protocol, compare
from .memory import Memory, Trainer

Floats = NDArray[np.float64]


@dataclass
class Bench:
    """What stands behind a lab: where records go, what is known already, and how fleets are made.

    Args:
        sink: is given records as they are obtained.
        note: is given what a fleet planned and did, and the facts of its tasks.
        expect, advance: count run-steps that are to be done, and that are done.
        memory: what an earlier part of the same study left.
        keep: where blocks in training are saved.
        fleet: workers, executor, device and plan, as :class:`fallline.fleet.Fleet` takes them.
    """

    sink: Callable[[list[Record]], None] = lambda records: None
    note: Callable[[Mapping[str, Any], Sequence[Task]], None] = lambda plan, tasks: None
    expect: Callable[[int], None] = lambda steps: None
    advance: Callable[[int], None] = lambda steps: None
    memory: Memory = field(default_factory=Memory)
    keep: Keep | None = None
    fleet: Mapping[str, Any] = field(default_factory=dict)


class Lab:
    """Trains what a study asks for.

    Args:
        quick: whether a look is enough: a study then takes fewer replicates and steps, and says so.
        replicates: repetitions that intervals are over, where a study is not told otherwise; left out, 10, or 4 of a
            quick one.
        seed: the first seed.
        bench: what stands behind it.
    """

    def __init__(
        self, *, quick: bool = False, replicates: int | None = None, seed: int = 0, bench: Bench | None = None
    ) -> None:
        for name, value, least in (("replicates", replicates, 2), ("seed", seed, 0)):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and value >= least):
                raise BadValue(f"{name} must be a whole number of at least {least}, got {value!r}")
        self.quick, self.seed = quick, seed
        self.replicates = (4 if quick else 10) if replicates is None else replicates
        self.bench = bench or Bench()
        self._names: dict[str, int] = {}
        self._fleet: Fleet | None = None
        self._stopped = False

    def few(self, many: int, quick: int) -> int:
        """The first number, or of a quick study the second."""
        return quick if self.quick else many

    def seeds(self, count: int | None = None) -> list[int]:
        """Seeds, one for each replicate unless another number is asked for."""
        return list(range(self.seed, self.seed + (self.replicates if count is None else count)))

    def random(self, *names: int) -> np.random.Generator:
        """A generator of its own for what these numbers name, such as a replicate and a part."""
        return np.random.default_rng([self.seed, *names])

    # --- training -----------------------------------------------------------------------------------------

    def train(
        self, task: Task, runs: Sequence[Run], *, steps: int, batch: int | None = None, weights: bool = False,
        judge: bool = True,
    ) -> list[Record]:  # fmt: skip
        """Train runs of one task as one fleet.

        Args:
            task: what is trained.
            runs: what is asked for.
            steps: of each run.
            batch: examples in a training batch; the task's where left out.
            weights: whether the final weights are kept in the records; no store holds those, so that a study which
                goes on trains such runs again.
            judge: whether runs are judged on the test part.
        """
        own = self._named(task)
        settings = settings_for([own], steps, batch, judge=judge, weights=weights)
        asked = [(0, replace(run, tags={**run.tags, "task": own.name})) for run in runs]
        with self._fleets([own], steps, settings.batch) as fleet:
            self.bench.expect(steps * len(runs))
            memory = Memory() if weights else self.bench.memory
            return Trainer(fleet, self.bench.sink, self.bench.advance, memory).run(asked, settings)

    def compare(
        self, arms: Mapping[str, Side], *, steps: int, batch: int | None = None, seeds: int = 1,
        replicates: int | None = None,
    ) -> Trials:  # fmt: skip
        """The whole protocol for each arm, repeated: tuned on validation, trained again on fresh seeds, judged on test.

        Args:
            arms: by label.
            steps: of each run.
            batch: examples in a training batch; the first task's where left out.
            seeds: for each setting in tuning, and fresh ones for what was chosen.
            replicates: repetitions of all that; the lab's where left out.
        """
        given = {id(side.task): side.task for side in arms.values()}
        tasks = [self._named(task) for task in given.values()]
        number = {one: i for i, one in enumerate(given)}
        size = tasks[0].batch if batch is None else batch
        compared = [
            Arm(label, number[id(side.task)], side.rule, dict(side.given)) for label, side in arms.items()
        ]
        count = self.replicates if replicates is None else replicates
        protocol = Protocol(replicates=count, seeds=seeds, steps=steps, batch=size, seed=self.seed)
        bench = self.bench
        with self._fleets(tasks, steps, size) as fleet:
            bench.expect(sum(protocol.runs(arm) for arm in compared) * steps)

            def more(runs: int) -> bool:
                bench.expect(runs * steps)
                return True

            return Trials(compare(fleet, compared, protocol, bench.sink, bench.advance, more, bench.memory))

    def again(self, trials: Trials, arm: str) -> list[Record]:
        """The judged runs of an arm once more, now with their final weights; those without a setting are left out."""
        found = trials.compared
        own = next(one.arm for one in found.tuned if one.arm.label == arm)
        runs = [record.run for record in trials.records(arm)]
        task, protocol = found.tasks[own.task], found.protocol
        return (
            self.train(task, runs, steps=protocol.steps, batch=protocol.batch, weights=True) if runs else []
        )

    @contextmanager
    def _fleets(self, tasks: list[Task], steps: int, batch: int) -> Iterator[Fleet]:
        self.look()
        with Fleet(tasks, steps=steps, batch=batch, keep=self.bench.keep, **self.bench.fleet) as fleet:
            self._fleet = fleet
            try:
                self.look()  # a stop that came while the fleet was made
                yield fleet
            finally:
                self._fleet = None
                self.bench.note(fleet.plan(), tasks)

    def _named(self, task: Task) -> Task:
        """The task under a name that no other training of the study has, by which its runs are found again."""
        count = self._names[task.name] = self._names.get(task.name, 0) + 1
        return task if count == 1 else replace(task, name=f"{task.name} ({count})")

    # --- stopping -----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask for a stop, from a signal's handler or another thread."""
        self._stopped = True
        if self._fleet is not None:
            self._fleet.pool.stop()

    def look(self) -> None:
        """End here where a stop was asked for; long work that trains no fleet looks now and then.

        Raises:
            Stopped: in that case.
        """
        if self._stopped:
            raise Stopped


@dataclass(frozen=True)
class Side:
    """One side of a comparison of a study.

    Args:
        task: what is trained.
        rule: a rule; a number of it that is an axis is tuned.
        given: what else its runs ask for: loss, model, data and batch, as :class:`fallline.specs.Run` takes them.
    """

    task: Task
    rule: Rule
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trials:
    """What a comparison of arms found, as arrays over replicates.

    Args:
        compared: all of it.
    """

    compared: Compared

    def finals(self, arm: str, number: str = "test_score") -> Floats:
        """[replicates] the mean over fresh seeds of a final measurement; NaN where a run diverged, or nothing could be chosen."""
        rows = [self._mean(arm, r, number) for r in range(self.compared.protocol.replicates)]
        return np.array(rows, dtype=np.float64)

    def records(self, arm: str) -> list[Record]:
        """The judged runs of an arm."""
        return [
            record for (label, _), found in self.compared.finals.items() if label == arm for record in found
        ]

    def chosen(self, arm: str) -> list[dict[str, float] | None]:
        """[replicates] the setting that was chosen."""
        tuned = next(one for one in self.compared.tuned if one.arm.label == arm)
        return [tuned.chosen(r) for r in range(self.compared.protocol.replicates)]

    def _mean(self, arm: str, replicate: int, number: str) -> float:
        found = self.compared.finals.get((arm, replicate), ())
        return float(np.mean([r.outcome.numbers.get(number, np.nan) for r in found])) if found else np.nan


def outputs(task: Task, record: Record, inputs: Tensor) -> Floats:
    """What a trained model gives for inputs, [examples, …], by the weights in its record."""
    assert task.module is not None
    weights = {name: torch.as_tensor(value) for name, value in record.weights.items()}
    with torch.no_grad():
        found = functional_call(copy.deepcopy(task.module).eval(), weights, (inputs,))
    return np.asarray(found.double().numpy(), dtype=np.float64)
