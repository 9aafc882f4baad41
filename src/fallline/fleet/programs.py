"""From the function of one run to a program for a block of runs: traced once, then called for every step.

``vmap`` says what the block computes; tracing writes it down as a straight list of tensor operations, so that
neither ``vmap`` nor autograd is paid for again at each step. Operations whose last digits would depend on a run's
place in its block are written with others that do not (``steady``).

    traced     that list of operations, called by Python
    compiled   the same list, compiled by TorchInductor (needs a C++ compiler; pays for long trainings)
    alone      no batching: each run of the block by itself, for models that ``vmap`` cannot take
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.func import functionalize, vmap
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from . import steady

Executor: TypeAlias = Literal["traced", "compiled", "alone"]


class Program:
    """A function of one run, made into a function of a block of runs.

    Args:
        function: the pure function of one run.
        in_dims: for each argument, 0 where every run has its own, ``None`` where all runs share it.
        executor: how it runs.
    """

    def __init__(self, function: Callable[..., Any], in_dims: tuple[Any, ...], executor: Executor) -> None:
        self.function, self.in_dims, self.executor = function, in_dims, executor
        self._made: dict[Any, Callable[..., list[Tensor]]] = {}
        self._graphs: dict[Any, tuple[Any, Any]] = {}

    def __call__(self, *args: Any) -> Any:
        """Run on whole arguments."""
        leaves, _ = pytree.tree_flatten(args)
        run, out = self.bind(*args)
        return pytree.tree_unflatten(run(*leaves), out)

    def bind(self, *args: Any, without: int = 0) -> tuple[Callable[..., list[Tensor]], Any]:
        """The program for arguments of these shapes, from tensors to tensors, and the structure of its result.

        A loop that calls it at each step keeps its arguments as one list of tensors and saves the rest.

        Args:
            *args: examples of the arguments.
            without: how many of the last tensors of the result, and what only they need, are left out.
        """
        leaves, shape = pytree.tree_flatten(args)
        key = (shape, tuple((t.shape, t.dtype) for t in leaves))
        if key not in self._graphs:
            self._graphs[key] = self._traced(leaves, shape)
        graph, out = self._graphs[key]
        if (key, without) not in self._made:
            self._made[key, without] = self._finished(graph, without)
        return self._made[key, without], out

    def _traced(self, leaves: list[Tensor], shape: Any) -> tuple[Any, Any]:
        seen: list[Any] = []

        def flat(*flat_leaves: Tensor) -> list[Tensor]:
            many = _one_by_one if self.executor == "alone" else vmap
            result = many(self.function, in_dims=self.in_dims)(
                *pytree.tree_unflatten(list(flat_leaves), shape)
            )
            out, spec = pytree.tree_flatten(result)
            seen[:] = [spec]
            return out

        if self.executor == "alone":
            flat(*leaves)
            return flat, seen[0]
        with torch.no_grad():
            traced = make_fx(functionalize(flat), decomposition_table=steady.table())(*leaves)
        _share(traced.graph)
        return traced, seen[0]

    def _finished(self, traced: Any, without: int) -> Callable[..., list[Tensor]]:
        if self.executor == "alone":
            alone: Callable[..., list[Tensor]] = traced
            return alone
        graph = GraphModule(traced, copy.deepcopy(traced.graph))
        if without:
            _leave_out(graph.graph, without)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        if self.executor == "compiled":
            compiled: Callable[..., list[Tensor]] = torch.compile(graph, fullgraph=True, dynamic=False)
            return compiled
        return graph.forward


def _leave_out(graph: Graph, count: int) -> None:
    """Drop the last results of a graph."""
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = (list(output.args[0])[:-count],)


def _share(graph: Graph) -> None:
    """Compute what is computed twice only once; the graph is free of side effects, as it was functionalized."""
    seen: dict[Any, Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        key = repr((node.target, node.args, node.kwargs))
        if key in seen:
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


def _row(dims: Any, value: Any, i: int) -> Any:
    """The share of run ``i`` in arguments, as ``in_dims`` say: its own row, or what all runs share.

    A row is copied, so that it begins where a tensor of its own would: kernels may round by that.
    """
    if dims is None:
        return value
    if dims == 0:
        return pytree.tree_map(lambda t: t[i].clone(memory_format=torch.contiguous_format), value)
    parts = [_row(d, v, i) for d, v in zip(dims, value, strict=True)]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def _count(dims: Any, value: Any) -> int:
    """How many runs there are: the length of the first tensor that every run has its own row of."""
    if dims is None:
        return 0
    if dims == 0:
        leaves = pytree.tree_leaves(value)
        return len(leaves[0]) if leaves else 0
    return next((n for d, v in zip(dims, value, strict=True) if (n := _count(d, v))), 0)
