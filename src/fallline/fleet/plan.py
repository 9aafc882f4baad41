"""Which runs share a program, how large the blocks are, and how a task's blocks are executed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import rules, specs
from ..errors import FalllineError
from ..records import Record
from ..specs import Run
from ..tasks.base import Task
from .block import LARGEST, Programs, Settings, train
from .programs import Executor


@dataclass(frozen=True)
class Choice:
    """How a task's blocks are executed, and why."""

    executor: Executor
    largest: int
    reason: str

    def plain(self) -> dict[str, Any]:
        """For the provenance."""
        return {"executor": self.executor, "largest_block": self.largest, "reason": self.reason}


@dataclass(frozen=True)
class Job:
    """A block of runs of one task and one structure, by their positions among all runs that were asked for."""

    task: int
    positions: tuple[int, ...]
    choice: Choice

    def settings(self, asked: Settings) -> Settings:
        """The settings of this block."""
        return replace(asked, executor=self.choice.executor, largest=self.choice.largest)


def choose(task: Task, executor: str = "auto") -> Choice:
    """Try some runs for a step, batched and alone: batch where both give the same numbers."""
    task.check()
    if executor != "auto":
        return Choice(executor, 1 if executor == "alone" else _largest(task), "asked for")  # type: ignore[arg-type]
    runs = [Run(rules.sgd(lr=1e-3), seed=seed, loss=task.first_numbers()) for seed in (0, 1, 0)]
    settings = Settings(1, task.batch, (0, 1), weights=True)
    try:
        batched = train(task, runs, settings, Programs())
    except FalllineError:
        raise
    except Exception as error:
        return Choice(
            "alone", 1, f"the model cannot be batched, so each run trains alone: {_first_line(error)}"
        )
    alone = train(task, runs[:2], replace(settings, executor="alone", largest=1), Programs())
    for one, other in zip(batched, alone, strict=False):
        for name in one.weights:
            if not np.allclose(one.weights[name], other.weights[name], 1e-3, 1e-5):
                return Choice(
                    "alone", 1, f"batched and alone, {name} differs after one step, so each run trains alone"
                )
    reason = "batched and alone agree on a first step"
    if not _same(batched[0], batched[2]):
        reason += "; the last digits of a run depend on its place in a block, as a kernel here rounds by it"
    return Choice("traced", _largest(task), reason)


def _same(one: Record, other: Record) -> bool:
    """Whether two runs ended with the same weights and the same series, bit for bit."""
    weights = (one.weights[name].tobytes() == other.weights[name].tobytes() for name in one.weights)
    return one.series == other.series and all(weights)


def _largest(task: Task) -> int:
    """Fewer runs in a block the larger the model, so that a block stays near the cache."""
    parameters = sum(p.numel() for p in task.init(0).params.values())
    return max(1, min(LARGEST, LARGEST * 10_000 // max(parameters, 1)))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def jobs(asked: Sequence[tuple[int, Run]], choices: Sequence[Choice]) -> list[Job]:
    """Group runs by task and structure into blocks of nearly equal size, the longest first."""
    groups: dict[tuple[int, str], list[int]] = {}
    for position, (task, run) in enumerate(asked):
        groups.setdefault((task, specs.structure(run.rule)), []).append(position)
    made = []
    for (task, _), positions in groups.items():
        count = math.ceil(len(positions) / choices[task].largest)
        size = math.ceil(len(positions) / count)
        made += [
            Job(task, tuple(positions[i : i + size]), choices[task]) for i in range(0, len(positions), size)
        ]  # fmt: skip
    return sorted(made, key=lambda job: -len(job.positions))
