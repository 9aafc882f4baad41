"""What one process makes for its tasks, each thing once: variants, samples, programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from .. import specs
from ..tasks.base import Task
from ..tasks.models import as_made
from .advance import Inputs, one_evaluation, one_step
from .device import Shelf, current, single_threaded
from .members import Cast
from .programs import Executor, Program
from .settings import Settings
from .variables import Room


class Workshop:
    """The tasks of one process with what was made for them, each when it is first needed."""

    def __init__(self) -> None:
        self._programs: dict[Any, Program] = {}
        self._casts: dict[int, Cast] = {}
        self._rooms: dict[int, Room] = {}
        self.shelf = Shelf()

    def cast(self, task: Task) -> Cast:
        """A task with its variants and samples."""
        return self._casts.setdefault(id(task), Cast(task))

    def room(self, task: Task) -> Room:
        """The shapes of a variant's variables."""
        if id(task) not in self._rooms:
            self._rooms[id(task)] = Room(task)
        return self._rooms[id(task)]

    @contextmanager
    def around(self, task: Task, runs: Sequence[specs.Run], settings: Settings) -> Iterator[None]:
        """What a block of these runs needs around it."""
        device, cast = torch.device(settings.device), self.cast(task)
        own = cast.variant(dict(cast.kind(runs[0], settings.batch).options))
        with (
            torch.no_grad(),
            single_threaded(),
            current(device),
            self.shelf.frozen(own, device),
            as_made(own.module),
        ):
            yield

    def step(self, task: Task, rule: specs.Rule, executor: Executor) -> Program:
        """The program that takes a block one step further."""
        key = (id(task), specs.structure(rule), executor, "step")
        if key not in self._programs:
            dims = (0, Inputs(0, 0, 0, 0, None, 0, 0), None)  # type: ignore[arg-type]
            around = partial(as_made, task.module)
            self._programs[key] = Program(one_step(task, rule), dims, executor, carries=2, around=around)
        return self._programs[key]

    def evaluation(self, task: Task, rule: specs.Rule, executor: Executor) -> Program:
        """The program that judges a block."""
        key = (id(task), specs.structure(rule), executor, "evaluation")
        if key not in self._programs:
            quick: Executor = "alone" if executor == "alone" else "traced"
            around = partial(as_made, task.module)
            dims = (0, 0, 0, None, 0)
            self._programs[key] = Program(one_evaluation(task, rule), dims, quick, around=around)
        return self._programs[key]

    def notes(self) -> tuple[str, ...]:
        """What was noted while programs were made: where one is not executed as it was asked for."""
        found = {f"{key[1]}: {program.note}": None for key, program in self._programs.items() if program.note}
        return tuple(found)
