"""From the function of one run to a program for a block of runs: recorded once, then called for every step.

traced     ``vmap`` says what the block computes; recording writes it down as a straight list of tensor
           operations, so that neither ``vmap`` nor autograd is paid for again at each step. Operations whose
           last digits would depend on a run's place in its block are written with others that do not (``steady``)
compiled   the operations of one run, written as one function in C, which is called for each run of the block
           (``native``); where there is no C compiler, or an operation is not known in C, as traced
graphed    as traced, and its calls are captured as one CUDA graph (``graphed``)
alone      no batching: each run of the block by itself, for models that ``vmap`` cannot take
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.fx import Graph, GraphModule, Node
from torch.fx.graph import CodeGen
from torch.utils import _pytree as pytree

from ..native.recording import Recording, Unrecordable, record
from . import native, steady
from .device import made_on

aten = torch.ops.aten
Executor: TypeAlias = Literal["traced", "graphed", "compiled", "alone"]


class Program:
    """A function of one run, made into a function of a block of runs.

    Args:
        function: the pure function of one run.
        in_dims: for each argument, 0 where every run has its own, ``None`` where all runs share it.
        executor: how it runs.
        carries: where its result begins with the next value of its first argument, a named tuple whose last tensor
            says whether a run goes on: how many of the tuple's first fields must be found as they were where it
            does not.
        around: what the function is put into while it is recorded.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        in_dims: tuple[Any, ...],
        executor: Executor,
        *,
        carries: int = 0,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.function, self.in_dims, self.executor, self.carries = function, in_dims, executor, carries
        self.note, self._around = "", around
        self._made: dict[Any, Callable[..., list[Tensor]]] = {}
        self._recorded: dict[Any, tuple[Any, Any]] = {}

    def __call__(self, *args: Any) -> Any:
        """Run on whole arguments."""
        leaves, _ = pytree.tree_flatten(args)
        run, out = self.bind(*args)
        carried = self._carried(args)[1]
        first = [leaves[:carried]] if self.carries else []
        return pytree.tree_unflatten(run(*first, *leaves[carried:]), out)

    def bind(self, *args: Any, without: int = 0) -> tuple[Callable[..., list[Tensor]], Any]:
        """The program for arguments of these shapes, from tensors to tensors, and the structure of its result.

        A loop that calls it at each step keeps its arguments as one list of tensors and saves the rest. A program
        that carries takes the carried tensors as a list of their own, and empties it.

        Args:
            *args: examples of the arguments.
            without: how many of the last tensors of the result, and what only they need, are left out.
        """
        leaves, shape = pytree.tree_flatten(args)
        key = (shape, tuple((t.shape, t.dtype, t.device) for t in leaves))
        if (key, without) not in self._made:
            self._made[key, without] = self._finished(key, args, without)
        return self._made[key, without], self._recorded[key][1]

    def _finished(self, key: Any, args: Any, without: int) -> Callable[..., list[Tensor]]:
        if self.executor == "compiled" and not self.note:
            try:
                return self._native(key, args, without)
            except (native.Unwritable, Unrecordable, IndexError, OSError) as error:
                self.note = f"traced, as C has no {error}"
                self._recorded.pop(key, None)
        if key not in self._recorded:
            many = _one_by_one if self.executor == "alone" else vmap
            self._recorded[key] = self._record(many(self.function, in_dims=self.in_dims), args)
        recorded = self._recorded[key][0]
        if not isinstance(recorded, Recording):
            alone: Callable[..., list[Tensor]] = recorded
            return alone
        short = _shortened(recorded.graph, without)
        for node in short.nodes:
            node.target = _DIRECT.get(node.target, node.target)
        if self.carries:
            short.set_codegen(_Emptied(self._carried(args)[1]))
        return GraphModule(recorded.constants, short).forward

    def _native(self, key: Any, args: Any, without: int) -> Callable[..., list[Tensor]]:
        """The program in C."""
        if native.compiler() is None:
            raise native.Unwritable("compiler here")
        row = _row(self.in_dims, args, 0, _seen)  # it is only looked at, to be written down
        if key not in self._recorded:
            self._recorded[key] = self._record(self.function, row, native.table())
        recorded = self._recorded[key][0]
        short = Recording(_shortened(recorded.graph, without), recorded.constants)
        pairs = zip(pytree.tree_leaves(args), pytree.tree_leaves(row), strict=True)
        own = [whole.ndim > one.ndim for whole, one in pairs]
        kept, carried = self._carried(args)
        return native.Library(native.write(short, own, carried, kept)).bind(_count(self.in_dims, args))

    def _boxed(self, flat: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
        if not self.carries:
            return flat

        def boxed(carried: list[Tensor], *given: Tensor) -> list[Tensor]:
            held = carried.copy()
            carried.clear()
            return flat(*held, *given)

        return boxed

    def _carried(self, args: Any) -> tuple[int, int]:
        """How many tensors must be found as they were where a run does not go on, and how many are carried."""
        if not self.carries:
            return 0, 0
        return len(pytree.tree_leaves(tuple(args[0])[: self.carries])), len(pytree.tree_leaves(args[0]))

    def _record(self, function: Callable[..., Any], args: Any, table: Any = None) -> tuple[Any, Any]:
        leaves, shape = pytree.tree_flatten(args)
        seen: list[Any] = []

        def flat(*flat_leaves: Tensor) -> list[Tensor]:
            with made_on(leaves[0].device):
                result = function(*pytree.tree_unflatten(list(flat_leaves), shape))
            out, spec = pytree.tree_flatten(result)
            seen[:] = [spec]
            return out

        if self.executor == "alone":
            with self._around():
                flat(*leaves)
            return self._boxed(flat), seen[0]
        if table is None:
            table = steady.table() if leaves[0].device.type == "cpu" else {}
        with self._around():
            recorded = record(flat, leaves, table)
        for name, t in recorded.constants.items():
            if isinstance(t, nn.Parameter):  # a module's, which may be moved to another device
                recorded.constants[name] = t.detach()
        _share(recorded.graph)
        return recorded, seen[0]


def _shortened(whole: Graph, without: int) -> Graph:
    """A copy of a graph without its last results and what only they need."""
    graph = Graph()
    copies: dict[Node, Node] = {}
    graph.output(graph.graph_copy(whole, copies))
    for node in graph.nodes:
        if "layout" in node.meta:
            layout = node.meta["layout"]
            node.meta["layout"] = replace(layout, base=copies[layout.base])
    if without:
        _leave_out(graph, without)
    graph.eliminate_dead_code()
    return graph


class _Emptied(CodeGen):
    """Writes a function whose first argument is a list of the carried tensors, which it empties.

    So each of them is freed once it is read for the last time, and a state is not held twice.

    Args:
        carried: how many there are.
    """

    def __init__(self, carried: int) -> None:
        super().__init__()
        self.carried = carried

    def gen_fn_def(self, free_vars: list[str], maybe_return_annotation: str, **others: Any) -> str:
        names = list(free_vars)
        if names and names[0] == "self":
            del names[0]
        held, given = names[: self.carried], names[self.carried :]
        takes = "".join(f", {name}" for name in given)
        first = f"def forward(self, carried{takes}){maybe_return_annotation}:"
        return f"{first}\n    {', '.join(held)}, = carried\n    carried.clear()"


def _leave_out(graph: Graph, count: int) -> None:
    """Drop the last results of a graph."""
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = (list(output.args[0])[:-count],)


_DIRECT: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: torch.add, aten.amax.default: torch.amax, aten.bmm.default: torch.bmm, aten.div.Tensor: torch.div,
    aten.eq.Scalar: torch.eq, aten.exp.default: torch.exp, aten.expand.default: Tensor.expand,
    aten.gather.default: torch.gather, aten.index_select.default: torch.index_select, aten.le.Scalar: torch.le,
    aten.lerp.Tensor: torch.lerp, aten.log.default: torch.log, aten.mean.dim: torch.mean, aten.mul.Tensor: torch.mul,
    aten.neg.default: torch.neg, aten.permute.default: torch.permute, aten.reciprocal.default: torch.reciprocal,
    aten.relu.default: torch.relu, aten.rsqrt.default: torch.rsqrt, aten.rsub.Scalar: torch.rsub,
    aten.sub.Tensor: torch.sub, aten.sum.dim_IntList: torch.sum, aten.tanh.default: torch.tanh,
    aten.transpose.int: torch.transpose, aten.unsqueeze.default: torch.unsqueeze, aten.view.default: Tensor.view,
    aten._unsafe_view.default: Tensor.view, aten.where.self: torch.where,
}  # fmt: skip
"""The same operations by doors that Python passes sooner."""


