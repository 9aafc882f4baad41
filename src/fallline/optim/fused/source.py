"""From a recording of a rule on one long vector to a program in C that goes over all parameters.

A value of the recording is either an *entry* (it has the shape of the vector: a gradient, a moment, a step) or a
*number* (a rate, a power of β, a norm). Numbers are computed once for each tensor, entries in one loop. Where a number
hangs on all entries (a norm), the program has stages: each but the last sums something up, and what it needs of the
entries for that is computed anew in the next, so that nothing is written on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from ...native.pointwise import C_TYPES, COMPARED, Unwritable, expression, literal
from ...native.recording import Recording

BLOCK = 131072
"""Entries that a thread takes at a time."""
SAME = "alias clone detach expand lift_fresh reshape squeeze unsqueeze view _unsafe_view stack cat".split()
"""Operations after which each entry, or the number, is what it was."""
STORED = {**C_TYPES, torch.bfloat16: "uint16_t"}
"""How entries lie in memory."""


@dataclass(frozen=True)
class Source:
    """A program in C.

    Args:
        text: the text.
        kept: how many numbers it keeps for each tensor.
        sums: how many sums over all entries it takes.
        told: for each result that is to be told, its place among the numbers that are kept.
    """

    text: str
    kept: int
    sums: int
    told: tuple[int, ...]


def write(recording: Recording, size: int, places: int, told: int) -> Source:
    """The program of a recording whose arguments are places in memory, and after them numbers in float64.

    Args:
        recording: of a function that gives a new value for each place but the first, in order, and then what is
            to be told.
        size: how many entries the vector had that it was recorded with.
        places: how many of its arguments are places in memory; the first is only read.
        told: how many of its last results are told.

    Raises:
        Unwritable: where C has no text for it.
    """
    return _Writer(recording, size, places, told).source()


class _Writer:
    def __init__(self, recording: Recording, size: int, places: int, told: int) -> None:
        self.size, self.places = size, places
        self.given = [n for n in recording.graph.nodes if n.op == "placeholder"]
        self.constants = recording.constants
        nodes = [n for n in recording.graph.nodes if n.op == "call_function"]
        results = list(next(n for n in recording.graph.nodes if n.op == "output").args[0])
        self.same: dict[Node, Node] = {}
        for node in nodes:
            if _operation(node) in SAME and len(node.all_input_nodes) == 1:
                self.same[node] = self.origin(node.all_input_nodes[0])
        self.nodes = [n for n in nodes if n not in self.same]
        split = len(results) - told
        self.results = dict(zip(self.given[1:places], map(self.origin, results[:split]), strict=False))
        self.told = [self.origin(n) for n in results[split:]]
        self.sums = [n for n in self.nodes if self.is_sum(n)]
        self.stage = {n: 0 for n in self.given}
        for node in self.nodes:
            own = max((self.stage.get(self.origin(n), 0) for n in node.all_input_nodes), default=0)
            self.stage[node] = self.sums.index(node) + 1 if node in self.sums else own

    def origin(self, node: Node) -> Node:
        """The value that a node is, where it only looks at another."""
        return self.same.get(node, node)

    def is_entry(self, node: Node) -> bool:
        """Whether a value has the shape of the vector; a number otherwise."""
        shape = node.meta["layout"].shape
        if shape == (self.size,):
            return True
        if all(n == 1 for n in shape):
            return False
        raise Unwritable(f"shape as that of {node.target} in a loop over entries")

    def is_sum(self, node: Node) -> bool:
        """Whether a number hangs on all entries."""
        given = [self.origin(n) for n in node.all_input_nodes]
        return not self.is_entry(node) and any(self.is_entry(n) for n in given)

    def kept(self) -> list[Node]:
        """The numbers that are kept for each tensor."""
        return [n for n in self.nodes if not self.is_entry(n)]

    def source(self) -> Source:
        """Put all of it together."""
        last = len(self.sums)
        parts = [self.numbers(k, last) for k in range(last + 1)]
        passes = [self.summing(k, node) for k, node in enumerate(self.sums)]
        changed = {p: new for p, new in self.results.items() if self.is_entry(p) and new is not p}
        passes += [self.writing(last, changed)] if changed else []
        table = [f"pass_{k}" if k < last or changed else "0" for k in range(last + 1)]
        text = _PROGRAM.format(
            functions="\n".join(parts + passes),
            numbers=", ".join(f"numbers_{k}" for k in range(last + 1)),
            passes=", ".join(table),
            block=BLOCK,
        )
        kept = self.kept()
        if not set(self.told) <= set(kept):
            raise Unwritable("norm over a part of the parameters in a loop over all")
        told = tuple(kept.index(n) for n in self.told)
        return Source(text, len(kept), last, told)

    # --- numbers --------------------------------------------------------------------------------------------

    def numbers(self, k: int, last: int) -> str:
        """The function that computes the numbers of a stage for one tensor."""
        lines = []
        for i, node in enumerate(self.kept()):
            kind = _c_type(node)
            text = self.formula(node) if self.stage[node] == k else f"({kind})kept[{i}]"
            if self.stage[node] <= k:
                lines.append(f"const {kind} v_{node.name} = {text};")
            if self.stage[node] == k:
                lines.append(f"kept[{i}] = (double)v_{node.name};")
        if k == last:  # all that is read is read by now
            for place, new in self.results.items():
                if not self.is_entry(place) and new is not place:
                    kind, i = STORED[place.meta["layout"].dtype], self.given.index(place)
                    lines.append(f"*({kind} *)at[{i}] = ({kind}){self.read(new)};")
        body = "\n".join(f"  {line}" for line in [*self.numbers_given(), *lines])
        return _NUMBERS.format(
            k=k, body=body, places=self.places, given=self.given_count, kept=self.kept_count
        )

    @property
    def given_count(self) -> int:
        return len(self.given) - self.places

    @property
    def kept_count(self) -> int:
        return len(self.kept())

    def numbers_given(self) -> list[str]:
        """The numbers among the arguments: those of this step, and those of the state."""
        lines = [f"const double v_{n.name} = numbers[{i}];" for i, n in enumerate(self.given[self.places :])]
        for i, n in enumerate(self.given[: self.places]):
            if not self.is_entry(n):
                kind = STORED[n.meta["layout"].dtype]
                lines.append(f"const {kind} v_{n.name} = *(const {kind} *)at[{i}];")
        return lines

    def formula(self, node: Node) -> str:
        if node in self.sums:
            total = f"job->sums[{self.sums.index(node)}]"
            return f"sqrt({total})" if _operation(node) == "linalg_vector_norm" else total
        if _operation(node) == "linalg_vector_norm":
            return f"fabs({self.read(node.args[0])})"
        return self.text(node)

    # --- passes ---------------------------------------------------------------------------------------------

    def summing(self, k: int, node: Node) -> str:
        """The pass over the entries that takes a sum."""
        squared = _operation(node) == "linalg_vector_norm"
        options = [a for a in (*node.args[1:], *node.kwargs.values()) if not isinstance(a, torch.dtype)]
        if _operation(node) not in ("linalg_vector_norm", "sum") or any(
            o not in (2, 2.0, [], None, False, [0]) for o in options
        ):
            raise Unwritable(f"sum over all entries as {node.target} is")
        x = self.origin(node.all_input_nodes[0])
        lines = [*self.entries([x]), f"const double x = {self.read(x)};"]
        lines.append(f"sum += {'x * x' if squared else 'x'};")
        inner = "\n".join(f"    {line}" for line in lines)
        return _SUMMING.format(k=k, head=self.head(k, [x]), inner=inner)

    def writing(self, k: int, changed: dict[Node, Node]) -> str:
        """The last pass, which writes."""
        lines = self.entries(list(changed.values()))
        for place, new in changed.items():
            name, text = f"a{self.given.index(place)}", self.read(new)
            half = place.meta["layout"].dtype == torch.bfloat16
            lines.append(f"{name}[e] = {f'to_bf16({text})' if half else text};")
        inner = "\n".join(f"    {line}" for line in lines)
        return _WRITING.format(k=k, head=self.head(k, list(changed.values()), set(changed)), inner=inner)

    def needed(self, wanted: Sequence[Node]) -> set[Node]:
        """All that the wanted entries are computed from."""
        found: set[Node] = set()
        left = list(wanted)
        while left:
            node = left.pop()
            if node not in found:
                found.add(node)
                if self.is_entry(node):
                    left += [self.origin(n) for n in node.all_input_nodes]
        return found

    def head(self, k: int, wanted: Sequence[Node], written: set[Node] | None = None) -> str:
        """Addresses and numbers for a loop over the entries."""
        needed, lines = self.needed(wanted), []
        for i, n in enumerate(self.given[: self.places]):
            kind = STORED[n.meta["layout"].dtype]
            if self.is_entry(n) and (n in needed or n in (written or ())):
                constant = "" if n in (written or ()) else "const "
                lines.append(f"{constant}{kind} *const a{i} = ({constant}{kind} *)at[{i}];")
            elif n in needed:
                lines.append(f"const {kind} v_{n.name} = *(const {kind} *)at[{i}];")
        for i, n in enumerate(self.given[self.places :]):
            if n in needed:
                lines.append(f"const double v_{n.name} = numbers[{i}];")
        for i, n in enumerate(self.kept()):
            if n in needed:
                lines.append(f"const {_c_type(n)} v_{n.name} = ({_c_type(n)})kept[{i}];")
        found = "\n".join(f"  {line}" for line in lines)
        return _HEAD.format(places=self.places, given=self.given_count, kept=self.kept_count) + found

    def entries(self, wanted: Sequence[Node]) -> list[str]:
        """What is computed for one entry."""
        needed, lines = self.needed(wanted), []
        for i, n in enumerate(self.given[: self.places]):
            if n in needed and self.is_entry(n):
                half = n.meta["layout"].dtype == torch.bfloat16
                lines.append(
                    f"const {_c_type(n)} v_{n.name} = {f'from_bf16(a{i}[e])' if half else f'a{i}[e]'};"
                )
        for n in self.nodes:
            if n in needed and self.is_entry(n):
                text = self.text(n)
                if n.meta["layout"].dtype == torch.bfloat16:
                    text = f"round_bf16({text})"
                lines.append(f"const {_c_type(n)} v_{n.name} = {text};")
        return lines

    # --- one operation --------------------------------------------------------------------------------------

    def read(self, value: Any, dtype: torch.dtype = torch.float64) -> str:
        """A value in C."""
        if not isinstance(value, Node):
            return literal(value, dtype)
        value = self.origin(value)
        if value.op == "get_attr":
            held = self.constants[value.target]
            if held.unique().numel() != 1 or held.isnan().any():
                raise Unwritable("table of constants in a loop over entries")
            return literal(held.flatten()[0].item(), _arithmetic(held.dtype))
        return f"v_{value.name}"

    def text(self, node: Node) -> str:
        """One operation in C."""
        name, dtype = _operation(node), _arithmetic(node.meta["layout"].dtype)
        given = [a for a in node.args if isinstance(a, (Node, int, float)) or a is None]
        common = _common([a for a in given if a is not None])
        texts = ["" if a is None else self.read(a, common if name in COMPARED else dtype) for a in given]
        text = _own(name, texts, dtype, node.kwargs)
        if text is None:
            text = expression(name, texts, dtype, common, node.kwargs)
        if text is None:
            raise Unwritable(f"{node.target}")
        return f"({text}) != 0" if dtype == torch.bool else text


def _own(name: str, texts: list[str], dtype: torch.dtype, options: Any) -> str | None:
    """Operations that are written in another way than for models: numbers by the library, not by polynomials."""
    kind, end = C_TYPES[dtype], "f" if dtype == torch.float32 else ""
    x = [f"(({kind}){text})" for text in texts]
    value = literal(options.get("value", 1), dtype)
    if name in ("exp", "log", "tanh"):
        return f"{name}{end}({x[0]})"
    if name == "sigmoid":
        return f"1 / (1 + exp{end}(-{x[0]}))"
    if name == "lerp":
        small = f"(fabs{end}({x[2]}) < 0.5{end})"
        by, of = f"({small} ? {x[2]} : {x[2]} - 1)", f"({small} ? {x[0]} : {x[1]})"
        return f"FMA_{end.upper() or 'D'}({by}, {x[1]} - {x[0]}, {of})"
    if name == "rsub":
        return f"{x[1]} - {literal(options.get('alpha', 1), dtype)} * {x[0]}"
    if name == "addcmul":
        return f"{x[0]} + {value} * {x[1]} * {x[2]}"
    if name == "addcdiv":
        return f"{x[0]} + {value} * {x[1]} / {x[2]}"
    if name == "clamp":
        low = f"({x[0]} < {x[1]} ? {x[1]} : {x[0]})" if texts[1] else x[0]
        return f"{low} > {x[2]} ? {x[2]} : {low}" if len(texts) > 2 and texts[2] else low
    return None


def _operation(node: Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return schema.name.removeprefix("aten::") if schema else ""


def _arithmetic(dtype: torch.dtype) -> torch.dtype:
    """The type that a number of this type is computed in."""
    found = torch.float32 if dtype == torch.bfloat16 else dtype
    if found not in C_TYPES:
        raise Unwritable(f"numbers of type {dtype}")
    return found


def _c_type(node: Node) -> str:
    return C_TYPES[_arithmetic(node.meta["layout"].dtype)]


def _common(given: Sequence[Any]) -> torch.dtype:
    """What values that are compared are brought to."""
    like = [
        torch.empty(a.meta["layout"].shape, dtype=a.meta["layout"].dtype, device="meta")
        if isinstance(a, Node)
        else a
        for a in given
    ]
    if len(like) > 1:
        return _arithmetic(torch.result_type(like[-2], like[-1]))
    return _arithmetic(like[0].dtype) if like and isinstance(like[0], torch.Tensor) else torch.float64


_HEAD = """  void *const *const at = job->at + tensor * {places};
  const double *const numbers = job->numbers + tensor * {given};
  double *const kept = job->kept + tensor * {kept};
"""
_NUMBERS = """static void numbers_{k}(const Job *job, long tensor) {{
  void *const *const at = job->at + tensor * {places};
  const double *const numbers = job->numbers + tensor * {given};
  double *const kept = job->kept + tensor * {kept};
{body}
}}
"""
_SUMMING = """static double pass_{k}(const Job *job, long tensor, long from, long to) {{
{head}
  double sum = 0;
  #pragma omp simd reduction(+:sum)
  for (long e = from; e < to; e++) {{
{inner}
  }}
  return sum;
}}
"""
_WRITING = """static double pass_{k}(const Job *job, long tensor, long from, long to) {{
{head}
  ENTRIES_APART
  for (long e = from; e < to; e++) {{
{inner}
  }}
  return 0;
}}
"""
_PROGRAM = """#define BLOCK {block}
#include "passes.h"
#pragma GCC diagnostic ignored "-Wunused-variable"

{functions}
double run(const Job *job, int stage, int threads) {{
  static const Numbers numbers[] = {{{numbers}}};
  static const Pass passes[] = {{{passes}}};
  return run_stage(job, numbers[stage], passes[stage], stage, threads);
}}
"""
