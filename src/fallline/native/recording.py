"""Write down what a function does to tensors: a straight list of operations, with each result's place in memory.

``torch.fx``'s own tracer does this, too, and more; it also loads TorchDynamo, which takes longer than most fleets
need to be recorded. Here a dispatch mode notes each operation that reaches it.
"""

from __future__ import annotations

import importlib
import operator
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

_BY_SHAPE = (
    "empty_like full_like new_empty new_empty_strided new_full new_ones new_zeros ones_like zeros_like"
)
"""Operations that look at their argument's shape alone."""
_MARK = "_fallline_recorded"


class Unrecordable(Exception):
    """What a function does hangs on more than the shapes of its arguments."""


@dataclass(frozen=True)
class Layout:
    """Where a tensor lies: in whose memory, from which entry on, and how far its axes step."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    base: Node

    @property
    def contiguous(self) -> bool:
        """Whether its entries lie one after another, the last axis fastest."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


@dataclass(frozen=True)
class Recording:
    """A list of operations, the constants that it uses by name, and the structure of its result.

    Every node of the graph has its ``Layout`` in ``node.meta["layout"]``.
    """

    graph: Graph
    constants: dict[str, Tensor]


def record(
    function: Callable[..., Sequence[Tensor]],
    args: Sequence[Tensor],
    table: Mapping[Any, Callable[..., Any]] | None = None,
) -> Recording:
    """The list of operations by which ``function`` comes from these tensors to its results.

    Args:
        function: from tensors to tensors; what it does in place is written as if it were not.
        args: examples of its arguments.
        table: what stands in place of an operation; ``NotImplemented`` leaves it as it is.

    Raises:
        Unrecordable: where a decision hangs on the value of a tensor, or where a number comes from torch's own
            random stream.
    """
    recorder = _Recorder(table or {})
    for i, arg in enumerate(args):
        recorder.note(arg, recorder.graph.placeholder(f"arg{i}"))
    with torch.no_grad(), _compiler_left_unloaded(), recorder:
        out = torch.func.functionalize(function)(*args)
    recorder.graph.output([recorder.node(t) for t in out])
    for tensor in (*args, *out, *recorder.constants.values()):
        tensor.__dict__.pop(_MARK, None)
    return Recording(recorder.graph, recorder.constants)


@contextmanager
def _compiler_left_unloaded() -> Iterator[None]:
    """Keep ``torch.func.grad`` from loading TorchDynamo, which takes most of a second and is not used.

    It asks ``torch._dynamo.compiled_autograd`` to stay away, and naming it loads it. Where it is loaded already, it
    is asked as ever.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    absent = _Absent()
    torch.__dict__["_dynamo"] = absent
    try:
        yield
    finally:
        if torch.__dict__.get("_dynamo") is absent:
            del torch.__dict__["_dynamo"]


class _Absent:
    """Stands for TorchDynamo while it is not loaded; asked for more than to stay away, it loads it after all."""

    compiled_autograd = types.SimpleNamespace(_disable=nullcontext)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("torch._dynamo"), name)


class _Recorder(TorchDispatchMode):
    """Notes the operations that reach it; a tensor that hangs on no argument is a constant."""

    def __init__(self, table: Mapping[Any, Callable[..., Any]]) -> None:
        super().__init__()
        self.graph, self.table = Graph(), table
        self.constants: dict[str, Tensor] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch loads its compiler only to keep it away from this class

    def note(self, tensor: Tensor, node: Node, seen: Sequence[Tensor] = ()) -> None:
        """Remember of which node a tensor is the value, on the tensor itself, so that it may die as ever.

        Args:
            tensor: the value.
            node: the node.
            seen: tensors whose memory it may look at.
        """
        memory = tensor.untyped_storage()._cdata
        looked_at = (self.find(t) for t in seen if t.untyped_storage()._cdata == memory)
        base = next((found.meta["layout"].base for found in looked_at if found), node)
        node.meta["layout"] = Layout(
            tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), tensor.dtype, base
        )
        tensor.__dict__[_MARK] = self, node

    def find(self, tensor: Tensor) -> Node | None:
        """The node of a tensor; none where it hangs on no argument."""
        recorder, node = tensor.__dict__.get(_MARK, (None, None))
        return node if recorder is self else None

    def node(self, tensor: Tensor) -> Node:
        """The node of a tensor; of one that hangs on no argument, a constant."""
        found = self.find(tensor)
        if found is None:
            name = f"constant{len(self.constants)}"
            self.constants[name] = tensor
            first = next((n for n in self.graph.nodes if n.op != "placeholder"), None)
            with self.graph.inserting_before(first) if first else self.graph.inserting_after():
                found = self.graph.get_attr(name)
            self.note(tensor, found)
        return found

    def __torch_dispatch__(self, op: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op in self.table:
            with self:
                out = self.table[op](*args, **kwargs)
            if out is not NotImplemented:
                return out
        with self:
            out = op.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        if torch.Tag.nondeterministic_seeded in op.tags:
            raise Unrecordable(f"{op} takes numbers from torch's own random stream")
        given = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        hangs = any(self.find(t) is not None for t in given)
        if hangs and torch.Tag.data_dependent_output in op.tags:
            raise Unrecordable(f"{op} makes a decision hang on the value of a tensor")
        out = op(*args, **kwargs)
        if hangs and op._schema.name.removeprefix("aten::") not in _BY_SHAPE.split():
            self._write(op, args, kwargs, out, given)
        return out

    def _write(self, op: Any, args: Any, kwargs: Any, out: Any, given: list[Tensor]) -> None:
        def named(value: Any) -> Any:
            return self.node(value) if isinstance(value, Tensor) else value

        made = self.graph.call_function(op, map_aggregate(args, named), map_aggregate(kwargs, named))
        if isinstance(out, Tensor):
            self.note(out, made, given)
            return
        for i, part in enumerate(out):
            if isinstance(part, Tensor):
                self.note(part, self.graph.call_function(operator.getitem, (made, i)), given)