def _share(graph: Graph) -> None:
    """Compute what is computed twice only once, and look at memory in one way only once.

    The graph is free of side effects, as it was functionalized.
    """
    seen: dict[Any, Node] = {}
    instead: dict[Node, Node] = {}
    for node in list(graph.nodes):
        layout = node.meta.get("layout")
        if layout is not None and layout.base in instead:
            layout = node.meta["layout"] = replace(layout, base=instead[layout.base])
        if node.op == "placeholder":
            seen.setdefault(layout, node)
        if node.op != "call_function":
            continue
        looks = layout is not None and layout.base is not node
        key = layout if looks else repr((node.target, node.args, node.kwargs))
        if not looks and layout is not None:
            seen.setdefault(layout, node)
        if key in seen:
            instead[node] = seen[key]
            node.replace_all_uses_with(seen[key])
        else:
            seen[key] = node


def _one_by_one(function: Callable[..., Any], in_dims: tuple[Any, ...]) -> Callable[..., Any]:
    """What ``vmap`` computes, one run after another."""

    def many(*args: Any) -> Any:
        rows = [function(*_row(in_dims, args, i)) for i in range(_count(in_dims, args))]
        flats = [pytree.tree_leaves(row) for row in rows]
        stacked = [torch.stack(tensors) for tensors in zip(*flats, strict=True)]
        return pytree.tree_unflatten(stacked, pytree.tree_structure(rows[0]))

    return many


def _copied(t: Tensor) -> Tensor:
    """A row begins where a tensor of its own would: kernels may round by that."""
    return t.clone(memory_format=torch.contiguous_format)


def _seen(t: Tensor) -> Tensor:
    """A row as it is, where it lies as a tensor of its own would."""
    return t if t.is_contiguous() and not t.storage_offset() else _copied(t)


def _row(dims: Any, value: Any, i: int, of: Callable[[Tensor], Tensor] = _copied) -> Any:
    """The share of run ``i`` in arguments, as ``in_dims`` say: its own row, or what all runs share."""
    if dims is None:
        return value
    if dims == 0:
        return pytree.tree_map(lambda t: of(t[i]), value)
    parts = [_row(d, v, i, of) for d, v in zip(dims, value, strict=True)]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def _count(dims: Any, value: Any) -> int:
    """How many runs there are: the length of the first tensor that every run has its own row of."""
    if dims is None:
        return 0
    if dims == 0:
        leaves = pytree.tree_leaves(value)
        return len(leaves[0]) if leaves else 0
    return next((n for d, v in zip(dims, value, strict=True) if (n := _count(d, v))), 0)
