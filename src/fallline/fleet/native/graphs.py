"""What a node of a recording is, and how its tensor lies."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ...native.pointwise import expression
from ...native.recording import Layout
from . import moves, products, reductions

GETITEM = operator.getitem
WRITERS = {**moves.WRITERS, **products.WRITERS, **reductions.WRITERS}


def operation(node: Node) -> str:
    target = node.target
    return target._schema.name.removeprefix("aten::") if isinstance(target, torch._ops.OpOverload) else ""


def is_view(node: Node) -> bool:
    return node.meta.get("layout") is not None and (
        node.meta["layout"].base is not node or node.target is GETITEM
    )


def is_split(node: Node) -> bool:
    """Whether a result in several parts is views of an argument."""
    return "layout" not in node.meta and all(u.meta["layout"].base is not u for u in node.users)


def is_pointwise(node: Node) -> bool:
    if "layout" not in node.meta or operation(node) in WRITERS:
        return False
    return (
        expression(operation(node), ["x"] * 4, node.meta["layout"].dtype, torch.float32, node.kwargs)
        is not None
    )


def alike(node: Node, first: Node) -> bool:
    one, other = node.meta["layout"], first.meta["layout"]
    return bool(one.shape == other.shape)


def ready(node: Node, made: set[Node], inside: set[Node]) -> bool:
    """Whether what a node reads is made, or is made by its own group entry by entry."""
    for given in node.all_input_nodes:
        base = given.meta["layout"].base
        owner = base.args[0] if base.target is GETITEM else base
        if base in inside:
            if not same_place(given.meta["layout"], base.meta["layout"]):
                return False
        elif owner not in made:
            return False
    return True


def reads_in_place(user: Node, node: Node, inside: set[Node]) -> bool:
    """Whether a use of a result is within its own loop."""
    if user in inside:
        return True
    if is_view(user) and user.target is not GETITEM:
        same = same_place(user.meta["layout"], node.meta["layout"])
        return same and all(reads_in_place(u, node, inside) for u in user.users)
    return False


def same_place(one: Layout, other: Layout) -> bool:
    return one.shape == other.shape and one.strides == other.strides and one.offset == other.offset


def numel(shape: Iterable[int]) -> int:
    return functools.reduce(lambda a, b: a * b, shape, 1)


def dense(shape: Sequence[int]) -> tuple[int, ...]:
    strides = list(itertools.accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1))
    return tuple(reversed(strides)) if shape else ()


def broadcast(layout: Layout, shape: tuple[int, ...]) -> tuple[int, ...]:
    """How far the axes of a result step in an argument that is spread over it."""
    missing = len(shape) - len(layout.shape)
    own = [0 if n == 1 else s for n, s in zip(layout.shape, layout.strides, strict=True)]
    return (0,) * missing + tuple(own)


def whole(value: Tensor) -> Tensor:
    """A constant with its memory from its first entry on."""
    return torch.as_strided(value, (value.untyped_storage().nbytes() // value.element_size(),), (1,), 0)


def common_type(args: Sequence[Any]) -> torch.dtype:
    """What numbers of these types are brought to."""
    tensors = [
        torch.empty(a.meta["layout"].shape, dtype=a.meta["layout"].dtype, device="meta")
        if isinstance(a, Node)
        else a
        for a in args
    ]
    if len(tensors) < 2:
        return tensors[0].dtype if tensors and isinstance(tensors[0], Tensor) else torch.float32
    return torch.result_type(tensors[-2], tensors[-1])
