"""Which runs share a program, and how large the blocks are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..specs import Run
from .members import Kind
from .settings import Settings
from .snapshot import Snapshot, joined
from .trial import Choice

LEAST = 16
"""Runs below which a block is not cut to give each worker its share: the step of a smaller one costs as much."""


@dataclass(frozen=True)
class Job:
    """A block of runs of one task and one kind, by their positions among all runs that were asked for.

    Args:
        task: the number of the task.
        positions: of the runs.
        choice: how they are executed.
        takes: bytes that one of them takes in training, as far as it is known.
        start: where they stand, a row for each; None before their first step.
        until: the step to go to; None for the end, with records.
    """

    task: int
    positions: tuple[int, ...]
    choice: Choice
    takes: int = 0
    start: Snapshot | None = None
    until: int | None = None

    @property
    def told(self) -> str:
        """How many runs, in words."""
        return "1 run" if len(self.positions) == 1 else f"{len(self.positions)} runs"

    def settings(self, asked: Settings) -> Settings:
        """The settings of this block."""
        own = self.choice
        return replace(asked, executor=own.executor, largest=own.largest, device=own.device)

    def cut(self, size: int) -> list[Job]:
        """This job in pieces of at most ``size`` runs, nearly equal."""
        count = math.ceil(len(self.positions) / size)
        each = math.ceil(len(self.positions) / count)
        pieces = [range(i, min(i + each, len(self.positions))) for i in range(0, len(self.positions), each)]
        return [
            replace(
                self,
                positions=tuple(self.positions[i] for i in rows),
                start=None if self.start is None else self.start.take(rows),
            )
            for rows in pieces
        ]


def jobs(
    asked: Sequence[tuple[int, Run]],
    kinds: Sequence[Kind],
    choices: Mapping[tuple[int, Any], Choice],
    takes: Sequence[int],
    standing: Mapping[int, tuple[Snapshot, int]],
    until: int | None = None,
    *,
    workers: int = 1,
    room: float = math.inf,
) -> list[Job]:
    """Group runs by task and kind, and by the step where they stand, into blocks of nearly equal size, longest first.

    Args:
        asked: runs, each with the number of its task.
        kinds: of the runs.
        choices: by the number of a task and the options of its variant.
        takes: bytes that each of the runs takes in training; 0 where that is not known.
        standing: by position, a snapshot and the row in it, for runs that go on.
        until: the step to go to; left out, the end.
        workers: processes among which the runs are shared out.
        room: bytes for the runs of a block.
    """
    groups: dict[Any, list[int]] = {}
    share = max(LEAST, math.ceil(len(asked) / workers))
    for position, (task, _) in enumerate(asked):
        step = standing[position][0].step if position in standing else 0
        groups.setdefault((task, kinds[position], step), []).append(position)
    made: list[Job] = []
    for (task, kind, _), positions in groups.items():
        start = None
        if positions[0] in standing:
            rows = [held.take([row]) for held, row in (standing[i] for i in positions)]
            start = joined(rows).renamed([asked[i][1] for i in positions])
        choice = choices[task, kind.options]
        each = max(takes[i] for i in positions)
        fit = min((room - choice.beside) / max(each, 1), share)
        most = max(1, min(choice.largest, share, int(fit)))
        made += Job(task, tuple(positions), choice, each, start, until).cut(most)
    return sorted(made, key=lambda job: -len(job.positions))


def told(
    made: Sequence[Job], kinds: Sequence[Kind], names: Sequence[str], steps: int
) -> list[dict[str, Any]]:
    """What the jobs are, as plain data: a row for each kind of run, with what it takes as far as it was measured."""
    groups: dict[Any, list[Job]] = {}
    for job in made:
        groups.setdefault((job.task, kinds[job.positions[0]]), []).append(job)
    rows = []
    for (task, kind), own in groups.items():
        choice, runs = own[0].choice, sum(len(job.positions) for job in own)
        largest = max(len(job.positions) for job in own)
        rows.append({
            "task": names[task], "rule": kind.structure, "options": dict(kind.options), "batch": kind.batch,
            "runs": runs, "blocks": len(own), "largest_block": largest, "executor": choice.executor,
            "device": choice.device,
            "reason": choice.reason, "bytes": own[0].takes * largest + choice.beside,
            "core_seconds": choice.step * runs * steps, "positions": sorted(p for job in own for p in job.positions),
        })  # fmt: skip
    return rows
