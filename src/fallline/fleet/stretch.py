"""From one evaluation to the next: what a block is fed at each step, and the loops over the steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .advance import MEASURED, Inputs
from .guard import Guard
from .native import Loop

if TYPE_CHECKING:
    from .block import Block

DRAWN = 128
"""Steps whose examples are drawn at once."""
LOOK = 0.05
"""Seconds between two looks of the guard, about, where many steps are taken in one call."""


class Stretch:
    """What a block is fed from one evaluation to the next.

    Args:
        block: the block, at a step of the stretch.
        stop: where the stretch ends.
    """

    def __init__(self, block: Block, stop: int) -> None:
        self.block, self.stop = block, stop
        self.start = max(e for e in block.settings.evaluations if e <= block.step)
        self.numbers, self.scheduled = block.numbers.between(self.start, stop)
        self._first, self._drawn = block.step, torch.empty(0)
        self.columns = block.columns
        if block.stream is not None:  # the examples of a step are all that there is of the data
            self._drawn = torch.arange(block.batch).expand(stop - block.step, len(block.runs), block.batch)
            self._drawn = self._drawn.contiguous()

    def ahead(self, step: int) -> int:
        """How many steps from this one on can be fed at once; draws their examples."""
        if self.block.stream is not None:
            self.columns = self.block.stream.next()
            return 1
        if step >= self._first + len(self._drawn):
            self._first = step
            self._drawn = self.block.order.between(step, min(step + DRAWN, self.stop))
        return self._first + len(self._drawn) - step

    def inputs(self, step: int) -> Inputs:
        """What is fed at one step."""
        h = {
            path: values[step - self.start] if path in self.scheduled else values
            for path, values in self.numbers.items()
        }
        return self._inputs(h, self._drawn[step - self._first], torch.tensor(step))

    def from_here(self, step: int, steps: int) -> tuple[list[Tensor], list[int]]:
        """What is fed at some steps: tensors, and how many entries lie between two steps of each."""
        h = {
            path: values[step - self.start :] if path in self.scheduled else values
            for path, values in self.numbers.items()
        }
        given = self._inputs(h, self._drawn[step - self._first :], torch.arange(step, step + steps))
        by_step = {id(given.examples), id(given.step), *(id(h[path]) for path in self.scheduled)}
        tensors = [*given.leaves(), *self.columns.values()]
        return tensors, [t[0].numel() if id(t) in by_step else 0 for t in tensors]

    def _inputs(self, h: dict[str, Tensor], examples: Tensor, step: Tensor) -> Inputs:
        block = self.block
        return Inputs(h, block.numbers.loss, examples, block.seeds, step, block.own, block.mask)


def advance(block: Block, stop: int, guard: Guard) -> list[Tensor]:
    """Take a block's steps to an evaluation, and return what is measured at the last of them."""
    fed = Stretch(block, stop)
    fed.ahead(block.step)
    args = (block.carry, fed.inputs(block.step), fed.columns)
    plain, measured = (block.program.bind(*args, without=n)[0] for n in (len(MEASURED), 0))
    if isinstance(plain, Loop) and isinstance(measured, Loop):
        return _many_at_once(block, fed, (plain, measured), guard)
    return _one_by_one(block, fed, (plain, measured), guard)


Stepping = Callable[..., list[Tensor]]


def _one_by_one(
    block: Block, fed: Stretch, programs: tuple[Stepping, Stepping], guard: Guard
) -> list[Tensor]:
    """Call a program for each step."""
    held, shape = pytree.tree_flatten(block.carry)
    kept = len(block.carry.params) + len(block.carry.buffers)
    told: list[Tensor] = []
    count = len(held)
    for t in range(block.step, fed.stop):
        run = programs[t == fed.stop - 1]
        before = held[:kept]
        del block.carry  # it is freed while the program runs
        after = run(held, *fed.inputs(t).leaves(), *fed.columns.values())
        held, (train_loss, alive, *told) = after[:count], after[count:]
        block.carry = pytree.tree_unflatten(held, shape)
        if int(alive.sum()) + len(block.frozen) < len(block.runs):
            block.freeze((~alive).nonzero().flatten().tolist(), t, before)
        block.pending.append(train_loss[None])
        block.step = t + 1
        if block.step < fed.stop:
            guard.look(block.snapshot)
            fed.ahead(block.step)
    return told


def _many_at_once(block: Block, fed: Stretch, loops: tuple[Loop, Loop], guard: Guard) -> list[Tensor]:
    """Call a program for many steps, which stops by itself where a run leaves the finite numbers."""
    held, shape = pytree.tree_flatten(block.carry)
    held = [t.contiguous() for t in held]
    block.carry = pytree.tree_unflatten(held, shape)
    told: list[Tensor]
    most, ready = 1, fed.ahead(block.step)
    while True:
        began = time.perf_counter()
        last = block.step == fed.stop - 1
        steps = 1 if last else min(most, ready, fed.stop - 1 - block.step)
        tensors, strides = fed.from_here(block.step, steps)
        (train_loss, _, *told), left = loops[last].advance(held, tensors, strides, steps)
        for i in (left >= 0).nonzero().flatten().tolist():
            block.freeze([i], block.step + int(left[i]), held)
        block.pending.append(train_loss)
        block.step += steps
        if last:
            return [values[0] for values in told]
        guard.look(block.snapshot)
        ready = fed.ahead(block.step)
        most = max(1, int(steps * LOOK / (time.perf_counter() - began)))
