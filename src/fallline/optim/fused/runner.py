"""Which parameters of an optimizer are stepped in one pass, and their programs."""

from __future__ import annotations

import functools
import warnings
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ... import rules, specs
from ...errors import FalllineError
from ...native.compiling import compiler
from ...native.pointwise import Unwritable
from ...native.recording import Unrecordable
from ...rules.base import PerParameter
from ...rules.routing import branches
from ...types import Info, State, Tree
from ..plan import Part
from .program import SIZE, Call, Kept, Like, Program, of_rule, prove, run

ONE_PASS = "one pass in C"
TYPES = (torch.float32, torch.float64, torch.bfloat16)


@dataclass(frozen=True)
class Seen:
    """A parameter that has been looked at: its state, and where in memory all of it is.

    Args:
        own: the parameter.
        kept: its types.
        held: its state by key.
        places: the addresses of itself and of its state.
        size: its number of entries.
    """

    own: Tensor
    kept: Kept
    held: tuple[tuple[str, Tensor], ...]
    places: tuple[int, ...]
    size: int

    def fits(self, program: Program) -> bool:
        """Whether its state has the shapes that a program goes over."""
        return program.fits([self.own, self.own, *(t for _, t in self.held)])

    def still(self, p: Tensor, state: Mapping[str, Tensor]) -> bool:
        """Whether nothing has been put in the place of what was looked at."""
        if self.own is not p or p.data_ptr() != self.places[0] or not p.is_contiguous():
            return False
        if p.dtype is not self.kept.own or p.numel() != self.size or len(state) != len(self.held):
            return False
        for (key, t), place in zip(self.held, self.places[1:], strict=True):
            if state.get(key) is not t or t.data_ptr() != place or t.numel() not in (self.size, 1):
                return False
        return True


Way = tuple[int, ...]
Work = dict[tuple[Kept, Way], tuple[list[str], list[int], list[int]]]
"""By types, and by the way through the rule: names, sizes and addresses."""


