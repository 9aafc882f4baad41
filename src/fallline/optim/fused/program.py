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
from ...types import Numbers, State, Tree
from ..plan import wide
from .source import BLOCK, Source, write

FLAGS = (
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
    "-pthread",
)
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
        told: the names of what is told, which running the function may add to.
    """

    def __init__(
        self,
        function: Callable[..., list[Tensor]],
        places: Sequence[Tensor],
        numbers: int,
        told: Sequence[str],
    ) -> None:
        example = [torch.ones((), dtype=torch.float64) for _ in range(numbers)]
        recording = record(function, [*places, *example])
        self.source: Source = write(recording, SIZE, len(places), len(told))
        self.told = list(told)
        self.function = loaded(self.source.text, FLAGS, HERE).run
        self.function.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        self.function.restype = ctypes.c_double

    def fits(self, places: Sequence[Tensor]) -> bool:
        """Whether tensors have as many entries as the program goes over: those of the parameter, or one."""
        size = places[1].numel()
        pairs = zip(places, self.source.entries, strict=True)
        return all(t.numel() == (size if entry else 1) for t, entry in pairs)


class Call:
    """A program with what it works on.

    Args:
        program: the program.
        sizes: how many entries each parameter has.
        places: for each parameter the addresses of its gradient, of itself and of its state.
        numbers: for each parameter its numbers.
    """

    def __init__(self, program: Program, sizes: list[int], places: list[int], numbers: array[float]) -> None:
        self.program, self.count, self.entries = program, len(sizes), sum(sizes)
        kept = array("d", bytes(8 * max(1, program.source.kept * len(sizes))))
        self.sums = array("d", bytes(8 * (program.source.sums + 1)))
        blocks = array("d", bytes(8 * sum(-(-n // BLOCK) for n in sizes)) if program.source.sums else b"")
        self.kept, self.blocks = kept, blocks
        self.given = (array("q", sizes), array("Q", places), numbers, kept, self.sums, blocks)

    def run(self, stage: int) -> float:
        """Carry out a stage, and give its sum over all entries."""
        places = [held.buffer_info()[0] for held in self.given]
        if stage == self.program.source.sums:
            places[-1] = 0
        job = array("Q", [self.count, *places])
        threads = min(torch.get_num_threads(), 1 + self.entries // ALONE)
        return float(self.program.function(job.buffer_info()[0], stage, threads))

    def told(self) -> dict[str, float]:
        """What there is to tell after the last stage."""
        return {n: self.kept[i] for n, i in zip(self.program.told, self.program.source.told, strict=True)}


def run(calls: Sequence[Call]) -> dict[str, float]:
    """Change parameters and states in place, and give what is told; sums are taken over all calls together."""
    for stage in range(calls[0].program.source.sums + 1):
        total = sum(call.run(stage) for call in calls)
        for call in calls:
            call.sums[stage] = total
    return calls[0].told()


@dataclass(frozen=True)
class Like:
    """Parameters that one program steps: they have the same types, and go the same way through the rule.

    Args:
        kept: their types.
        mine: the names of some.
        names: the names of all parameters that the rule sees.
    """

    kept: Kept
    mine: tuple[str, ...] = ("0", "1", "2", "3")
    names: tuple[str, ...] = ("0", "1", "2", "3")


def of_rule(rule: Rule, h: Numbers, like: Like) -> Program:
    """The program of a rule: its last number is what the gradient is multiplied by.

    Raises:
        Unwritable: where the rule does more than a loop over entries can.
    """
    name, types = like.mine[0], dict(like.kept.state)
    paths, keys = list(h), list(types)
    told: list[str] = []
    vector = wide(torch.ones(SIZE, dtype=like.kept.own))
    others = dict.fromkeys(like.names, vector)

    def function(g: Tensor, p: Tensor, *rest: Tensor) -> list[Tensor]:
        held, numbers = dict(zip(keys, rest, strict=False)), dict(zip(paths, rest[len(keys) :], strict=False))
        state = State({name: held}, {})
        seen = {**others, name: wide(p)}
        step, after, info = rules.update(rule, {name: wide(g) * rest[-1]}, state, seen, numbers)
        told[:] = info
        return [seen[name] + step[name], *(after.params[name][key] for key in keys), *info.values()]

    start = rules.init(rule, others, _first(h))
    if start.tree or set(start.params[name]) != set(keys):
        raise Unwritable("state of the whole tree in a loop over entries")
    places = [
        vector.to(like.kept.grad),
        vector.to(like.kept.own),
        *(start.params[name][key].to(types[key]) for key in keys),
    ]
    places = [t.clone() for t in places]  # each a tensor of its own
    numbers = len(paths) + 1
    function(*places, *[torch.ones((), dtype=torch.float64)] * numbers)  # what is told is known by running it
    program = Program(function, places, numbers, told)
    if program.source.sums != _sums(rule):
        raise Unwritable("sum over a single tensor in a loop over all")
    return program


def _sums(rule: Rule) -> int:
    """How many sums the parts of a rule take over all entries of all parameters, by what they declare."""
    own = behavior(rule)
    return own.sums + sum(_sums(part) for part in own.parts(rule))


def _first(h: Numbers) -> dict[str, Any]:
    return {
        path: next(iter(v.values.values())) if isinstance(v, PerParameter) else v for path, v in h.items()
    }


def prove(program: Program, rule: Rule, h: Numbers, like: Like) -> bool:
    """Whether a program does what its rule does, on three steps with tensors of several shapes.

    This also finds what no recording of one vector shows: a rule that treats matrices in another way.
    """
    turns = 1 if len(like.mine) >= len(SHAPES) else len(SHAPES)
    return all(_agree(program, rule, _first(h), like, turn) for turn in range(turns))


def _agree(program: Program, rule: Rule, h: Numbers, like: Like, turn: int) -> bool:
    kept, random, types = like.kept, torch.Generator().manual_seed(turn), dict(like.kept.state)
    shapes = dict(zip(like.mine, SHAPES[turn:] + SHAPES[:turn], strict=False))

    def normal(dtype: torch.dtype) -> Tree:
        return {name: torch.randn(shape, generator=random).to(dtype) for name, shape in shapes.items()}

    fast = normal(kept.own)
    others = {name: wide(torch.ones(1, dtype=kept.own)) for name in like.names}
    start = rules.init(rule, {**others, **_wide(fast)}, h).params
    own = {n: {k: t.to(types[k], copy=True) for k, t in start[n].items()} for n in fast}
    numbers = array("d", [*map(float, h.values()), 1.0]) * len(fast)
    for _ in range(3):
        grads = normal(kept.grad)
        seen = {**others, **_wide(fast)}
        held = {n: {k: t.clone() for k, t in s.items()} for n, s in own.items()}
        step, after, info = rules.update(rule, _wide(grads), State(held, {}), seen, h)
        slow, held = {n: seen[n] + step[n] for n in fast}, after.params
        all_places = {n: (grads[n], fast[n], *(own[n][k] for k in types)) for n in fast}
        if not all(map(program.fits, all_places.values())):
            return False
        places = [t.data_ptr() for mine in all_places.values() for t in mine]
        told = run([Call(program, [p.numel() for p in slow.values()], places, numbers)])
        pairs = [(fast[n], slow[n]) for n in slow] + [(own[n][k], held[n][k]) for n in slow for k in types]
        pairs += [(torch.tensor(told[key], dtype=torch.float64), value) for key, value in info.items()]
        if not all(_close(a, b, kept) for a, b in pairs):
            return False
    return True


def _wide(tree: Tree) -> Tree:
    return {name: wide(t) for name, t in tree.items()}


def _close(fast: Tensor, slow: Tensor, kept: Kept) -> bool:
    """Whether a result is the other, rounded to its type, but for rounding on the way, which is in float32 at least."""
    types = (kept.grad, kept.own, *(t for _, t in kept.state))
    on_the_way = 64 * max(torch.finfo(torch.promote_types(t, torch.float32)).eps for t in types)
    size = slow.double().abs().amax() if slow.numel() else 0.0
    near = torch.isclose(
        fast.double(),
        slow.double(),
        on_the_way + torch.finfo(fast.dtype).eps,
        float(on_the_way * size),
        equal_nan=True,
    )
    return bool(near.all())
