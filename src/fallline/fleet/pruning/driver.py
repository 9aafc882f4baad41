"""Train runs from rung to rung; between rungs, some are given up, or go on from the state of another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ...errors import BadValue
from ...records import STOPPED, Record
from ...specs import Run
from ...tasks.base import Task
from ..block import Progress
from ..members import MODEL, Cast
from ..settings import Settings
from ..snapshot import Snapshot
from ..widths import cut
from .board import Board, Policy
from .populations import population

Asked = tuple[int, Run]
Standing = tuple[Snapshot, int]


class Trainer(Protocol):
    """What trains runs in stretches: a fleet."""

    @property
    def tasks(self) -> Sequence[Task]:
        """The tasks, known by their number."""

    def advance(
        self,
        asked: Sequence[Asked],
        settings: Settings,
        until: int,
        progress: Progress | None = None,
        standing: Mapping[int, Standing] | None = None,
    ) -> list[Standing]:
        """Train runs to a step; where each of them stands then."""

    def train(
        self,
        asked: Sequence[Asked],
        settings: Settings,
        progress: Progress | None = None,
        standing: Mapping[int, Standing] | None = None,
    ) -> Iterator[tuple[list[int], list[Record]]]:
        """Train runs to the end; positions and records, block by block."""


@dataclass(frozen=True)
class Stretch:
    """What was trained between two rungs.

    Args:
        until: the step of the rung, or the last step.
        runs: how many runs were in training.
        blocks: in how many blocks.
        spent: the steps of all runs.
    """

    until: int
    runs: int
    blocks: int
    spent: int


@dataclass(frozen=True, eq=False)
class Pruned:
    """What a training left in which runs were given up.

    Args:
        records: of all runs, in the order in which they were asked for.
        stretches: what was trained, rung by rung.
        whole: the steps of all runs, had each been trained to the end.
    """

    records: list[Record]
    stretches: tuple[Stretch, ...]
    whole: int

    @property
    def spent(self) -> int:
        """The steps of all runs that were trained."""
        return sum(stretch.spent for stretch in self.stretches)


def pruned(
    fleet: Trainer,
    asked: Sequence[Asked],
    settings: Settings,
    policy: Policy,
    progress: Progress | None = None,
) -> Pruned:
    """Train runs under a policy, and give back what each left.

    Runs that are left are grouped anew after each rung, into full blocks. Each rung is an evaluation, too, which
    changes no number of a run: its training loss is averaged over shorter stretches, and that is all.

    Args:
        fleet: trains the runs.
        asked: runs, each with the number of its task; all compete with each other.
        settings: how; the rungs are added to its evaluations.
        policy: such as ``halving(eta=3, first=100)``.
        progress: called with the number of run-steps done since its last call.
    """
    contest = Contest(fleet.tasks, asked, settings, policy)
    for step in contest.rungs:
        held = fleet.advance(contest.asking, contest.settings, step, progress, contest.standing)
        contest.judge(step, held)
    done: dict[int, Record] = {}
    blocks = 0
    for positions, records in fleet.train(contest.asking, contest.settings, progress, contest.standing):
        done |= zip(positions, records, strict=True)
        blocks += 1
    contest.finish([done[k] for k in range(len(done))], blocks)
    records = [contest.left[i] for i in range(len(asked))]
    return Pruned(records, tuple(contest.stretches), len(asked) * settings.steps)


class Contest:
    """Runs in training, what they were measured at, and what those left that were given up."""

    def __init__(
        self, tasks: Sequence[Task], asked: Sequence[Asked], settings: Settings, policy: Policy
    ) -> None:
        self.tasks, self.casts = tasks, [Cast(task) for task in tasks]
        self.asked, self.now, self.policy = list(asked), list(asked), policy
        self.rungs = policy.rungs(settings.steps, settings.evaluations)
        if not self.rungs:
            raise BadValue(
                f"{policy!r} decides nothing in a training of {settings.steps} steps: have it decide earlier, or "
                "train without it"
            )
        chosen = [tasks[task] for task in dict.fromkeys(task for task, _ in asked)]
        self.sign = _direction(chosen, policy.metric)
        if isinstance(policy, population):
            explorable = [name for task in chosen for name in task.numbers if name.startswith(MODEL)]
            self.policy = policy.named([run for _, run in asked], explorable)
        self.settings = replace(settings, evaluations=tuple(sorted({*settings.evaluations, *self.rungs})))
        self.held: dict[int, Standing] = {}
        self.left: dict[int, Record] = {}
        self.lineage: dict[int, list[dict[str, Any]]] = {}
        self.stretches: list[Stretch] = []
        self.costs = np.empty((len(asked), 0))
        self.losses = np.empty((len(asked), 0))

    @property
    def going(self) -> list[int]:
        """The positions of the runs in training."""
        return [i for i in range(len(self.asked)) if i not in self.left]

    @property
    def asking(self) -> list[Asked]:
        """The runs in training, as they are now."""
        return [self.now[i] for i in self.going]

    @property
    def standing(self) -> dict[int, Standing]:
        """Where the runs in training stand, by their place among them; nowhere before the first rung."""
        return {k: self.held[i] for k, i in enumerate(self.going) if i in self.held}

    def judge(self, step: int, stand: Sequence[Standing]) -> None:
        """Write down what runs were measured at, and have the policy decide who goes on from where."""
        held = dict(zip(self.going, stand, strict=True))
        self._note(step, len({id(snapshot) for snapshot, _ in stand}))
        board, before = self._board(step, held), list(self.now)
        self.held = {}
        for i, j in enumerate(self.policy.decide(board)):
            if j == i:
                snapshot, row = held[i]
                self.held[i] = snapshot.take([row]), 0  # so that the rows of others can be let go
            elif j >= 0:
                self.held[i] = _grafted(held[i], held[j]), 0
                self.now[i] = before[j][0], self._heir(i, j, step, before)
            elif i in held:
                sentence = f"given up after {step} steps: {self._reason(board, i)}"
                self.left[i] = self._record(i, *held[i], sentence)

    def finish(self, records: Sequence[Record], blocks: int) -> None:
        """Take in what the runs in training left at the end."""
        self._note(self.settings.steps, blocks)
        self.left |= {i: self._named(i, record) for i, record in zip(self.going, records, strict=True)}

    def _note(self, step: int, blocks: int) -> None:
        steps = step - (self.stretches[-1].until if self.stretches else 0)
        self.stretches.append(Stretch(step, len(self.going), blocks, len(self.going) * steps))

    # --- what is decided on -----------------------------------------------------------------------------------

    def _board(self, step: int, held: Mapping[int, Standing]) -> Board:
        count = len(self.asked)
        costs, losses = np.full((count, 1), math.nan), np.full((count, 1), math.nan)
        going = np.zeros(count, dtype=np.bool_)
        for i, (snapshot, row) in held.items():
            numbers, going[i] = snapshot.numbers(row), snapshot.died(row) < 0
            cost = self.sign * numbers.get(f"validation_{self.policy.metric}", math.nan)
            costs[i], losses[i] = (
                value if going[i] and math.isfinite(value) else math.inf
                for value in (cost, numbers.get("validation_loss", math.nan))
            )
        self.costs, self.losses = np.hstack([self.costs, costs]), np.hstack([self.losses, losses])
        steps = np.array([stretch.until for stretch in self.stretches])
        return Board(steps, self.costs, self.losses, going, self.settings.steps)

    def _reason(self, board: Board, i: int) -> str:
        if board.finite(i):
            return self.policy.reason(board, i)
        return f"its validation {self.policy.metric} was not a finite number"

    # --- what is left -----------------------------------------------------------------------------------------

    def _record(self, i: int, snapshot: Snapshot, row: int, sentence: str) -> Record:
        """What a run leaves that does not go on."""
        record = snapshot.record(row, STOPPED, sentence)
        if self.settings.weights:
            task, run = self.now[i]
            own = self.casts[task].member(run).task.init(0).params
            kept = {name: cut(w, tuple(own[name].shape)).copy() for name, w in snapshot.weights(row).items()}
            record = replace(record, weights=kept)
        return self._named(i, record)

    def _named(self, i: int, record: Record) -> Record:
        """A record under the run that was asked for, with what it became in its tags."""
        run = self.asked[i][1]
        tags = {**run.tags, "lineage": self.lineage[i]} if i in self.lineage else run.tags
        return replace(record, run=replace(run, tags=tags))

    def _heir(self, i: int, j: int, step: int, before: Sequence[Asked]) -> Run:
        """What the run at position ``i`` is from here on, as it takes over from the one at ``j``."""
        assert isinstance(self.policy, population)
        task, other = before[j]
        own = self.asked[i][1]
        run = self.policy.explored(replace(other, seed=own.seed, data=own.data, tags=own.tags), step, i)
        became = replace(run, tags={}).plain()
        told = {"step": step, "from": j, "task": self.tasks[task].name, "run": became}
        self.lineage.setdefault(i, []).append(told)
        return run


def _grafted(own: Standing, other: Standing) -> Snapshot:
    """The state of another run, with what was measured of this one so far, and the time that it took."""
    (mine, i), (snapshot, j) = own, other
    copy, measured = snapshot.take([j]), mine.of(i)
    arrays = {**copy.arrays, "seconds": mine.arrays["seconds"][[i]]}
    for name, at in copy.series.items():
        row = np.full((1, len(at)), math.nan)
        if name in measured:
            row[0, np.isin(at, measured[name].steps)] = measured[name].values
        arrays[f"series/{name}"] = row
    return replace(copy, arrays=arrays)


def _direction(tasks: Sequence[Task], metric: str) -> float:
    """The factor that makes a cost of what runs compete by."""
    judged = {task.metric if metric == "score" else task.comparable for task in tasks}
    if len(judged) > 1:
        raise BadValue(
            f"runs of {', '.join(task.name for task in tasks)} cannot compete by validation {metric}, as the tasks "
            "measure it in different ways: prune the runs of each task in a call of its own"
        )
    return -1.0 if metric == "score" and tasks[0].metric.better == "higher" else 1.0
