"""From a recording of one run to the text of a C function for a block of runs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ...native.pointwise import C_TYPES, Unwritable, expression, literal
from ...native.recording import Layout, Recording
from .carry import Carry
from .graphs import (
    GETITEM,
    WRITERS,
    alike,
    broadcast,
    common_type,
    dense,
    is_pointwise,
    is_split,
    is_view,
    numel,
    operation,
    reads_in_place,
    ready,
    same_place,
    whole,
)
from .loops import Access, nest
from .memory import Piece, places

aten = torch.ops.aten
LARGE = 1 << 20
"""Bytes that a run carries, from which on they are changed in place where they can be: it saves memory. Smaller runs
are a tenth faster where two places take turns, and the second places are of one run alone."""


@dataclass
class Source:
    """A function in C that takes a block of runs some steps further.

    Args:
        text: its text.
        results: shape and dtype of each result that is not carried, for one run and one step.
        scratch: bytes that a run needs on the way.
        arguments: how many it has.
        carried: how many of them it changes in place.
        constants: what it is given after its arguments.
    """

    text: str
    results: list[tuple[tuple[int, ...], torch.dtype]]
    scratch: int
    arguments: int
    carried: int
    constants: list[Tensor] = field(default_factory=list)


def write(recording: Recording, own: Sequence[bool], carried: int = 0, kept: int = 0) -> Source:
    """The C function of a recording of one step of one run.

    Args:
        recording: of one step of one run.
        own: for each argument, whether every run has its own.
        carried: so many of the first results are the next values of as many first arguments. The last of them says
            whether the run goes on.
        kept: so many of these stay what they were before a step after which the run does not go on.

    Raises:
        Unwritable: where an operation is not known.
    """
    return _Writer(recording, own, carried, kept).source()


class Names:
    """How each tensor is found in C: a pointer to its memory, and its layout."""

    def __init__(self) -> None:
        self.pointers: dict[Node, str] = {}
        self.literals: dict[Node, str] = {}

    def pointer(self, node: Node) -> str:
        """The address of a tensor's first entry."""
        layout: Layout = node.meta["layout"]
        name = self.pointers[layout.base]
        return f"({name} + {layout.offset})" if layout.offset else name


