"""Operations on an entry or a number in C, and the types that they are computed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from ...native.pointwise import C_TYPES, Unwritable, literal


def written(name: str, texts: list[str], dtype: torch.dtype, options: Any) -> str | None:
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
    if name == "remainder" and dtype.is_floating_point:
        left = f"fmod{end}({x[0]}, {x[1]})"  # exact, with the sign of the first; the result has that of the second
        return f"{left} != 0 && (({x[1]} < 0) != ({left} < 0)) ? {left} + {x[1]} : {left}"
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


def operation(node: Node) -> str:
    """An operation's name, without its overload."""
    schema = getattr(node.target, "_schema", None)
    return schema.name.removeprefix("aten::") if schema else ""


def type_of(node: Node) -> torch.dtype:
    """The type of a value."""
    found: torch.dtype = node.meta["layout"].dtype
    return found


def arithmetic(dtype: torch.dtype) -> torch.dtype:
    """The type that a number of this type is computed in."""
    found = torch.float32 if dtype == torch.bfloat16 else dtype
    if found not in C_TYPES:
        raise Unwritable(f"numbers of type {dtype}")
    return found


def c_type(node: Node) -> str:
    """The type in C that a value is computed in."""
    return C_TYPES[arithmetic(type_of(node))]


def common_type(given: Sequence[Any]) -> torch.dtype:
    """What values that are compared are brought to."""
    like = [
        torch.empty(a.meta["layout"].shape, dtype=a.meta["layout"].dtype, device="meta")
        if isinstance(a, Node)
        else a
        for a in given
    ]
    if len(like) > 1:
        return arithmetic(torch.result_type(like[-2], like[-1]))
    return arithmetic(like[0].dtype) if like and isinstance(like[0], torch.Tensor) else torch.float64