class Runner:
    """Takes the steps of one optimizer in one pass where that can be done, and says in ``notes`` where it cannot."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self._programs: dict[Any, Program | str] = {}
        self._seen: dict[str, Seen] = {}
        self._new: set[str] = set()
        self._types: dict[Kept, Kept] = {}
        self._ways: dict[str, tuple[tuple[str, ...], dict[str, Way]]] = {}

    def ready(self, part: Part, live: Tree, state: Mapping[Tensor, Mapping[str, Tensor]]) -> bool:
        """Whether a step can be taken in one pass; its programs are made now."""
        return not isinstance(self._prepared(part, specs.structure(part.rule), live, state), str)

    def advance(
        self, part: Part, live: Tree, state: Mapping[Tensor, Mapping[str, Tensor]], scale: float
    ) -> Info | None:
        """Take a step in place and give what the rule tells; none where the plain path has to take it.

        Args:
            part: the rule, its numbers and its parameters.
            live: the parameters that have a gradient.
            state: of each parameter.
            scale: what the gradients are multiplied by.
        """
        structure = specs.structure(part.rule)
        found = self._prepared(part, structure, live, state)
        self.notes[structure] = f"{part.rule.kind}: plain, {found}" if isinstance(found, str) else ONE_PASS
        if isinstance(found, str):
            return None
        if any(isinstance(value, PerParameter) for value in part.h.values()):
            rules.update(
                part.rule, {}, State({}, {}), part.params, part.h
            )  # refuses numbers that must be one
        info = run([Call(program, s, at, _numbers(part, names, scale)) for program, (names, s, at) in found])
        torch.autograd.graph.increment_version(list(live.values()))
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in info.items()}

    def _prepared(
        self, part: Part, structure: str, live: Tree, state: Mapping[Tensor, Mapping[str, Tensor]]
    ) -> list[tuple[Program, tuple[list[str], list[int], list[int]]]] | str:
        """Programs and what they work on; or why there are none."""
        if not part.fused:
            return "as it was asked for"
        if torch.compiler.is_compiling():
            return "inside torch.compile"
        work = self._work(live, state, self._ways_through(part, structure))
        if work is None:
            return "as a tensor is not dense on the CPU in float32, float64 or bfloat16"
        if not available():
            return "as this machine has no C compiler"
        found = []
        for (kept, way), items in work.items():
            program = self._program(part, structure, kept, way)
            if isinstance(program, str):
                return program
            found.append((program, items))
            if self._new and not all(self._seen[name].fits(program) for name in items[0]):
                return "as a state has not the shape of its parameter"
        self._new.clear()
        return found

    def _ways_through(self, part: Part, structure: str) -> dict[str, Way]:
        """The way of each parameter through a rule that routes; empty where there is one way only."""
        names = tuple(part.params)
        known = self._ways.get(structure)
        if known is None or known[0] != names:
            found = branches(part.rule, part.params)
            known = self._ways[structure] = names, found if any(found.values()) else {}
        return known[1]

    def _work(
        self, live: Tree, state: Mapping[Tensor, Mapping[str, Tensor]], ways: dict[str, Way]
    ) -> Work | None:
        """Where everything is; none where something is not a piece of memory. Few calls: models have many tensors."""
        work: Work = {}
        last: tuple[Kept | None, Way] = None, ()
        for name, p in live.items():
            g, own, seen = p.grad, state.get(p, {}), self._seen.get(name)
            assert g is not None
            if seen is None or seen.kept.grad is not g.dtype or not seen.still(p, own):
                seen = self._look(p, g, own)
                if seen is None:
                    return None
                self._seen[name] = seen
                self._new.add(name)
            if g.layout is not torch.strided or not (g.is_cpu and g.is_contiguous()) or type(g) is not Tensor:
                return None
            if g.is_neg() or g.numel() != seen.size:  # ``p.data`` may have got another size than ``p.grad``
                return None
            if seen.size and not g.data_ptr():  # freed
                return None
            way = ways.get(name, ()) if ways else ()
            if seen.kept is not last[0] or way != last[1]:
                last = seen.kept, way
                names, sizes, places = work.setdefault((seen.kept, way), ([], [], []))
            names.append(name)
            sizes.append(seen.size)
            places.append(g.data_ptr())
            places.extend(seen.places)
        return work

    def _look(self, p: Tensor, g: Tensor, own: Mapping[str, Tensor]) -> Seen | None:
        held = tuple(sorted(own.items()))
        if not all(_simple(t) for t in (p, g, *own.values())):
            return None
        kept = Kept(g.dtype, p.dtype, tuple((key, t.dtype) for key, t in held))
        kept = self._types.setdefault(kept, kept)  # one object for each, which is found sooner
        return Seen(p, kept, held, tuple(t.data_ptr() for t in (p, *(t for _, t in held))), p.numel())

    def _program(self, part: Part, structure: str, kept: Kept, way: Way) -> Program | str:
        key = structure, kept, way
        if key not in self._programs:
            if not rules.one_vector(part.rule):
                self._programs[key] = "as it is more than a loop over entries"
                return self._programs[key]
            like, rule = Like(kept), part.rule
            if way:
                names, ways = self._ways[structure]
                like = Like(kept, tuple(n for n in names if ways[n] == way), names)
                rule = rules.fit(rule, rules.facts(part.params))  # the proof has other shapes
            try:
                made = of_rule(rule, part.h, like)
                right = prove(made, rule, part.h, like)
                self._programs[key] = made if right else "as it is more than a loop over entries"
            except (Unwritable, Unrecordable) as error:
                self._programs[key] = f"as C has no {error}"
            except (FalllineError, RuntimeError, TypeError, LookupError, OSError) as error:
                self._programs[key] = f"as it cannot be recorded: {error}"
        return self._programs[key]


def _simple(t: Tensor) -> bool:
    """Whether a tensor is a piece of memory that a loop can go over."""
    plain = type(t) in (Tensor, torch.nn.Parameter) and t.is_cpu and t.dtype in TYPES
    dense = plain and t.layout is torch.strided and t.is_contiguous() and not t.is_neg()
    return dense and bool(t.data_ptr() or not t.numel())  # freed memory has no address


def _numbers(part: Part, names: list[str], scale: float) -> array[float]:
    """The numbers for each parameter; what is maximized has its gradient turned around."""
    if not part.uphill and not any(isinstance(v, PerParameter) for v in part.h.values()):
        return array("d", [*map(float, part.h.values()), scale]) * len(names)
    numbers = array("d")
    for n in names:
        numbers.extend(float(v.values[n] if isinstance(v, PerParameter) else v) for v in part.h.values())
        numbers.append(-scale if n in part.uphill else scale)
    return numbers


@functools.cache
def available() -> bool:
    """Whether there is a compiler; said once where there is none."""
    if compiler() is None:
        warnings.warn(
            "fallline found no C compiler (gcc, clang or cc): optimizers take their steps with torch's operations, "
            "which is slower and gives the same numbers",
            stacklevel=1,
        )
        return False
    return True


@functools.cache
def _norm(dtype: torch.dtype) -> Program | None:
    """The program for the norm of gradients of one type; none where the compiler makes none."""

    def function(g: Tensor) -> list[Tensor]:
        return [torch.linalg.vector_norm(g.double())]

    try:
        return Program(function, [torch.ones(SIZE, dtype=dtype)], 0, ["norm"])
    except (Unwritable, OSError):  # the compiler fails, or nothing can be kept on the disk
        return None


def total_norm(grads: Iterable[Tensor], fused: bool) -> float | Tensor:
    """The norm of all gradients together, in float64; a tensor where it was not taken in one pass.

    Args:
        grads: the gradients.
        fused: whether it may be taken in one pass.
    """
    given = list(grads)
    if not given:
        return 0.0
    if fused and not torch.compiler.is_compiling() and all(map(_simple, given)) and available():
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for g in given:
            kinds.setdefault(g.dtype, []).append(g)
        calls = [
            Call(program, [g.numel() for g in same], [g.data_ptr() for g in same], array("d"))
            for dtype, same in kinds.items()
            if (program := _norm(dtype))
        ]
        if len(calls) == len(kinds):
            return run(calls)["norm"]
    norms = [torch.linalg.vector_norm(g, dtype=torch.float64).to(given[0].device) for g in given]
    return torch.linalg.vector_norm(torch.stack(norms))
