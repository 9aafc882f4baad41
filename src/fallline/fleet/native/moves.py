"""What is copied, looked up and put somewhere, in C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node

from ...native.pointwise import C_TYPES, literal
from ...native.recording import Layout
from .loops import Access, nest, over, spot

aten = torch.ops.aten


def _copy(names: Any, source: Node, out: Node, strides: Sequence[int], offset: int) -> list[str]:
    """Write a tensor into a part of another, which steps like this."""
    layout, kind = source.meta["layout"], C_TYPES[out.meta["layout"].dtype]
    target = Access(f"({names.pointer(out)} + {offset})", tuple(strides), kind)
    if layout.base in names.literals:
        return ["{", *nest(layout.shape, {}, [], {names.literals[layout.base]: target}), "}"]
    taken = {"x": Access(names.pointer(source), layout.strides, C_TYPES[layout.dtype])}
    return ["{", *nest(layout.shape, taken, [], {"x": target}), "}"]


def filled(names: Any, out: Node, value: str) -> list[str]:
    layout = out.meta["layout"]
    return [
        "{",
        *nest(
            layout.shape, {}, [], {value: Access(names.pointer(out), layout.strides, C_TYPES[layout.dtype])}
        ),
        "}",
    ]


def _cat(node: Any, names: Any) -> list[str]:
    layout, text, at = node.meta["layout"], [], 0
    dim = (node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) % len(layout.shape)
    for part in node.args[0]:
        if 0 not in part.meta["layout"].shape:
            text += _copy(names, part, node, layout.strides, at * layout.strides[dim])
            at += part.meta["layout"].shape[dim]
    return text


def _pad(node: Any, names: Any) -> list[str]:
    x, pads, *value = node.args
    layout = node.meta["layout"]
    befores = [0] * len(layout.shape)
    for k in range(len(pads) // 2):
        befores[-1 - k] = pads[2 * k]
        if pads[2 * k] < 0 or pads[2 * k + 1] < 0:
            raise NotImplementedError
    offset = sum(b * s for b, s in zip(befores, layout.strides, strict=True))
    fill = literal(value[0] if value else 0, layout.dtype)
    return [*filled(names, node, fill), *_copy(names, x, node, layout.strides, offset)]


def filled_up(given: Sequence[Any], defaults: Sequence[Any]) -> list[Any]:
    """Arguments, with defaults for those that were left out."""
    return [*given, *defaults[len(given) :]]


def _slice_scatter(node: Any, names: Any) -> list[str]:
    x, part, *rest = node.args
    dim, start, _, step = filled_up(rest, [0, None, None, 1])
    layout = node.meta["layout"]
    start = 0 if start is None else start + layout.shape[dim] if start < 0 else start
    strides = [s * (step if d == dim % len(layout.shape) else 1) for d, s in enumerate(layout.strides)]
    base = _copy(names, x, node, layout.strides, 0)
    return [*base, *_copy(names, part, node, strides, start * layout.strides[dim])]


def _diagonal_scatter(node: Any, names: Any) -> list[str]:
    x, part, *rest = node.args
    offset, one, other = filled_up(rest, [0, 0, 1])
    layout = node.meta["layout"]
    one, other = one % len(layout.shape), other % len(layout.shape)
    strides = [s for d, s in enumerate(layout.strides) if d not in (one, other)]
    strides.append(layout.strides[one] + layout.strides[other])
    start = offset * layout.strides[other] if offset >= 0 else -offset * layout.strides[one]
    return [*_copy(names, x, node, layout.strides, 0), *_copy(names, part, node, strides, start)]


def _flip(node: Any, names: Any) -> list[str]:
    x, dims = node.args
    given, out = x.meta["layout"], node.meta["layout"]
    turned = {d % len(given.shape) for d in dims}
    strides = tuple(-s if d in turned else s for d, s in enumerate(given.strides))
    end = sum((given.shape[d] - 1) * given.strides[d] for d in turned)
    kind = C_TYPES[out.dtype]
    taken = {"x": Access(f"({names.pointer(x)} + {end})", strides, kind)}
    return ["{", *nest(out.shape, taken, [], {"x": Access(names.pointer(node), out.strides, kind)}), "}"]


def _select_scatter(node: Any, names: Any) -> list[str]:
    x, part, dim, i = node.args
    layout = node.meta["layout"]
    d, i = dim % len(layout.shape), i % layout.shape[dim]
    strides = [s for k, s in enumerate(layout.strides) if k != d]
    return [
        *_copy(names, x, node, layout.strides, 0),
        *_copy(names, part, node, strides, i * layout.strides[d]),
    ]


def _index(node: Any, names: Any) -> list[str]:
    x, positions = node.args[:2]
    shape, at = _looked_up(x.meta["layout"], positions, names)
    out = node.meta["layout"]
    body = [f"{names.pointer(node)}[{spot(range(len(shape)), out.strides)}] = {names.pointer(x)}[{at}];"]
    return ["{", *over(list(enumerate(shape)), lambda _: body), "}"]


def _index_select(node: Any, names: Any) -> list[str]:
    x, dim, i = node.args
    node_args = [None] * (dim % len(x.meta["layout"].shape)) + [i]
    shape, at = _looked_up(x.meta["layout"], node_args, names)
    out = node.meta["layout"]
    body = [f"{names.pointer(node)}[{spot(range(len(shape)), out.strides)}] = {names.pointer(x)}[{at}];"]
    return ["{", *over(list(enumerate(shape)), lambda _: body), "}"]


def _index_put(node: Any, names: Any) -> list[str]:
    x, positions, values, *rest = node.args
    layout = node.meta["layout"]
    shape, at = _looked_up(layout, positions, names)
    given = values.meta["layout"]
    missing = len(shape) - len(given.shape)
    strides = [0] * missing + [0 if n == 1 else s for n, s in zip(given.shape, given.strides, strict=True)]
    value = names.literals.get(given.base) or f"{names.pointer(values)}[{spot(range(len(shape)), strides)}]"
    sign = "+=" if rest and rest[0] else "="
    body = [f"{names.pointer(node)}[{at}] {sign} {value};"]
    loops = [line for line in over(list(enumerate(shape)), lambda _: body) if "ivdep" not in line]
    return [*_copy(names, x, node, layout.strides, 0), "{", *loops, "}"]


def _looked_up(x: Layout, positions: Any, names: Any) -> tuple[list[int], str]:
    """The shape of what is looked up, and where each entry of it lies in the tensor."""
    used = [d for d, i in enumerate(positions) if i is not None]
    if used != list(range(used[0], used[-1] + 1)) or any(
        positions[d].meta["layout"].dtype == torch.bool for d in used
    ):
        raise NotImplementedError
    common = torch.broadcast_shapes(*(positions[d].meta["layout"].shape for d in used))
    shape = [*x.shape[: used[0]], *common, *x.shape[used[-1] + 1 :]]
    terms = []
    for d in range(len(x.shape)):
        if d in used:
            layout = positions[d].meta["layout"]
            lead = used[0] + len(common) - len(layout.shape)
            steps = [
                f"i{lead + k} * {s}"
                for k, (n, s) in enumerate(zip(layout.shape, layout.strides, strict=True))
                if n > 1
            ]
            entry = f"{names.pointer(positions[d])}[{' + '.join(steps) or 0}]"
            terms.append(f"place({entry}, {x.shape[d]}, &bad) * {x.strides[d]}")
        else:
            at = d if d < used[0] else d - len(used) + len(common)
            terms.append(f"i{at} * {x.strides[d]}")
    return shape, " + ".join(terms)


def _gather(node: Any, names: Any) -> list[str]:
    x, dim, i = node.args[:3]
    given, out, where = x.meta["layout"], node.meta["layout"], i.meta["layout"]
    d = dim % max(1, len(out.shape))
    axes = range(len(out.shape))
    at = (
        f"place({names.pointer(i)}[{spot(axes, where.strides)}], {given.shape[d]}, &bad) * {given.strides[d]}"
    )
    others = spot([k for k in axes if k != d], given.strides)
    body = [f"{names.pointer(node)}[{spot(axes, out.strides)}] = {names.pointer(x)}[{others} + {at}];"]
    return ["{", *over(list(enumerate(out.shape)), lambda _: body), "}"]


def _scatter(node: Any, names: Any) -> list[str]:
    x, dim, i, values = node.args[:4]
    if node.kwargs.get("reduce"):
        raise NotImplementedError
    out, where = node.meta["layout"], i.meta["layout"]
    d, axes = dim % max(1, len(out.shape)), range(len(out.shape))
    if isinstance(values, Node):
        given = values.meta["layout"]
        value = names.literals.get(given.base) or f"{names.pointer(values)}[{spot(axes, given.strides)}]"
    else:
        value = literal(values, out.dtype)
    at = f"place({names.pointer(i)}[{spot(axes, where.strides)}], {out.shape[d]}, &bad) * {out.strides[d]}"
    others = spot([k for k in axes if k != d], out.strides)
    sign = "+=" if node.target in (aten.scatter_add.default,) else "="
    body = [f"{names.pointer(node)}[{others} + {at}] {sign} {value};"]
    loops = [line for line in over(list(enumerate(where.shape)), lambda _: body) if "ivdep" not in line]
    return [*_copy(names, x, node, out.strides, 0), "{", *loops, "}"]


def _cumulated(node: Any, names: Any) -> list[str]:
    x, out, dim = node.args[0], node.meta["layout"], node.args[1]
    given = x.meta["layout"]
    d, axes = dim % max(1, len(out.shape)), range(len(out.shape))
    before = f"(i{d} ? {names.pointer(node)}[{spot(axes, out.strides)} - {out.strides[d]}] : 0)"
    body = [
        f"{names.pointer(node)}[{spot(axes, out.strides)}] = {before} + {names.pointer(x)}[{spot(axes, given.strides)}];"
    ]
    loops = [line for line in over(list(enumerate(out.shape)), lambda _: body) if "ivdep" not in line]
    return ["{", *loops, "}"]


WRITERS: dict[str, Callable[[Any, Any], list[str]]] = {
    "cat": _cat,
    "constant_pad_nd": _pad,
    "slice_scatter": _slice_scatter,
    "select_scatter": _select_scatter,
    "diagonal_scatter": _diagonal_scatter,
    "flip": _flip,
    "index": _index,
    "index_select": _index_select,
    "index_put": _index_put,
    "_unsafe_index_put": _index_put,
    "_unsafe_index": _index,
    "gather": _gather,
    "scatter_add": _scatter,
    "scatter": _scatter,
    "cumsum": _cumulated,
}
