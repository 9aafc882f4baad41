"""A block's steps on a device that works beside this process: nothing is asked of it from one evaluation to the next.

All that a step reads and writes stays in place on the device: variables, the numbers of the step, which examples,
the losses, the step at which a run died. A step so takes no arguments, and once it has been captured as a CUDA graph
it is one call, whatever number of kernels it has. A run that leaves the finite numbers is frozen by the step itself:
its row stays as it was before.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .advance import MEASURED, Inputs
from .guard import Guard
from .programs import Program
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .block import Block

WARM = 3
"""Steps before one is captured: libraries choose their kernels and take their workspace at the first."""
CHUNK = 256
"""Steps whose examples and numbers are drawn at once, at most,"""
BYTES = 1 << 26
"""and what their examples may take."""

Step = Callable[[], None]
Run = Callable[..., list[Tensor]]


class Graph(Protocol):
    """What repeats a step."""

    def replay(self) -> None:
        """Take the step once more."""


class Uncapturable(RuntimeError):
    """A step that asks something of the host on its way."""


class CudaGraph:
    """A step as a CUDA graph; capturing it does not take it.

    Args:
        step: works in place on tensors that stay where they are, and has been taken before on this stream.
        stream: on which it is captured.
    """

    def __init__(self, step: Step, stream: torch.cuda.Stream) -> None:
        self.graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream(stream.device)
        try:
            with torch.cuda.graph(self.graph, stream=stream):
                step()
        except RuntimeError as error:
            torch.cuda.set_stream(here)  # a capture that fails leaves its own behind
            for one in (error, error.__context__):
                if isinstance(one, torch.cuda.OutOfMemoryError):
                    raise one from None
            torch.cuda.synchronize()
            raise Uncapturable(_first_line(error)) from error

    def replay(self) -> None:
        self.graph.replay()


class Again:
    """A step called again and again: what a graph is where there are none."""

    def __init__(self, step: Step) -> None:
        self.replay = step


def capture(step: Step, stream: torch.cuda.Stream | None) -> Graph:
    """What repeats a step; without a stream to capture it on, the step itself."""
    return Again(step) if stream is None else CudaGraph(step, stream)


class Loop:
    """The steps of one block.

    Args:
        block: whose variables, order and log these are; its carry lies in this loop's own memory from now on.
        program: of a step.
    """

    def __init__(self, block: Block, program: Program) -> None:
        self.block: Block = weakref.proxy(block)  # a circle would hold a GPU's memory until it is looked for
        self.program, self.device, self.graphed = program, block.device, block.settings.executor == "graphed"
        leaves, shape = pytree.tree_flatten(block.carry)
        self.held = [t.clone(memory_format=torch.contiguous_format) for t in leaves]
        block.carry = pytree.tree_unflatten(self.held, shape)
        runs, batch = len(block.runs), block.order.batch if block.stream is None else block.batch
        self.room = max(1, min(CHUNK, BYTES // (8 * runs * max(batch, 1))))
        self.died = torch.from_numpy(block.log.died).to(self.device, copy=True)
        self.step, self.slot = self._counter(block.step), self._counter(0)
        self.index = torch.zeros(self.room, runs, batch, dtype=torch.int64, device=self.device)
        self.tables = {
            path: torch.zeros(self.room, runs, dtype=torch.float64, device=self.device)
            for path in block.numbers.scheduled
        }
        self.columns, self.pinned = block.columns, self.device.type == "cuda"
        if block.stream is not None:  # the examples of a step are all that there is of the data
            self.index[:] = torch.arange(batch, device=self.device)
            self.columns = {k: _room(c, batch, self.device) for k, c in block.columns.items()}
        self.losses: Tensor | None = None
        self.graph: Graph | None = None
        self.warm, self.begun, self.kept = 0, block.step, block.step
        self.made: dict[int, Run] = {}
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def _counter(self, value: int) -> Tensor:
        return torch.tensor(value, device=self.device)

    # --- from one evaluation to the next ----------------------------------------------------------------------

    def advance(self, stop: int, guard: Guard) -> list[Tensor]:
        """Take the steps to ``stop``, the next evaluation, and return what is measured at the last of them."""
        block = self.block
        told: list[Tensor] = []
        while block.step < stop:
            end = min(stop, block.step + self.room)
            self._fill(block.step, end)
            while block.step < end:
                if block.stream is not None:
                    self._next()
                if block.step == stop - 1:
                    told = self._once(self._program(0))
                else:
                    self._again()
                block.step += 1
                if block.step < stop:
                    guard.look(self._snapshot)
            self._keep()
        block.log.died[:] = self.died.cpu().numpy()
        return told

    def _fill(self, start: int, end: int) -> None:
        """Bring what the steps from ``start`` need to where they look for it."""
        self.slot.zero_()
        self.begun, count = start, end - start
        if self.block.stream is None:
            self.index[:count] = self.block.order.between(start, end)
        for path, table in self.block.numbers.tables(start, end).items():
            self.tables[path][:count] = table.to(self.device)

    def _next(self) -> None:
        """The next examples of a stream; the copy waits for the step before, and this process for nothing."""
        assert self.block.stream is not None
        for k, column in self.block.stream.next().items():
            self.columns[k].copy_(column.pin_memory() if self.pinned else column, non_blocking=self.pinned)

    def _keep(self) -> None:
        """Take over the losses of the steps since the last time."""
        if self.losses is not None:
            own = self.losses[self.kept - self.begun : self.block.step - self.begun]
            self.block.pending.append(own.clone())
        self.kept = self.block.step

    def _snapshot(self) -> Snapshot:
        self._keep()
        self.block.log.died[:] = self.died.cpu().numpy()
        return self.block.snapshot()

    # --- one step ---------------------------------------------------------------------------------------------

    def _again(self) -> None:
        """Take a step: the first ones as they are, then by their graph."""
        if self.graph is None and self.graphed and self.warm >= WARM:
            self._capture()
        if self.graph is not None:
            self.graph.replay()
            return
        self._aside(lambda: self._once(self._program(len(MEASURED))))
        self.warm += 1

    def _capture(self) -> None:
        run, loop = self._program(len(MEASURED)), weakref.proxy(self)

        def step() -> None:
            loop._once(run)

        try:
            self.graph = capture(step, self.stream)
        except Uncapturable as error:
            self.program.note = f"called step by step, as it cannot be captured: {error}"
            self.graphed = False

    def _aside(self, step: Callable[[], object]) -> None:
        """Take a step on the stream on which it will be captured."""
        if self.stream is None:
            step()
            return
        here = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            step()
        here.wait_stream(self.stream)

    def _inputs(self) -> Inputs:
        """What the step at hand is given, looked up where the device counts."""
        at = self.slot.reshape(1)
        h = {path: table.index_select(0, at)[0] for path, table in self.tables.items()}
        numbers, block = self.block.numbers, self.block
        examples = self.index.index_select(0, at)[0]
        return Inputs(
            {**numbers.fixed, **h}, numbers.loss, examples, block.seeds, self.step, block.own, block.mask
        )

    def _program(self, without: int) -> Run:
        if without not in self.made:
            args = (self.block.carry, self._inputs(), self.columns)
            self.made[without] = self.program.bind(*args, without=without)[0]
        return self.made[without]

    def _once(self, run: Run) -> list[Tensor]:
        """Take one step in place; what was measured in it."""
        after = run([*self.held], *self._inputs().leaves(), *self.columns.values())
        new, (loss, alive, *told) = after[: len(self.held)], after[len(self.held) :]
        if self.losses is None:
            self.losses = torch.zeros(self.room, len(loss), dtype=loss.dtype, device=self.device)
        self.losses.index_copy_(0, self.slot.reshape(1), loss.detach()[None])
        self.died.copy_(torch.where(alive | (self.died >= 0), self.died, self.step))
        own = {t.untyped_storage()._cdata for t in self.held}
        rows = [(h, _apart(t, own)) for h, t in zip(self.held, new, strict=True) if t is not h]
        for held, t in rows:
            if held is not self.block.carry.alive:
                torch.where(alive.reshape(-1, *(1 for _ in held.shape[1:])), t, held, out=held)
        self.block.carry.alive.copy_(alive)
        self.step += 1
        self.slot += 1
        return told


def _apart(t: Tensor, own: set[int]) -> Tensor:
    """A result that can be read while the variables are written over: a step may hand one on as another."""
    return t.clone() if t.untyped_storage()._cdata in own else t


def _room(column: Tensor, batch: int, device: torch.device) -> Tensor:
    """Where each step's examples of a stream will lie."""
    return torch.zeros(batch, *column.shape[1:], dtype=column.dtype, device=device)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
