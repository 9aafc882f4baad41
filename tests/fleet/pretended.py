"""A device that computes nothing, on which whole blocks are trained: what is left on the processor is found out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import vmap
from torch.utils import _pytree as pytree

from fallline.fleet.block import Block
from fallline.fleet.device import Shelf, made_on
from fallline.fleet.guard import Guard
from fallline.fleet.programs import Program
from fallline.fleet.settings import Settings
from fallline.fleet.variables import Room
from fallline.fleet.workshop import Workshop
from fallline.specs import Run
from fallline.tasks import Task

DEVICE = "meta"
"""It stands for a GPU: torch refuses to let it meet the processor's tensors."""


@contextmanager
def pretending() -> Iterator[None]:
    """Inside, tensors have a shape, a type and a device, and no numbers."""

    def bind(self: Program, *args: Any, without: int = 0) -> Any:
        made = pytree.tree_structure(args)

        def run(*given: Any) -> list[Tensor]:
            leaves = pytree.tree_leaves(given)  # the carried ones come as a list
            with made_on(leaves[0].device):
                out = vmap(self.function, in_dims=self.in_dims)(*pytree.tree_unflatten(leaves, made))
            return pytree.tree_leaves(out)[: -without or None]

        with made_on(torch.device(DEVICE)):
            shape = pytree.tree_structure(vmap(self.function, in_dims=self.in_dims)(*args))
        return run, shape

    def numpy(self: Tensor) -> Any:
        assert self.device.type == "cpu", "numbers are taken from the device without .cpu()"
        return np.zeros(self.shape, dtype=str(self.dtype).removeprefix("torch."))

    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True):
        patch.setattr(Program, "bind", bind)
        patch.setattr(Tensor, "numpy", numpy)
        patch.setattr(Room, "masks", lambda *_: {})
        patch.setattr(Shelf, "frozen", lambda *_: nullcontext())  # a weight takes no tensor without numbers
        yield


def train(task: Task, runs: list[Run], settings: Settings) -> Block:
    """A block that went through a whole training, on a device that is not there."""
    first, workshop = task.init(0), Workshop()
    task = replace(task, init=lambda seed: first)
    if task.stream is not None:
        pieces = list(task.stream())
        task = replace(task, stream=lambda: iter(pieces))
    kind = workshop.cast(task).kind(runs[0], settings.batch)
    own = workshop.cast(task).variant(dict(kind.options))
    workshop.room(own)
    for run in runs:
        workshop.cast(task).member(run)
    with pretending(), workshop.around(task, runs, settings):
        block = Block(workshop.cast(task), runs, settings, workshop, None)
        for stop in settings.evaluations[1:]:
            block.advance(stop, Guard())
            block.evaluate()
        held = block.snapshot()
        again = Block(workshop.cast(task), runs, settings, workshop, held)
        again.advance(settings.steps + 2, Guard())
        again.records()
    return block
