"""Compile a source, once per machine, and call it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...errors import BadTask
from ...native.compiling import compiler, loaded
from .source import Source

__all__ = ["Library", "compiler"]

FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fwrapv")
HERE = Path(__file__).parent


class Library:
    """A source, compiled and loaded."""

    def __init__(self, source: Source) -> None:
        self.source, self._run = source, loaded(source.text, FLAGS, HERE).run
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p]

    def bind(self, runs: int) -> Callable[..., list[Tensor]]:
        """The function for a block of as many runs, from tensors to tensors."""
        run, empty, constants = self._run, torch.empty, self.source.constants
        shapes = [((runs, *shape), dtype) for shape, dtype in self.source.results]
        scratch = torch.empty(self.source.scratch + 64, dtype=torch.uint8)
        start = ctypes.c_void_p(scratch.data_ptr() + -scratch.data_ptr() % 64)
        places = ctypes.c_void_p * (self.source.arguments + len(constants) + len(shapes))

        def call(*args: Tensor) -> list[Tensor]:
            out = [empty(shape, dtype=dtype) for shape, dtype in shapes]
            given = [t if t.is_contiguous() else t.contiguous() for t in args]
            if run(places(*[t.data_ptr() for t in (*given, *constants, *out)]), runs, start):
                raise BadTask(
                    "the model or its loss looks up an entry that is not there: an index is outside of its table; "
                    "check the classes and tokens in the data"
                )
            return out

        call.scratch = scratch  # type: ignore[attr-defined]  # lives as long as the function
        return call
