"""How a task's blocks are executed: tried for a few steps before anything is trained, and measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from torch import nn

from .. import rules
from ..errors import BadTask, FalllineError
from ..records import Record
from ..specs import Run
from ..tasks.base import Batch, Task
from . import native
from .block import Block, trained
from .guard import Guard
from .machine import free_memory, peak, told
from .members import MODEL
from .programs import Executor
from .settings import LARGEST, Settings
from .workshop import Workshop

STEPS = 4
ROWS = 16
"""Runs and steps of a trial."""
MORE = {0.02: 32, 0.2: 4}
"""Steps that are timed, by the seconds that one takes."""
LONG = 500
"""Steps from which on programs are compiled: it takes a second or two for each, once on a machine."""
FASTER = 1.25
"""By how much single runs must be faster than a block to be preferred: less may be the noise of a machine."""
ASKED = "asked for"
SOONER = "alone a run is faster"
SHARE = 0.6
"""Of the memory that is free, for runs in training."""


@dataclass(frozen=True)
class Choice:
    """How blocks of a task, or of a variant of it, are executed, and why.

    Args:
        executor: traced, graphed, compiled or alone.
        largest: runs in the largest blocks.
        reason: in words.
        step: seconds for one step of one run on one core, or on the GPU, as measured; 0 where it was not.
        memory: bytes that a run takes in training; 0 where they were not measured.
        beside: bytes that a block takes beside its runs: what C needs for the one run that it is at.
        device: where.
    """

    executor: Executor
    largest: int
    reason: str
    step: float = field(default=0.0, compare=False)
    memory: int = field(default=0, compare=False)
    device: str = "cpu"
    beside: int = field(default=0, compare=False)

    @property
    def unwilling(self) -> bool:
        """Whether runs train one by one though nobody asked for it, and together would be sooner."""
        return self.executor == "alone" and self.reason != ASKED and not self.reason.startswith(SOONER)

    def plain(self) -> dict[str, Any]:
        """For the provenance."""
        measured = {"seconds_per_step": self.step, "bytes_per_run": self.memory, "bytes_beside": self.beside}
        return {
            "executor": self.executor, "device": self.device, "largest_block": self.largest, "reason": self.reason,
            **{name: value for name, value in measured.items() if value},
        }  # fmt: skip

    @staticmethod
    def rebuild(data: Mapping[str, Any]) -> Choice:
        """The choice that :meth:`plain` wrote down."""
        measured = float(data.get("seconds_per_step", 0.0)), int(data.get("bytes_per_run", 0))
        known = data["executor"], int(data["largest_block"]), str(data["reason"])
        return Choice(*known, *measured, data.get("device", "cpu"), int(data.get("bytes_beside", 0)))


@dataclass(frozen=True)
class _Tried:
    """What some runs of a trial left, what they cost, and what was noted while their programs were made."""

    records: Sequence[Record]
    step: float
    memory: int
    beside: int = 0
    notes: tuple[str, ...] = ()


def choose(task: Task, executor: str = "auto", steps: int = 0) -> Choice:
    """Try some runs for a few steps, batched and alone: batch where both give the same numbers, and it pays.

    Args:
        task: what is trained.
        executor: auto, or the one that is asked for.
        steps: of the longest runs. What depends on them must not depend on how many runs there are, or a run would
            give other digits in another fleet.
    """
    task.check()
    if executor != "auto":
        return Choice(executor, 1 if executor == "alone" else _largest(task, executor), ASKED)  # type: ignore[arg-type]
    small = with_little_to_judge(task)
    size = sum(t.nbytes for t in (*task.init(0).params.values(), *task.init(0).buffers.values()))
    if 4 * size * 3 > free_memory():
        alone = tried(small, "alone", 1)
        return _alone(alone, f"three runs at once do not fit into memory ({told(size)} each)")
    rows = max(3, min(_largest(task), ROWS))
    try:
        batched = tried(small, "traced", rows)
    except FalllineError:
        raise
    except Exception as error:
        return _alone(_by_itself(small), f"the model cannot be batched: {why(task, error)}")
    alone = tried(small, "alone", 2)
    if name := differs(batched, alone):
        return _alone(alone, f"batched and alone, {name} differs after {STEPS} steps")
    if steps >= LONG and native.compiler() is not None:
        compiled = tried(small, "compiled", rows)
        if not compiled.notes and not differs(compiled, alone) and compiled.step * FASTER < batched.step:
            return _batched(task, "compiled", compiled, alone)
    if alone.step * FASTER < batched.step:
        times = f"{1e3 * alone.step:.3g} ms a step, against {1e3 * batched.step:.3g} ms in a block"
        return _alone(alone, f"{SOONER}: {times}")
    return _batched(task, "traced", batched, alone)


def _by_itself(task: Task) -> _Tried:
    """A run alone, or a sentence where that cannot be, either."""
    try:
        return tried(task, "alone", 1)
    except FalllineError:
        raise
    except Exception as error:
        raise BadTask(
            f"{task.name} cannot be trained: its model or its loss failed with {type(error).__name__}: "
            f"{_first_line(error)}"
        ) from error


def differs(one: _Tried, other: _Tried) -> str:
    """The first parameter in which the runs of two trials differ by more than rounding; "" where none does."""
    for ours, theirs in zip(one.records, other.records, strict=False):
        for name in ours.weights:
            if not np.allclose(ours.weights[name], theirs.weights[name], 1e-3, 1e-5):
                return name
    return ""


def _batched(task: Task, executor: Executor, tried: _Tried, alone: _Tried) -> Choice:
    times = f"{1e6 * tried.step:.3g} and {1e6 * alone.step:.3g} µs each"
    reason = f"batched and alone agree on {STEPS} steps, {times}"
    if not _same(tried.records[0], tried.records[2]):
        reason += "; the last digits of a run depend on its place in a block, as a kernel here rounds by it"
    return Choice(executor, _largest(task, executor), reason, tried.step, tried.memory, beside=tried.beside)


def _alone(tried: _Tried, reason: str) -> Choice:
    return Choice("alone", 1, f"{reason}, so each run trains alone", tried.step, tried.memory)


def tried(task: Task, executor: Executor, rows: int, device: str = "cpu") -> _Tried:
    """Train the runs of a trial, of which the first and the third are the same."""
    numbers = {k: v for k, v in task.first_numbers().items() if not k.startswith(MODEL)}
    seeds = [0, 1, 0, *range(2, rows)][:rows]
    runs = [Run(rules.sgd(lr=1e-3), seed=seed, loss=numbers) for seed in seeds]
    largest = rows if executor != "alone" else 1
    settings = Settings(
        STEPS, task.batch, (0, STEPS), weights=True, executor=executor, largest=largest, device=device
    )
    workshop = Workshop()
    with trained(task, runs, settings, workshop) as block:
        records = block.records()
    del block
    before = peak(reset=True)  # what programs take to be made is not the runs'
    with trained(task, runs, settings, workshop) as block:
        memory = max(0, peak() - before) // rows
        step = _seconds_per_step(block) / rows
    least = 4 * sum(
        w.nbytes for w in records[0].weights.values()
    )  # parameters, gradient, state, and the new ones
    beside = native.scratch() if executor == "compiled" else 0
    return _Tried(records, step, max(memory, least), beside, workshop.notes())


def _seconds_per_step(block: Block) -> float:
    """What a step takes: a long stretch less a short one, as each takes some milliseconds around its steps."""

    def taken(steps: int) -> float:
        began = time.process_time()
        block.advance(block.step + steps, Guard())
        return time.process_time() - began

    one = taken(1)
    more = next((n for most, n in MORE.items() if one < most), 1)
    return max(1e-9, min(taken(1 + more) - taken(1) for _ in range(2)) / more)


def with_little_to_judge(task: Task) -> Task:
    """The task with a batch of examples to be judged on, as a trial looks at steps, and of a stream its beginning."""
    judged = {
        part: columns if part == "train" else {name: column[: task.batch] for name, column in columns.items()}
        for part, columns in task.parts.items()
    }
    stream = None if task.stream is None else partial(_over_and_over, task)
    return replace(task, parts=judged, stream=stream)


def _over_and_over(task: Task) -> Iterator[Batch]:
    """The first few batches of a stream, which may hold no more than a training needs."""
    assert task.stream is not None
    first: list[Batch] = []
    for piece in task.stream():
        first.append(piece)
        if sum(len(next(iter(p.values()))) for p in first) >= STEPS * task.batch:
            break
    return cycle(first)


def _same(one: Record, other: Record) -> bool:
    """Whether two runs ended with the same weights and the same series, bit for bit."""
    weights = (one.weights[name].tobytes() == other.weights[name].tobytes() for name in one.weights)
    return one.series == other.series and all(weights)


def _largest(task: Task, executor: str = "traced") -> int:
    """Fewer runs in a block the larger the model, so that a block stays near the cache.

    In C a run is near the cache by itself, and larger blocks spare calls.
    """
    parameters = sum(p.numel() for p in task.init(0).params.values())
    most = 4 * LARGEST if executor == "compiled" else LARGEST
    return max(1, min(most, LARGEST * 10_000 // max(parameters, 1)))


def why(task: Task, error: Exception) -> str:
    """Why a model cannot be batched, and what would do the same."""
    for path, part in [] if task.module is None else task.module.named_modules():
        ours = {nn.LSTM: "LSTM", nn.GRU: "GRU"}.get(type(part))  # by type: ours are their subclasses
        if ours:
            return (
                f"{path or 'it'} is an nn.{ours}, whose kernel takes one run at a time (fl.layers.{ours} does the same "
                "in a fleet, and loads its weights)"
            )
    said = str(error)
    if "data-dependent control flow" in said or ".item()" in said:
        return (
            "its forward decides by the values of a tensor (if, while, .item()), which differ from run to run"
        )
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


# --- memory -------------------------------------------------------------------------------------------------


def check_fits(memory: int, free: int, name: str) -> None:
    """Refuse a run that takes more memory than is free."""
    if memory > free:
        raise BadTask(
            f"one run of {name} takes about {told(memory)} in training, and {told(free)} are free here: ask for a "
            "smaller batch, a smaller model, or adapters on a frozen one (fl.lora)"
        )


def fitted(choice: Choice, workers: int, free: int, name: str) -> tuple[Choice, int]:
    """A choice and a number of workers that fit into the memory that is free: smaller blocks, then fewer workers.

    Raises:
        BadTask: where a single run does not fit.
    """
    room = SHARE * free
    if not choice.memory or choice.memory * choice.largest * workers <= room:
        return choice, workers
    check_fits(choice.memory, free, name)
    workers = max(1, min(workers, int(room // choice.memory)))
    largest = max(1, min(choice.largest, int(room // choice.memory // workers)))
    reason = (
        f"{choice.reason}; blocks of {largest} in {workers} processes, as a run takes {told(choice.memory)}"
    )
    return replace(choice, largest=largest, reason=reason), workers