class _Writer:
    def __init__(self, recording: Recording, own: Sequence[bool], carried: int, kept: int) -> None:
        self.recording, self.own, self.carried, self.kept = recording, own, carried, kept
        self.names = Names()
        self.nodes = [n for n in recording.graph.nodes if n.op == "call_function"]
        self.output = next(n for n in recording.graph.nodes if n.op == "output").args[0]
        self.constants: list[Tensor] = []
        self.pieces: list[Piece] = []
        for node in self.nodes:
            if getattr(node.target, "_schema", None) is not None and node.target._schema.is_mutable:
                raise Unwritable(f"operation that changes its argument, as {node.target} does")
        for node in recording.graph.nodes:
            if "layout" in node.meta and node.meta["layout"].dtype not in C_TYPES:
                raise Unwritable(f"numbers of type {node.meta['layout'].dtype}")

    def source(self) -> Source:
        """Write the pieces, find a place for each result on the way, and put all of it together."""
        head = self._arguments()
        self._schedule()
        results, placed = self._results()
        scratch, placed_at = places(self.pieces, placed)
        for base, at in placed_at.items():
            kind = C_TYPES[base.meta["layout"].dtype]
            self.names.pointers[base] = f"t_{base.name}"
            head.append(f"{kind} *const t_{base.name} = ({kind} *)(scratch + {at});")
        try:
            body = [line for piece in self.pieces for line in piece.text()]
        except NotImplementedError as error:
            raise Unwritable(str(error) or "text for one of its operations") from error
        carry = Carry([n.meta["layout"] for n in self.arguments[: self.carried]], self.turns, scratch)
        text = carry.function([*head, *body])
        return Source(text, results, carry.end, len(self.own), self.carried, self.constants)

    def _arguments(self) -> list[str]:
        head = []
        held = [n for n in self.recording.graph.nodes if n.op in ("placeholder", "get_attr")]
        self.arguments = [n for n in held if n.op == "placeholder"]
        count = len(self.arguments)
        going_on = self.output[: self.carried]
        self.turns = [after is not before for after, before in zip(going_on, self.arguments, strict=False)]
        for i, node in enumerate(self.arguments):
            layout = node.meta["layout"]
            kind, step = C_TYPES[layout.dtype], numel(layout.shape) if self.own[i] else 0
            self.names.pointers[node] = f"a{i}"
            if i >= self.carried:
                head.append(
                    f"const {kind} *const a{i} = (const {kind} *)p[{i}] + r * {step} + k * by_step[{i}];"
                )
        for node in (n for n in held if n.op == "get_attr"):
            value, layout = self.recording.constants[node.target], node.meta["layout"]
            if value.unique().numel() == 1 and not value.isnan().any():
                self.names.literals[node] = literal(value.flatten()[0].item(), value.dtype)
            kind, i = C_TYPES[layout.dtype], count + len(self.constants)
            self.constants.append(whole(value))
            self.names.pointers[node] = f"c{i}"
            head.append(f"const {kind} *const c{i} = (const {kind} *)p[{i}];")
        self.given = count + len(self.constants)
        return head

    def _schedule(self) -> None:
        """Take the operations in order, those on single entries of tensors of one shape together."""
        waiting = [n for n in self.nodes if not is_view(n) and not is_split(n)]
        made: set[Node] = {n for n in self.recording.graph.nodes if n.op in ("placeholder", "get_attr")}
        while waiting:
            first = waiting.pop(0)
            if not is_pointwise(first):
                self._one(first)
                made.add(first)
                continue
            group, rest = [first], []
            inside = {first}
            for node in waiting:
                if is_pointwise(node) and alike(node, first) and ready(node, made, inside):
                    group.append(node)
                    inside.add(node)
                else:
                    rest.append(node)
            waiting = rest
            made |= inside
            self._group(group)

    def _one(self, node: Node) -> None:
        writer = WRITERS.get(operation(node))
        if writer is None:
            raise Unwritable(f"{node.target}")
        parts = [n for n in self.nodes if n.target is GETITEM and n.args[0] is node] or [node]
        given = [a.meta["layout"].base for a in node.all_input_nodes]
        self.pieces.append(Piece(lambda: writer(node, self.names), set(given), set(parts)))

    def _group(self, group: list[Node]) -> None:
        inside = set(group)
        needed = {n for n in group if any(not reads_in_place(u, n, inside) for u in n.users)}
        reads = {a.meta["layout"].base for n in group for a in n.all_input_nodes} - (inside - needed)
        self.pieces.append(Piece(lambda: self._loop(group, needed), reads, needed, group))

    def _loop(self, group: list[Node], needed: set[Node]) -> list[str]:
        """One loop over the entries of tensors of one shape."""
        shape = group[0].meta["layout"].shape
        accesses: dict[str, Access] = {}
        fixed: list[str] = []
        lines: list[str] = []
        local: dict[Node, str] = {}

        def read(value: Any, dtype: torch.dtype) -> str:
            if not isinstance(value, Node):
                return literal(
                    value,
                    dtype
                    if dtype in (torch.float32, torch.float64) or isinstance(value, int)
                    else torch.float64,
                )
            if value in local:
                return local[value]
            layout: Layout = value.meta["layout"]
            source = layout.base
            if source in local and same_place(layout, source.meta["layout"]):
                return local[source]
            if source in self.names.literals:
                return self.names.literals[source]
            strides = broadcast(layout, shape)
            name = f"x_{value.name}"
            kind = C_TYPES[layout.dtype]
            if name not in accesses:
                if any(strides):
                    accesses[name] = Access(self.names.pointer(value), strides, kind)
                elif f"const {kind} {name} = {self.names.pointer(value)}[0];" not in fixed:
                    fixed.append(f"const {kind} {name} = {self.names.pointer(value)}[0];")
            return name

        writes: dict[str, Access] = {}
        for node in group:
            layout = node.meta["layout"]
            args = [a for a in node.args if isinstance(a, (Node, int, float, bool))]
            common = common_type(args)
            texts = [
                read(
                    a, layout.dtype if operation(node) not in ("eq", "ne", "lt", "le", "gt", "ge") else common
                )
                for a in args
            ]
            text = expression(operation(node), texts, layout.dtype, common, node.kwargs)
            if text is None:
                raise Unwritable(f"{node.target}")
            if layout.dtype == torch.bool:
                text = f"({text}) != 0"
            kind = C_TYPES[layout.dtype]
            local[node] = f"v_{node.name}"
            lines.append(f"const {kind} v_{node.name} = {text};")
            if node in needed:
                writes[f"v_{node.name}"] = Access(self.names.pointer(node), broadcast(layout, shape), kind)
        return ["{", *fixed, *nest(shape, accesses, lines, writes), "}"]

    def _results(self) -> tuple[list[tuple[tuple[int, ...], torch.dtype]], set[Node]]:
        """Let results be computed where they are returned, as far as they can; copy the others at the end."""
        results: list[tuple[tuple[int, ...], torch.dtype]] = []
        placed: set[Node] = set()
        written = {w for piece in self.pieces for w in piece.writes}
        for i, node in enumerate(self.output):
            layout: Layout = node.meta["layout"]
            kind, base, size = C_TYPES[layout.dtype], layout.base, numel(layout.shape)
            if i < self.carried:
                if not self.turns[i]:
                    continue
                where = f"b{i}"
            else:
                at = self.given + i - self.carried
                where = f"(({kind} *)p[{at}] + r * {size} + k * by_step[{len(self.own) + i - self.carried}])"
                results.append((layout.shape, layout.dtype))
            if base in written - placed and _fills(layout, base.meta["layout"]):
                placed.add(base)
                self.names.pointers[base] = where
            else:
                self.pieces.append(Piece(functools.partial(self._copied, node, where), {base}, set()))
        held = [node.meta["layout"] for node in self.arguments[: self.carried]]
        large = sum(numel(layout.shape) * layout.dtype.itemsize for layout in held) > LARGE
        for i in range(self.kept, self.carried - 1) if large else ():
            base = self.output[i].meta["layout"].base
            if self.names.pointers.get(base) == f"b{i}" and self._in_place(self.arguments[i], base):
                self.turns[i] = False
                self.names.pointers[base] = f"a{i}"
        return results, placed

    def _in_place(self, before: Node, after: Node) -> bool:
        """Whether a result may overwrite an argument: it is read last in the loop that writes, entry by entry."""
        at, piece = next((i, p) for i, p in enumerate(self.pieces) if after in p.writes)
        if any(before in later.reads for later in self.pieces[at + 1 :]):
            return False
        layout, result = before.meta["layout"], after.meta["layout"]
        looks = [a.meta["layout"] for n in piece.loop for a in n.all_input_nodes]
        alike = all(same_place(look, layout) for look in looks if look.base is before)
        return bool(piece.loop) and alike and same_place(layout, result) and layout.dtype == result.dtype

    def _copied(self, node: Node, where: str) -> list[str]:
        layout: Layout = node.meta["layout"]
        kind = C_TYPES[layout.dtype]
        if layout.base in self.names.literals:
            value, taken = self.names.literals[layout.base], {}
        else:
            value, taken = "x", {"x": Access(self.names.pointer(node), layout.strides, kind)}
        out = {value: Access(where, dense(layout.shape), kind)}
        return ["{", *nest(layout.shape, taken, [], out), "}"]


def _fills(layout: Layout, base: Layout) -> bool:
    """Whether a tensor is all there is in the memory that it looks at, in order."""
    whole = layout.contiguous and layout.offset == 0 and numel(layout.shape) == numel(base.shape)
    return whole and base.dtype == layout.dtype
