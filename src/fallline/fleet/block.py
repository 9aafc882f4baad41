"""Train one block of runs from the first step to the last, and write down what each run did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .. import rng, rules, specs
from ..records import Outcome, Record, Series
from ..specs import Run
from ..tasks.base import Batch, Task
from ..types import State
from .advance import MEASURED, Carry, Inputs, one_evaluation, one_step
from .feed import Numbers, Order
from .programs import Executor, Program

Progress = Callable[[int], None]
LARGEST = 64
"""Runs in a block of small models: beyond it the per-step overhead is paid off, and the caches overflow."""


@dataclass(frozen=True)
class Settings:
    """How a fleet trains.

    Args:
        steps: steps of each run.
        batch: examples in a training batch.
        evaluations: the numbers of steps after which runs are evaluated on the validation part.
        judge: whether runs are evaluated on the test part, example by example, at the end.
        weights: whether the final parameters are kept in the record.
        executor: how blocks of runs are executed.
        largest: the runs in the task's largest blocks: what depends on the size of a block goes by it, and never by
            the block at hand, so that a run gives the same digits in any.
    """

    steps: int
    batch: int
    evaluations: tuple[int, ...]
    judge: bool = False
    weights: bool = False
    executor: Executor = "traced"
    largest: int = LARGEST


def evaluations(steps: int, points: int = 24) -> tuple[int, ...]:
    """When to evaluate: 0, the last step, and between them closer together at the beginning.

    >>> evaluations(100, 5)
    (0, 4, 16, 36, 64, 100)
    """
    return tuple(sorted({round(steps * (k / points) ** 2) for k in range(points + 1)}))


class Programs:
    """The programs of one process, by task, structure and use; made when first needed."""

    def __init__(self) -> None:
        self._made: dict[Any, Program] = {}

    def step(self, task: Task, rule: specs.Rule, executor: Executor) -> Program:
        """The program that takes a block one step further."""
        key = (id(task), specs.structure(rule), executor, "step")
        if key not in self._made:
            dims = (0, Inputs(0, 0, 0, 0, None), None)  # type: ignore[arg-type]
            self._made[key] = Program(one_step(task, rule), dims, executor)
        return self._made[key]

    def evaluation(self, task: Task, rule: specs.Rule, executor: Executor) -> Program:
        """The program that judges a block."""
        key = (id(task), specs.structure(rule), executor, "evaluation")
        if key not in self._made:
            quick: Executor = "alone" if executor == "alone" else "traced"
            self._made[key] = Program(one_evaluation(task, rule), (0, 0, 0, None, 0), quick)
        return self._made[key]


@dataclass
class _Log:
    """What has been seen of a block so far: one column of numbers per series and evaluation."""

    died: np.ndarray[Any, np.dtype[np.int64]]
    steps: dict[str, list[int]] = field(default_factory=dict)
    values: dict[str, list[np.ndarray[Any, Any]]] = field(default_factory=dict)

    def add(self, name: str, step: int, values: Tensor) -> None:
        self.steps.setdefault(name, []).append(step)
        self.values.setdefault(name, []).append(values.double().numpy())

    def series(self, i: int) -> dict[str, Series]:
        """The series of one run; of a diverged run, up to the last point before it left the finite numbers."""
        last = self.died[i] if self.died[i] >= 0 else np.iinfo(np.int64).max
        found = {}
        for name, steps in self.steps.items():
            at, values = np.array(steps), np.array([column[i] for column in self.values[name]])
            found[name] = Series(at[at <= last], values[at <= last])
        return found


def train(
    task: Task, runs: Sequence[Run], settings: Settings, programs: Programs, progress: Progress | None = None
) -> list[Record]:
    """Train runs of one structure together, single-threaded, and return a record for each, in order."""
    began = time.perf_counter()
    with torch.no_grad(), single_threaded():
        block = _Block(task, _rows(runs, settings), settings, programs)
        for start, stop in zip(settings.evaluations, settings.evaluations[1:], strict=False):
            block.advance(start, stop)
            block.evaluate(stop)
            over = not bool(block.carry.alive.any())
            if progress:
                progress(((settings.steps if over else stop) - start) * len(runs))
            if over:
                break
        judged = block.judge() if settings.judge else {}
    seconds = (time.perf_counter() - began) / len(runs)
    return [block.record(i, seconds, judged) for i in range(len(runs))]


def _rows(runs: Sequence[Run], settings: Settings) -> Sequence[Run]:
    """The runs of a block; a single one twice, where others have company: kernels for one run are others."""
    return [*runs, *runs] if len(runs) == 1 < settings.largest else runs


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread inside, in a worker as in this process, so that a block gives the same numbers here and there."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Block:
    """The state of a block in training."""

    def __init__(self, task: Task, runs: Sequence[Run], settings: Settings, programs: Programs) -> None:
        self.task, self.runs, self.settings = task, runs, settings
        rule = runs[0].rule
        self.step = programs.step(task, rule, settings.executor)
        self.evaluation = programs.evaluation(task, rule, settings.executor)
        self.columns = dict(task.parts.get("train", {}))
        self.seeds = torch.tensor([rng.seed_for(run.seed, "noise") for run in runs])
        self.numbers = Numbers(task, runs)
        self.order = Order([run.seed for run in runs], task.size("train"), settings.batch)
        self.carry = _start(task, runs, self.numbers)
        self.log = _Log(np.full(len(runs), -1, dtype=np.int64))
        self.frozen: dict[int, list[Tensor]] = {}
        self.evaluate(0)

    def advance(self, start: int, stop: int) -> None:
        """Take the steps from ``start`` to ``stop``; the last of them is measured."""
        index, h = self.order.between(start, stop), self.numbers.between(start, stop)
        held, shape = pytree.tree_flatten(self.carry)
        columns, losses = list(self.columns.values()), []

        def inputs(t: int) -> Inputs:
            return Inputs(h(t - start), self.numbers.loss, index[t - start], self.seeds, torch.tensor(t))

        args = (self.carry, inputs(start), self.columns)
        plain, measured = (self.step.bind(*args, without=n)[0] for n in (len(MEASURED), 0))
        for t in range(start, stop):
            run = measured if t == stop - 1 else plain
            after = run(*held, *_leaves(inputs(t)), *columns)
            before, held, (train_loss, alive, *told) = held, after[: len(held)], after[len(held) :]
            if int(alive.sum()) + len(self.frozen) < len(self.runs):
                self._freeze(t, before, alive)
            losses.append(train_loss)
        self.carry = self._with_frozen(pytree.tree_unflatten(held, shape))
        self.log.add("train_loss", stop, torch.stack(losses, 1).double().mean(1))
        for name, values in zip(MEASURED, told[: len(MEASURED)], strict=True):
            self.log.add(name, stop, values)

    def _freeze(self, step: int, before: list[Tensor], alive: Tensor) -> None:
        """Keep the last finite parameters and buffers of runs that have just left the finite numbers."""
        for i in (~alive).nonzero().flatten().tolist():
            if i not in self.frozen:
                self.frozen[i] = [t[i].clone() for t in before[: self._variables]]
                self.log.died[i] = step

    def _with_frozen(self, carry: Carry) -> Carry:
        """Put the frozen runs back to where they were; what they computed since is of no run."""
        for i, kept in self.frozen.items():
            for whole, own in zip(pytree.tree_leaves((carry.params, carry.buffers)), kept, strict=True):
                whole[i] = own
        return carry

    @property
    def _variables(self) -> int:
        return len(self.carry.params) + len(self.carry.buffers)

    def evaluate(self, step: int) -> None:
        """Note loss and score on the validation part."""
        for name, values in self._judged("validation").items():
            self.log.add(f"validation_{name}", step, _means(values))

    def judge(self) -> dict[str, Tensor]:
        """Loss and score on the test part, for each run and, where they are, for each example."""
        return {f"test_{name}": values for name, values in self._judged("test").items()}

    def _judged(self, part: str) -> dict[str, Tensor]:
        columns = dict(self.task.parts.get(part, {}))
        size = _piece(columns, self.settings.largest)
        found = self._on(columns, 0, size)
        if size >= self.task.size(part):
            return found
        if any(
            values.ndim == 1 for values in found.values()
        ):  # not one number per example: of the whole part
            return self._on(columns, 0, self.task.size(part))
        pieces = [found, *(self._on(columns, i, i + size) for i in range(size, self.task.size(part), size))]
        return {name: torch.cat([piece[name] for piece in pieces], 1) for name in found}

    def _on(self, columns: Batch, start: int, stop: int) -> dict[str, Tensor]:
        """Loss and score on some examples, which every run is given as its own, as batches are."""
        own = {k: c[start:stop].expand(len(self.runs), *c[start:stop].shape) for k, c in columns.items()}
        found: dict[str, Tensor] = self.evaluation(
            self.carry, self.numbers.loss, self.seeds, torch.tensor(-1 - start), own
        )
        return found

    def record(self, i: int, seconds: float, judged: dict[str, Tensor]) -> Record:
        """What run ``i`` leaves."""
        series, died = self.log.series(i), int(self.log.died[i])
        numbers = {name: float(s.values[-1]) for name, s in series.items() if len(s.values)}
        if died >= 0:
            last = series["train_loss"].values
            then = (
                f"its last mean training loss was {last[-1]:.3g}" if len(last) else "from its first steps on"
            )
            sentence = f"left the finite numbers at step {died + 1}; {then}"
            outcome = Outcome("diverged", died + 1, sentence, seconds, {})
        else:
            numbers.update({name: float(_means(values[i : i + 1])) for name, values in judged.items()})
            outcome = Outcome("finished", self.settings.steps, "finished", seconds, numbers)
        examples = {n: v[i].numpy().copy() for n, v in judged.items() if v.ndim > 1 and died < 0}
        seen = {k: p[i].numpy().copy() for k, p in self.carry.params.items()} if self.settings.weights else {}
        return Record(self.runs[i], outcome, series, examples, seen)


def _leaves(given: Inputs) -> tuple[Tensor, ...]:
    """The tensors of the inputs in the order in which they are flattened."""
    return (*given.h.values(), *given.loss_h.values(), given.examples, given.seed, given.step)


def _means(values: Tensor) -> Tensor:
    return values.double().mean(1) if values.ndim > 1 else values.double()


def _piece(columns: Batch, runs: int, most: int = 1 << 24) -> int:
    """How many examples to evaluate at once, so that a block's activations stay within memory."""
    width = max((column[0].numel() for column in columns.values()), default=1)
    return max(1, most // (runs * max(1, width)))


def _start(task: Task, runs: Sequence[Run], numbers: Numbers) -> Carry:
    """The variables of all runs, stacked; runs with one seed start alike."""
    made = {seed: task.init(seed) for seed in {run.seed for run in runs}}
    rows = [made[run.seed] for run in runs]
    params = {k: torch.stack([row.params[k] for row in rows]) for k in rows[0].params}
    buffers = {k: torch.stack([row.buffers[k] for row in rows]) for k in rows[0].buffers}
    first = numbers.between(0, 1)(0)
    states = [
        rules.init(run.rule, {k: p[i] for k, p in params.items()}, {k: v[i] for k, v in first.items()})
        for i, run in enumerate(runs)
    ]
    state = State(
        {
            k: {s: torch.stack([one.params[k][s] for one in states]) for s in states[0].params[k]}
            for k in params
        },
        {s: torch.stack([one.tree[s] for one in states]) for s in states[0].tree},
    )
    return Carry(params, buffers, state, torch.ones(len(runs), dtype=torch.bool))
