"""A rule as a program in C, proven against the rule itself before it is used."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import rules
from ...native.compiling import loaded
from ...native.pointwise import Unwritable
from ...native.recording import record
from ...rules.base import PerParameter, behavior
from ...specs import Rule
from ...types import Info, Numbers, State, Tree
from .source import BLOCK, Source, write

FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-pthread")
"""No contraction: each operation rounds as torch's does."""
HERE = Path(__file__).parent
SIZE = 11
"""Entries of the vector that a rule is recorded with: no number has this shape."""
SHAPES = ((3, 2), (5,), (), (2, 1, 2, 3))
"""Tensors that a program is proven on."""
ALONE = 1 << 16
"""Entries for each thread at least."""


@dataclass(frozen=True)
class Kept:
    """What is in memory for one parameter: the type of its gradient, its own, and of each part of its state."""

    grad: torch.dtype
    own: torch.dtype
    state: tuple[tuple[str, torch.dtype], ...]


class Program:
    """One pass of a rule over tensors of these types.

    Args:
        function: from gradient, parameter, state and numbers to what each place holds afterwards (all but the
            gradient), and what is told.
        places: examples of the tensors.
        numbers: how many numbers follow.
        told: the names of what is told.
    """

    def __init__(
        self, function: Callable[..., list[Tensor]], places: Sequence[Tensor], numbers: int, told: Sequence[str]
    ) -> None:
        example = [torch.ones((), dtype=torch.float64) for _ in range(numbers)]
        recording = record(function, [*places, *example])
        self.source: Source = write(recording, SIZE, len(places), len(told))
        self.told, self.numbers = list(told), numbers
        self._run = loaded(self.source.text, FLAGS, HERE).run
        self._run.argtypes, self._run.restype = [ctypes.c_void_p, ctypes.c_int], None

    def run(self, rows: Sequence[Sequence[Tensor]], numbers: Sequence[Sequence[float]]) -> dict[str, float]:
        """Change parameters and states in place, and give what is told.

        Args:
            rows: for each parameter its gradient, itself and its state.
            numbers: for each parameter its numbers.
        """
        places = array("Q", [t.data_ptr() for row in rows for t in row])
        sizes = array("q", [row[0].numel() for row in rows])
        kept = array("d", bytes(8 * max(1, self.source.kept * len(sizes))))
        sums = array("d", bytes(8 * (self.source.sums + 1)))
        blocks = array("d", bytes(8 * sum(-(-n // BLOCK) for n in sizes)) if self.source.sums else b"")
        given = (sizes, places, array("d", [x for row in numbers for x in row]), kept, sums, blocks)
        job = array("Q", [len(sizes), *(held.buffer_info()[0] for held in given)])
        threads = min(torch.get_num_threads(), 1 + sum(sizes) // ALONE)
        self._run(job.buffer_info()[0], threads)
        return {name: kept[i] for name, i in zip(self.told, self.source.told, strict=True)}


def of_rule(rule: Rule, h: Numbers, kept: Kept) -> Program:
    """The program of a rule: its last number is what the gradient is multiplied by.

    Raises:
        Unwritable: where the rule does more than a loop over entries can.
    """
    paths, keys, told = list(h), [key for key, _ in kept.state], []

    def function(g: Tensor, p: Tensor, *rest: Tensor) -> list[Tensor]:
        held, numbers = dict(zip(keys, rest, strict=False)), dict(zip(paths, rest[len(keys) :], strict=False))
        state = State({"0": held}, {})
        step, after, info = rules.update(rule, {"0": g * rest[-1]}, state, {"0": p}, numbers)
        told[:] = info
        return [p + step["0"], *(after.params["0"][key] for key in keys), *info.values()]

    vector = torch.ones(SIZE, dtype=kept.own)
    start = rules.init(rule, {"0": vector}, _first(h))
    if start.tree or sorted(start.params["0"]) != sorted(keys):
        raise Unwritable("state of the whole tree in a loop over entries")
    types = dict(kept.state)
    places = [vector.to(kept.grad), vector, *(start.params["0"][key].to(types[key]) for key in keys)]
    places = [t.clone() for t in places]  # each a tensor of its own
    numbers = [torch.ones((), dtype=torch.float64)] * (len(paths) + 1)
    function(*places, *numbers)  # what is told is known only by running it
    program = Program(function, places, len(numbers), told)
    if program.source.sums != _sums(rule):
        raise Unwritable("sum over a single tensor in a loop over all")
    return program


def _sums(rule: Rule) -> int:
    """How many sums the parts of a rule take over all entries of all parameters, by what they declare."""
    own = behavior(rule)
    return own.sums + sum(_sums(part) for part in own.parts(rule))


def _first(h: Numbers) -> dict[str, Any]:
    return {path: next(iter(v.values.values())) if isinstance(v, PerParameter) else v for path, v in h.items()}


def prove(program: Program, rule: Rule, h: Numbers, kept: Kept) -> bool:
    """Whether a program does what its rule does, on three steps with tensors of several shapes.

    This also finds what no recording of one vector shows: a rule that treats matrices in another way.
    """
    h, random = _first(h), torch.Generator().manual_seed(0)

    def normal(dtype: torch.dtype) -> Tree:
        return {str(i): torch.randn(s, generator=random).to(dtype) for i, s in enumerate(SHAPES)}

    slow = normal(kept.own)
    fast = {name: p.clone() for name, p in slow.items()}
    types, start = dict(kept.state), rules.init(rule, slow, h)
    held = {n: {k: t.to(types[k]) for k, t in own.items()} for n, own in start.params.items()}
    own = {n: {k: t.clone() for k, t in s.items()} for n, s in held.items()}
    for _ in range(3):
        grads = normal(kept.grad)
        step, after, info = rules.update(rule, grads, State(held, {}), slow, h)
        slow, held = {n: p + step[n] for n, p in slow.items()}, after.params
        rows = [(grads[n], fast[n], *(own[n][k] for k in types)) for n in slow]
        told = program.run(rows, [[*map(float, h.values()), 1.0]] * len(rows))
        pairs = [(fast[n], slow[n]) for n in slow] + [(own[n][k], held[n][k]) for n in slow for k in types]
        pairs += [(torch.as_tensor(told[k]), torch.as_tensor(v)) for k, v in info.items()]
        if not all(_close(a, b, kept) for a, b in pairs):
            return False
    return True


def _close(fast: Tensor, slow: Tensor, kept: Kept) -> bool:
    """Whether two results agree but for rounding in the coarsest type that a value went through."""
    coarsest = max(torch.finfo(t).eps for t in (kept.grad, kept.own, *(t for _, t in kept.state)))
    size = slow.double().abs().amax() if slow.numel() else 0.0
    near = torch.isclose(fast.double(), slow.double(), 64 * coarsest, float(64 * coarsest * size), equal_nan=True)
    return bool(near.all())


def told(info: dict[str, float]) -> Info:
    """What is told, as a rule tells it."""
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in info.items()}
