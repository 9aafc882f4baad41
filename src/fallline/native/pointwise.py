"""How each operation on single entries is written in C."""

from __future__ import annotations

import math
from typing import Any

import torch


class Unwritable(NotImplementedError):
    """An operation that has no text in C; its message says which."""


C_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.uint8: "uint8_t",
    torch.bool: "uint8_t",
}
SUFFIX = {torch.float32: "f", torch.float64: "d"}

COMPARED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
"""Operations whose arguments are brought to a type that is not the result's."""

_ARITHMETIC = {
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "abs": "{0} < 0 ? -{0} : {0} + 0",
    "reciprocal": "1 / {0}",
    "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}",
    "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}",
    "relu": "{0} < 0 ? 0 : {0}",
    "clamp_min": "{0} < {1} ? {1} : {0}",
    "clamp_max": "{0} > {1} ? {1} : {0}",
    "sign": "({0} > 0) - ({0} < 0)",
    "sgn": "({0} > 0) - ({0} < 0)",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_xor": "{0} ^ {1}",
    "__and__": "{0} & {1}",
    "__or__": "{0} | {1}",
    "__xor__": "{0} ^ {1}",
    "__rshift__": "{0} >> {1}",
    "__lshift__": "{0} << {1}",
    "bitwise_right_shift": "{0} >> {1}",
    "bitwise_left_shift": "{0} << {1}",
    "clone": "{0}",
    "_to_copy": "{0}",
    "copy": "{1}",
    "fill": "{1}",
    "round": "__builtin_rint({0})",
    "square": "{0} * {0}",
}  # fmt: skip
_LOGICAL = {
    "logical_and": "{0} && {1}",
    "logical_or": "{0} || {1}",
    "logical_xor": "!{0} != !{1}",
    "logical_not": "!{0}",
    "isnan": "{0} != {0}",
    "isinf": "({0} == {0}) && ({0} - {0} != {0} - {0})",
}
_OURS = ("exp", "log", "tanh", "sigmoid")
_LIBRARY = [
    "sqrt",
    "floor",
    "ceil",
    "trunc",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfc",
    "expm1",
    "log1p",
    "log2",
    "log10",
    "exp2",
    "atan2",
    "pow",
    "fmod",
    "copysign",
]


def expression(
    name: str, texts: list[str], dtype: torch.dtype, common: torch.dtype, options: Any
) -> str | None:
    """One entry of a result from one entry of each argument; none where it is not known how.

    Args:
        name: the operation's, without its overload.
        texts: each argument in C.
        dtype: the result's.
        common: what the arguments are brought to, to be compared.
        options: the operation's options.
    """
    kind = C_TYPES[dtype]
    if name in COMPARED:
        a, b = (f"({C_TYPES[common]}){text}" for text in texts[:2])
        return f"{a} {COMPARED[name]} {b}"
    if name in _LOGICAL:
        return _LOGICAL[name].format(*texts)
    if name == "where":
        return f"{texts[0]} ? ({kind}){texts[1]} : ({kind}){texts[2]}"
    own = [f"(({kind}){text})" for text in texts]
    if dtype == torch.bool:  # what is not zero is true
        own = [f"({text} != 0)" for text in texts]
    if name == "bitwise_not":
        return f"!{own[0]}" if dtype == torch.bool else f"~{own[0]}"
    if name in ("add", "sub"):
        by = options.get("alpha", 1)
        second = own[1] if by == 1 else f"{literal(by, dtype)} * {own[1]}"
        return f"{own[0]} {'+' if name == 'add' else '-'} {second}"
    if dtype in SUFFIX and (name == "remainder" or options.get("rounding_mode") == "floor"):
        return None  # a quotient that is rounded is another one just below a whole number
    if name == "div" and options.get("rounding_mode"):
        return _rounded(options["rounding_mode"], own, dtype)
    if name == "pow" and texts[1] in ("2", "2.0"):
        return f"{own[0]} * {own[0]}"
    if name in _ARITHMETIC:
        return _ARITHMETIC[name].format(*own)
    return _called(name, own, dtype)


def _called(name: str, own: list[str], dtype: torch.dtype) -> str | None:
    if dtype not in SUFFIX:
        return None
    if name in _OURS:
        return f"{name}_{SUFFIX[dtype]}({own[0]})"
    end = "" if dtype == torch.float64 else "f"
    if name == "rsqrt":
        return f"1 / sqrt{end}({own[0]})"
    return f"{name}{end}({', '.join(own)})" if name in _LIBRARY else None


def _rounded(mode: str, own: list[str], dtype: torch.dtype) -> str | None:
    if dtype not in SUFFIX:
        return f"{own[0]} / {own[1]}" if mode == "trunc" else None
    return f"{mode}{'' if dtype == torch.float64 else 'f'}({own[0]} / {own[1]})"


def literal(value: Any, dtype: torch.dtype) -> str:
    """A number in C, with all its digits."""
    if dtype in SUFFIX:
        value = float(value)
        if math.isnan(value):
            return "NAN"
        if math.isinf(value):
            return "INFINITY" if value > 0 else "(-INFINITY)"
        return f"({value!r}{'f' if dtype == torch.float32 else ''})"
    return f"({int(value)}LL)"
