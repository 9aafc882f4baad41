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
from .operations import arithmetic, c_type, common_type, operation, type_of, written
from .texts import HEAD, NUMBERS, PROGRAM, SUMMING, WRITING

BLOCK = 131072
"""Entries that a thread takes at a time."""
SAME = {
    "alias", "cat", "clone", "detach", "expand", "lift_fresh", "reshape", "squeeze", "stack", "unsqueeze", "view",
    "_unsafe_view",
}  # fmt: skip
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
        entries: for each place in memory, whether it has as many entries as the vector, or is one number.
    """

    text: str
    kept: int
    sums: int
    told: tuple[int, ...]
    entries: tuple[bool, ...]


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
            given = node.all_input_nodes
            if operation(node) in SAME and len(given) == 1 and type_of(node) == type_of(given[0]):
                self.same[node] = self.origin(given[0])
        self.nodes = [n for n in nodes if n not in self.same]
        split = len(results) - told
        self.results = dict(zip(self.given[1:places], map(self.origin, results[:split]), strict=False))
        self.told = [self.origin(n) for n in results[split:]]
        self.sums = [n for n in self.nodes if self.is_sum(n)]
        self.stage = dict.fromkeys(self.given, 0)
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
        text = PROGRAM.format(
            functions="\n".join(parts + passes),
            numbers=", ".join(f"numbers_{k}" for k in range(last + 1)),
            passes=", ".join(table),
            block=BLOCK,
        )
        kept = self.kept()
        if not set(self.told) <= set(kept):
            raise Unwritable("norm over a part of the parameters in a loop over all")
        told = tuple(kept.index(n) for n in self.told)
        return Source(text, len(kept), last, told, tuple(map(self.is_entry, self.given[: self.places])))

    # --- numbers --------------------------------------------------------------------------------------------

    def numbers(self, k: int, last: int) -> str:
        """The function that computes the numbers of a stage for one tensor."""
        lines = []
        for i, node in enumerate(self.kept()):
            kind = c_type(node)
            text = self.formula(node) if self.stage[node] == k else f"({kind})kept[{i}]"
            if self.stage[node] <= k:
                lines.append(f"const {kind} v_{node.name} = {text};")
            if self.stage[node] == k:
                lines.append(f"kept[{i}] = (double)v_{node.name};")
        if k == last:  # all that is read is read by now
            for place, new in self.results.items():
                if not self.is_entry(place) and new is not place:
                    kind, i = STORED[type_of(place)], self.given.index(place)
                    lines.append(f"*({kind} *)at[{i}] = ({kind}){self.read(new)};")
        body = "\n".join(f"  {line}" for line in [*self.numbers_given(), *lines])
        return NUMBERS.format(
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
                kind = STORED[type_of(n)]
                lines.append(f"const {kind} v_{n.name} = *(const {kind} *)at[{i}];")
        return lines

    def formula(self, node: Node) -> str:
        if node in self.sums:
            total = f"job->sums[{self.sums.index(node)}]"
            return f"sqrt({total})" if operation(node) == "linalg_vector_norm" else total
        if operation(node) == "linalg_vector_norm":
            return f"fabs({self.read(node.args[0])})"
        return self.text(node)

    # --- passes ---------------------------------------------------------------------------------------------

    def summing(self, k: int, node: Node) -> str:
        """The pass over the entries that takes a sum."""
        squared = operation(node) == "linalg_vector_norm"
        options = [a for a in (*node.args[1:], *node.kwargs.values()) if not isinstance(a, torch.dtype)]
        if operation(node) not in ("linalg_vector_norm", "sum") or any(
            o not in (2, 2.0, [], None, False, [0]) for o in options
        ):
            raise Unwritable(f"sum over all entries as {node.target} is")
        x = self.origin(node.all_input_nodes[0])
        lines = [*self.entries([x]), f"const double x = {self.read(x)};"]
        lines.append(f"sum += {'x * x' if squared else 'x'};")
        inner = "\n".join(f"    {line}" for line in lines)
        return SUMMING.format(k=k, head=self.head(k, [x]), inner=inner)

    def writing(self, k: int, changed: dict[Node, Node]) -> str:
        """The last pass, which writes."""
        lines = self.entries(list(changed.values()))
        for place, new in changed.items():
            name, text = f"a{self.given.index(place)}", self.read(new)
            half = type_of(place) == torch.bfloat16
            lines.append(f"{name}[e] = {f'to_bf16({text})' if half else text};")
        inner = "\n".join(f"    {line}" for line in lines)
        return WRITING.format(k=k, head=self.head(k, list(changed.values()), set(changed)), inner=inner)

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
            kind = STORED[type_of(n)]
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
                lines.append(f"const {c_type(n)} v_{n.name} = ({c_type(n)})kept[{i}];")
        found = "\n".join(f"  {line}" for line in lines)
        return HEAD.format(places=self.places, given=self.given_count, kept=self.kept_count) + found

    def entries(self, wanted: Sequence[Node]) -> list[str]:
        """What is computed for one entry."""
        needed, lines = self.needed(wanted), []
        for i, n in enumerate(self.given[: self.places]):
            if n in needed and self.is_entry(n):
                half = type_of(n) == torch.bfloat16
                lines.append(
                    f"const {c_type(n)} v_{n.name} = {f'from_bf16(a{i}[e])' if half else f'a{i}[e]'};"
                )
        for n in self.nodes:
            if n in needed and self.is_entry(n):
                text = self.text(n)
                if type_of(n) == torch.bfloat16:
                    text = f"round_bf16({text})"
                lines.append(f"const {c_type(n)} v_{n.name} = {text};")
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
            return literal(held.flatten()[0].item(), arithmetic(held.dtype))
        return f"v_{value.name}"

    def text(self, node: Node) -> str:
        """One operation in C."""
        name, dtype = operation(node), arithmetic(type_of(node))
        given = [a for a in node.args if isinstance(a, (Node, int, float)) or a is None]
        common = common_type([a for a in given if a is not None])
        texts = ["" if a is None else self.read(a, common if name in COMPARED else dtype) for a in given]
        text = written(name, texts, dtype, node.kwargs)
        if text is None:
            text = expression(name, texts, dtype, common, node.kwargs)
        if text is None:
            raise Unwritable(f"{node.target}")
        return f"({text}) != 0" if dtype == torch.bool else text
