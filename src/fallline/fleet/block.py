"""Train one block of runs from one step to another, and write down what each run did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .. import rng
from ..records import Record
from ..specs import Run
from ..tasks.base import Batch, Task
from . import device as devices
from . import stretch, variables
from .advance import MEASURED, Carry
from .feed import Numbers, Order, Stream, own_columns
from .graphed import Loop
from .guard import Guard
from .log import Log
from .members import Cast
from .settings import Settings
from .snapshot import Snapshot
from .widths import cut
from .workshop import Workshop

Progress = Callable[[int], None]
FEW, MANY = 1 << 20, 1 << 27
"""Numbers that a block may compute at once in any case, when it is judged: on a processor, and on a GPU."""


def train(
    task: Task,
    runs: Sequence[Run],
    settings: Settings,
    workshop: Workshop,
    progress: Progress | None = None,
    *,
    start: Snapshot | None = None,
    guard: Guard | None = None,
) -> list[Record]:
    """Train runs of one kind together, single-threaded, to the end, and return a record for each, in order."""
    with trained(task, runs, settings, workshop, progress, start=start, guard=guard) as block:
        return block.records()


@contextmanager
def trained(
    task: Task,
    runs: Sequence[Run],
    settings: Settings,
    workshop: Workshop,
    progress: Progress | None = None,
    *,
    start: Snapshot | None = None,
    until: int | None = None,
    guard: Guard | None = None,
) -> Iterator[Block]:
    """A block that has been trained from where it stood to some step.

    Args:
        task: what is trained.
        runs: runs of one kind.
        settings: how.
        workshop: of this process.
        progress: called with the number of run-steps done since its last call.
        start: where the runs stand; left out, before their first step.
        until: the last step, one at which runs are evaluated; left out, the end of the training.
        guard: looks after the block.
    """
    until, guard = settings.steps if until is None else until, guard or Guard()
    with workshop.around(task, runs, settings):
        block = Block(workshop.cast(task), runs, settings, workshop, start)
        for stop in [e for e in settings.evaluations if block.step < e <= until]:
            begin = block.step
            block.advance(stop, guard)
            block.evaluate()
            over = not bool(block.carry.alive.any())
            if progress:
                progress(((until if over else stop) - begin) * len(runs))
            if over:
                break
            if stop < until:
                guard.look(block.snapshot)
        yield block


class Block:
    """The state of a block in training."""

    def __init__(
        self, cast: Cast, runs: Sequence[Run], settings: Settings, workshop: Workshop, start: Snapshot | None
    ) -> None:
        began = time.perf_counter()
        self.count, rows = len(runs), _rows(len(runs), settings)
        self.runs, self.settings = [runs[i] for i in rows], settings
        self.members = [cast.member(run) for run in self.runs]
        kind = cast.kind(runs[0], settings.batch)
        self.task, self.batch = cast.variant(dict(kind.options)), kind.batch
        rule = runs[0].rule
        self.program = workshop.step(self.task, rule, settings.executor)
        self._evaluation = workshop.evaluation(self.task, rule, settings.executor)
        self.device, self.shelf = torch.device(settings.device), workshop.shelf
        deferred = self.device.type != "cpu" or settings.executor == "graphed"
        self.columns = self._part("train")
        self.seeds = torch.tensor([rng.seed_for(run.seed, "noise") for run in self.runs], device=self.device)
        self.numbers = Numbers(cast, self.runs)
        samples = [member.sample for member in self.members]
        seen = [None if s is None else s.train for s in samples]
        drawn = ([run.seed for run in self.runs], kind.examples[0], self.batch, seen)
        self.order = devices.Order(*drawn, self.device) if deferred else Order(*drawn)
        own = own_columns(dict(self.task.parts.get("train", {})), samples)
        self.own = devices.moved(own, self.device)
        room, h = workshop.room(self.task), self.numbers.at(0)
        self.numbers.move(self.device)
        self.mask = devices.moved(room.masks(self.members), self.device)
        few = FEW if self.device.type == "cpu" else MANY
        self.piece = _piece(room, self.batch, few // settings.largest)
        self.frozen: dict[int, list[Tensor]] = {}
        self.pending: list[Tensor] = []
        self.seconds = np.zeros(len(self.runs))
        if start is None:
            self.step, self.log = 0, Log(np.full(len(self.runs), -1, dtype=np.int64))
            self.carry = devices.moved(variables.started(room, self.members, h), self.device)
        else:
            carry = variables.restored(room, rule, h, start.take(rows).arrays)
            self._go_on(start.take(rows), devices.moved(carry, self.device))
        self.stream = None if self.task.stream is None else Stream(self.task, self.batch, self.step)
        self.loop = Loop(self, self.program) if deferred else None
        if start is None:
            self.evaluate()
        self._spend(began)

    def _go_on(self, held: Snapshot, carry: Carry) -> None:
        self.step, self.carry, self.log = held.step, carry, Log.of(held)
        self.pending = [torch.from_numpy(held.arrays["pending"].T.copy()).to(self.device)]
        self.seconds = held.arrays["seconds"].copy()
        for i in np.flatnonzero(self.log.died >= 0):
            self.frozen[int(i)] = [t[i].clone() for t in pytree.tree_leaves((carry.params, carry.buffers))]

    def _spend(self, began: float) -> None:
        """Share out the time since then."""
        self.seconds += (time.perf_counter() - began) / self.count

    def advance(self, stop: int, guard: Guard) -> None:
        """Take the steps to ``stop``, the next evaluation; the last of them is measured."""
        began = time.perf_counter()
        if self.loop is not None:
            told = self.loop.advance(stop, guard)
        else:
            told = stretch.advance(self, stop, guard)
            self._put_back_frozen()
        self.log.add("train_loss", stop, torch.cat(self.pending).T.contiguous().double().mean(1))
        self.pending = []
        for name, values in zip(MEASURED, told, strict=True):
            self.log.add(name, stop, values)
        self._spend(began)

    def freeze(self, runs: Sequence[int], step: int, before: Sequence[Tensor]) -> None:
        """Keep the last finite parameters and buffers of runs that have just left the finite numbers."""
        variables = len(self.carry.params) + len(self.carry.buffers)
        for i in runs:
            if i not in self.frozen:
                self.frozen[i] = [t[i].clone() for t in before[:variables]]
                self.log.died[i] = step

    def _put_back_frozen(self) -> None:
        """Put the frozen runs back to where they were; what they computed since is of no run."""
        for i, kept in self.frozen.items():
            whole = pytree.tree_leaves((self.carry.params, self.carry.buffers))
            for tensor, own in zip(whole, kept, strict=True):
                tensor[i] = own

    # --- evaluation -----------------------------------------------------------------------------------------

    def evaluate(self) -> None:
        """Note loss and score on the validation part, or on what a run has in its place."""
        for name, values in self._judged("validation").items():
            self.log.add(f"validation_{name}", self.step, _means(values))

    def _judged(self, part: str) -> dict[str, Tensor]:
        """Loss and score on a part, for each run and, where they are, for each example."""
        columns, rows = self._part(part), None
        folds = [member.sample.validation for member in self.members if member.sample is not None]
        if part == "validation" and any(fold is not None for fold in folds):
            rows = torch.from_numpy(np.stack([f for f in folds if f is not None])).to(self.device)
            columns = self.columns
        whole = self.task.size(part) if rows is None else rows.shape[1]
        size = self.piece
        found = self._on(columns, rows, 0, min(size, whole))
        if size >= whole:
            return found
        if any(values.ndim == 1 for values in found.values()):  # one number for the whole part
            return self._on(columns, rows, 0, whole)
        starts = range(size, whole, size)
        pieces = [found, *(self._on(columns, rows, i, min(i + size, whole)) for i in starts)]
        return {name: torch.cat([piece[name] for piece in pieces], 1) for name in found}

    def _part(self, part: str) -> Batch:
        """The columns of a part, where this block trains."""
        return self.shelf.columns(self.task.parts.get(part, {}), self.device)

    def _on(self, columns: Batch, rows: Tensor | None, start: int, stop: int) -> dict[str, Tensor]:
        """Loss and score on some examples, which every run is given as its own, as batches are."""
        if rows is None:
            own = {k: c[start:stop].expand(len(self.runs), *c[start:stop].shape) for k, c in columns.items()}
        else:
            own = {k: c[rows[:, start:stop]] for k, c in columns.items()}
        found: dict[str, Tensor] = self._evaluation(
            self.carry, self.numbers.loss, self.seeds, torch.tensor(-1 - start, device=self.device), own
        )
        return found

    # --- what is left -----------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Where the runs stand."""
        self._put_back_frozen()
        held = {**variables.arrays(self.carry, self.count), **self.log.arrays(self.count)}
        held["seconds"] = self.seconds[: self.count].copy()
        pending = torch.cat(self.pending).T if self.pending else torch.zeros(len(self.runs), 0)
        held["pending"] = pending[: self.count].contiguous().cpu().numpy().copy()
        series = {name: np.array(at, dtype=np.int64) for name, at in self.log.steps.items()}
        return Snapshot(tuple(self.runs[: self.count]), self.step, held, series)

    def records(self) -> list[Record]:
        """What the runs leave at the end."""
        began = time.perf_counter()
        found = self._judged("test") if self.settings.judge else {}
        judged = {f"test_{k}": v.cpu() for k, v in found.items()}
        self._spend(began)
        snapshot = self.snapshot()
        return [self._record(snapshot, i, judged) for i in range(self.count)]

    def _record(self, snapshot: Snapshot, i: int, judged: dict[str, Tensor]) -> Record:
        record = snapshot.record(i)
        if self.settings.weights:
            own = self.members[i].task.init(0).params
            kept = {name: cut(w, tuple(own[name].shape)).copy() for name, w in snapshot.weights(i).items()}
            record = replace(record, weights=kept)
        if record.outcome.diverged:
            return record
        scores = {name: float(_means(values[i : i + 1])) for name, values in judged.items()}
        outcome = replace(record.outcome, numbers={**record.outcome.numbers, **scores})
        each = {name: values[i].numpy().copy() for name, values in judged.items() if values.ndim > 1}
        return replace(record, outcome=outcome, examples=each)


def _rows(count: int, settings: Settings) -> list[int]:
    """The rows of a block; a single run twice, where others have company: kernels for one run are others."""
    return [0, 0] if count == 1 < settings.largest else list(range(count))


def _means(values: Tensor) -> Tensor:
    return values.double().mean(1) if values.ndim > 1 else values.double()


def _piece(room: variables.Room, batch: int, few: int) -> int:
    """How many examples to judge at once: as many as take no more memory than the gradient of a training batch."""
    return max(1, batch + room.numbers // room.per_example, few // room.per_example)
