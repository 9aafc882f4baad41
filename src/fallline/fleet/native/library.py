"""Compile a source, once per machine, and call it."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import BadTask
from ...native.compiling import compiler, loaded
from .memory import LINE
from .source import Source

__all__ = ["Library", "compiler"]

FLAGS = ("-O3", "-march=native", "-ffp-contract=on", "-fno-math-errno", "-fno-trapping-math", "-fwrapv")
HERE = Path(__file__).parent


class Library:
    """A source, compiled and loaded."""

    def __init__(self, source: Source) -> None:
        self.source, self._run = source, loaded(source.text, FLAGS, HERE).run
        address, number = ctypes.c_void_p, ctypes.c_long
        self._run.argtypes = [address, address, number, number, address, address]

    def bind(self, runs: int) -> Loop:
        """The function for a block of as many runs."""
        return Loop(self.source, self._run, runs)


class Loop:
    """A step in C, for a block of some runs.

    Args:
        source: the function's.
        run: the function.
        runs: how many runs there are.
    """

    def __init__(self, source: Source, run: Callable[..., int], runs: int) -> None:
        self.source, self._run, self._runs = source, run, runs
        self._scratch = torch.empty(0, dtype=torch.uint8)
        with _LOCK:
            _LIVING.add(self)
        self._places = ctypes.c_void_p * (source.arguments + len(source.constants) + len(source.results))
        self._strides = ctypes.c_long * (source.arguments + len(source.results))
        self._left = torch.empty(runs, dtype=torch.int64)

    def __call__(self, *args: Any) -> list[Tensor]:
        """The results of one step; where tensors are carried, the first argument is a list of them."""
        carried: list[Tensor] = []
        if self.source.carried:
            carried = [t.clone(memory_format=torch.contiguous_format) for t in args[0]]
            args = args[1:]
        told, _ = self.advance(carried, args, [0] * len(args), 1)
        return [*carried, *(t[0] for t in told)]

    def advance(
        self, carried: Sequence[Tensor], given: Sequence[Tensor], strides: Sequence[int], steps: int
    ) -> tuple[list[Tensor], Tensor]:
        """Take all runs some steps further, each of them to the end of its steps or of the finite numbers.

        Args:
            carried: what runs take from step to step, changed in place.
            given: the other arguments.
            strides: how many entries lie between two steps of each of these; 0 for what is the same at all steps.
            steps: how many.

        Returns:
            the results of each step, [steps, runs, …], NaN where a run had left before; and for each run the number
            of steps before the one in which it left, or −1.
        """
        source = self.source
        out = [_blank((steps, self._runs, *shape), dtype) for shape, dtype in source.results]
        held = [t if t.is_contiguous() else t.contiguous() for t in given]
        tensors = (*carried, *held, *source.constants, *out)
        self._scratch = own = _scratch()
        by_step = (*[0] * len(carried), *strides, *(t[0].numel() for t in out))
        if self._run(
            self._places(*[t.data_ptr() for t in tensors]),
            self._strides(*by_step),
            self._runs,
            steps,
            own.data_ptr() + -own.data_ptr() % LINE,
            self._left.data_ptr(),
        ):
            raise BadTask(
                "the model or its loss looks up an entry that is not there: an index is outside of its table; "
                "check the classes and tokens in the data"
            )
        return out, self._left.clone()


def scratch() -> int:
    """Bytes that the programs there are need beside the runs, one run at a time, in each thread."""
    with _LOCK:
        return max((loop.source.scratch for loop in _LIVING), default=0)


_LIVING: weakref.WeakSet[Loop] = weakref.WeakSet()
_LOCK = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child has the thread that forked alone, and no one who would open it
    os.register_at_fork(after_in_child=_LOCK._at_fork_reinit)  # type: ignore[attr-defined]
_OF_THREAD = threading.local()


def _scratch() -> Tensor:
    """Memory for what a run needs on the way: the programs of a thread run in turn, and share one piece.

    Each program keeps it, so that it is freed with the last of them.
    """
    size = scratch() + LINE
    held = getattr(_OF_THREAD, "held", lambda: None)()
    if held is None or held.numel() < size:
        held = torch.empty(size, dtype=torch.uint8)
        _OF_THREAD.held = weakref.ref(held)
    found: Tensor = held
    return found


def _blank(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return (
        torch.full(shape, torch.nan, dtype=dtype)
        if dtype.is_floating_point
        else torch.zeros(shape, dtype=dtype)
    )
