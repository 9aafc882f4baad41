"""Which parameters of an optimizer are stepped in one pass, and their programs."""

from __future__ import annotations

import functools
import itertools
import warnings
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
from ...types import Info, State, Tree
from ..plan import Part
from .program import SIZE, Kept, Program, of_rule, prove, told

ONE_PASS = "one pass in C"
TYPES = (torch.float32, torch.float64, torch.bfloat16)


@dataclass(frozen=True)
class Seen:
    """A parameter whose state has been looked at: where its parts are, and of which types."""

    own: Tensor
    held: tuple[tuple[str, Tensor], ...]
    kept: Kept

    def still(self, p: Tensor, state: Mapping[str, Tensor]) -> bool:
        """Whether nothing has been put in the place of what was looked at."""
        if self.own is not p or p.dtype is not self.kept.own or len(state) != len(self.held):
            return False
        return all(state.get(key) is t for key, t in self.held)


class Runner:
    """Takes the steps of one optimizer in one pass where that can be done, and says in ``notes`` where it cannot."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self._programs: dict[Any, Program | str] = {}
        self._seen: dict[str, Seen] = {}

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
        found = self._programs_for(part, live, state) if part.fused else "as it was asked for"
        structure = specs.structure(part.rule)
        self.notes[structure] = f"{part.rule.kind}: plain, {found}" if isinstance(found, str) else ONE_PASS
        if isinstance(found, str):
            return None
        if any(isinstance(value, PerParameter) for value in part.h.values()):
            rules.update(part.rule, {}, State({}, {}), part.params, part.h)  # refuses numbers that must be one
        info: dict[str, float] = {}
        for program, names in found:
            rows = [(live[n].grad, live[n], *(t for _, t in self._seen[n].held)) for n in names]
            info |= program.run(rows, _numbers(part, names, scale))  # type: ignore[arg-type]
        torch.autograd.graph.increment_version(list(live.values()))
        return told(info)

    def _programs_for(
        self, part: Part, live: Tree, state: Mapping[Tensor, Mapping[str, Tensor]]
    ) -> list[tuple[Program, list[str]]] | str:
        """The program of each parameter; or why there is none."""
        if torch.compiler.is_compiling():
            return "inside torch.compile"
        groups: dict[Kept, list[str]] = {}
        for name, p in live.items():
            own, seen = state.get(p, {}), self._seen.get(name)
            if seen is None or not seen.still(p, own) or p.grad.dtype is not seen.kept.grad:  # type: ignore[union-attr]
                seen = self._seen[name] = _look(p, own)
            if not _simple(p) or not _simple(p.grad) or not all(_simple(t) for _, t in seen.held):  # type: ignore[arg-type]
                return "as a tensor is not dense on the CPU in float32, float64 or bfloat16"
            groups.setdefault(seen.kept, []).append(name)
        if not _compiler_is_there():
            return "as this machine has no C compiler"
        found = []
        for kept, names in groups.items():
            program = self._program(part, kept)
            if isinstance(program, str):
                return program
            if program.source.sums and len(groups) > 1:
                return "as a norm over all parameters is taken, and they are of several types"
            found.append((program, names))
        return found

    def _program(self, part: Part, kept: Kept) -> Program | str:
        key = (specs.structure(part.rule), tuple(part.h), kept)
        if key not in self._programs:
            try:
                made = of_rule(part.rule, part.h, kept)
                right = prove(made, part.rule, part.h, kept)
                self._programs[key] = made if right else "as it is more than a loop over entries"
            except (Unwritable, Unrecordable) as error:
                self._programs[key] = f"as C has no {error}"
            except (FalllineError, RuntimeError, TypeError, LookupError, OSError) as error:
                self._programs[key] = f"as it cannot be recorded: {error}"
        return self._programs[key]


def _look(p: Tensor, state: Mapping[str, Tensor]) -> Seen:
    held = tuple(sorted(state.items()))
    kept = Kept(p.grad.dtype, p.dtype, tuple((key, t.dtype) for key, t in held))  # type: ignore[union-attr]
    return Seen(p, held, kept)


def _simple(t: Tensor) -> bool:
    """Whether a tensor is a piece of memory that a loop can go over."""
    plain = type(t) in (Tensor, torch.nn.Parameter) and t.is_cpu and t.dtype in TYPES
    return plain and t.layout is torch.strided and t.is_contiguous()


def _numbers(part: Part, names: list[str], scale: float) -> list[list[float]]:
    """The numbers for each parameter; what is maximized has its gradient turned around."""
    if not part.uphill and not any(isinstance(v, PerParameter) for v in part.h.values()):
        return [[*map(float, part.h.values()), scale]] * len(names)
    return [
        [
            *(float(v.values[n] if isinstance(v, PerParameter) else v) for v in part.h.values()),
            -scale if n in part.uphill else scale,
        ]
        for n in names
    ]


@functools.cache
def _compiler_is_there() -> bool:
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
def _norm(dtype: torch.dtype) -> Program:
    """The program for the norm of gradients of one type."""

    def function(g: Tensor) -> list[Tensor]:
        return [torch.linalg.vector_norm(g.double())]

    return Program(function, [torch.ones(SIZE, dtype=dtype)], 0, ["norm"])


def total_norm(grads: Iterable[Tensor], fused: bool) -> float | Tensor:
    """The norm of all gradients together, in float64; a tensor where it is not on the CPU.

    Args:
        grads: the gradients.
        fused: whether it may be taken in one pass.
    """
    norms: list[float | Tensor] = []
    for dtype, given in itertools.groupby(sorted(grads, key=lambda g: str(g.dtype)), lambda g: g.dtype):
        same = list(given)
        if fused and all(map(_simple, same)) and _compiler_is_there():
            norms.append(_norm(dtype).run([[g] for g in same], [[]] * len(same))["norm"])
        else:
            norms += [torch.linalg.vector_norm(g, dtype=torch.float64) for g in same]
    if all(isinstance(norm, float) for norm in norms):
        return float(sum(float(norm) ** 2 for norm in norms) ** 0.5)
    device = next(norm.device for norm in norms if isinstance(norm, Tensor))
    return torch.linalg.vector_norm(torch.stack([torch.as_tensor(n, dtype=torch.float64, device=device) for n in norms]))
