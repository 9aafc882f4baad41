"""Sums and other reductions in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...native.pointwise import C_TYPES, SUFFIX, Unwritable
from ...native.recording import Layout
from .loops import over, spot

_COMBINE = {
    "sum": ("0", "{0} + {1}"),
    "mean": ("0", "{0} + {1}"),
    "prod": ("1", "{0} * {1}"),
    "amax": ("-INFINITY", "{1} > {0} || {1} != {1} ? {1} : {0}"),
    "amin": ("INFINITY", "{1} < {0} || {1} != {1} ? {1} : {0}"),
    "any": ("0", "{0} | ({1} != 0)"),
    "all": ("1", "{0} & ({1} != 0)"),
}
LANES = 16


def _reduction(node: Any, names: Any) -> list[str]:
    name = node.target._schema.name.removeprefix("aten::")
    x, out = node.args[0].meta["layout"], node.meta["layout"]
    dims = node.args[1] if len(node.args) > 1 and node.args[1] is not None else list(range(len(x.shape)))
    reduced = {d % max(1, len(x.shape)) for d in ([dims] if isinstance(dims, int) else dims)} or set(
        range(len(x.shape))
    )
    first, combine = _COMBINE[name]
    if name in ("amax", "amin") and out.dtype not in SUFFIX:
        raise NotImplementedError
    if name in ("any", "all") and x.dtype != torch.bool:
        raise Unwritable(f"{name} of numbers")
    kind = C_TYPES[out.dtype]
    steps = _steps(x, out, reduced)
    taken = f"({kind}){names.literals[x.base]}" if x.base in names.literals else None
    source, target = names.pointer(node.args[0]), names.pointer(node)
    count = 1
    for d in reduced:
        count *= x.shape[d]
    axes = sorted((d for d in range(len(x.shape)) if x.shape[d] != 1), key=lambda d: -x.strides[d])
    inner = axes[-1] if axes else None
    after = [f"{target}[{{o}}] = {target}[{{o}}] / {count};"] if name == "mean" else []
    if inner is None or inner not in reduced:
        text = ["{"]
        text += over([(d, x.shape[d]) for d in axes if d not in reduced],
                       lambda at: [f"{target}[{spot(at, steps)}] = {first};"])  # fmt: skip
        text += over([(d, x.shape[d]) for d in axes], lambda at: [
            f"{{ const {kind} a = {target}[{spot(at, steps)}], b = {taken or f'{source}[{spot(at, x.strides)}]'};",
            f"{target}[{spot(at, steps)}] = {combine.format('a', 'b')}; }}"])  # fmt: skip
        text += over([(d, x.shape[d]) for d in axes if d not in reduced],
                       lambda at: [line.format(o=spot(at, steps)) for line in after])  # fmt: skip
        return [*text, "}"]
    return _by_rows(node, (x, steps, reduced, axes, count), (kind, first, combine), (source, target, taken))


def _by_rows(node: Any, given: Any, how: Any, where: Any) -> list[str]:
    """Where the innermost axis is summed: in as many sums side by side as fill vectors, then over these."""
    (x, steps, reduced, axes, count), (kind, first, combine), (source, target, taken) = given, how, where
    kept = [d for d in axes if d not in reduced]
    others = [d for d in axes if d in reduced]
    size, stride = x.shape[others[-1]], x.strides[others[-1]]
    lanes = LANES if size >= 2 * LANES else 1
    mean = node.target._schema.name == "aten::mean"

    def entry(at: list[int], extra: str) -> str:
        base = spot(at, x.strides)
        return taken or f"{source}[{base} + ({extra}) * {stride}]"

    def row(kept_at: list[int]) -> list[str]:
        add = combine.format("s[l]", "b")
        text = [f"{kind} s[{lanes}]; for (long l = 0; l < {lanes}; l++) s[l] = {first};"]

        def inside(other_at: list[int]) -> list[str]:
            at = kept_at + other_at
            whole = size - size % lanes
            text = [f"for (long q = 0; q < {whole}; q += {lanes}) for (long l = 0; l < {lanes}; l++) {{",
                    f"const {kind} b = {entry(at, 'q + l')}; s[l] = {add}; }}"]  # fmt: skip
            if whole < size:
                text += [f"for (long l = 0; l < {size - whole}; l++) {{ const {kind} b = {entry(at, f'{whole} + l')};",
                         f"s[l] = {add}; }}"]  # fmt: skip
            return text

        text += over([(d, x.shape[d]) for d in others[:-1]], inside)
        fold = combine.format("s[l]", "s[l + w]")
        text += [f"for (long w = {lanes // 2}; w; w /= 2) for (long l = 0; l < w; l++) s[l] = {fold};"]
        return [*text, f"{target}[{spot(kept_at, steps)}] = s[0]{f' / {count}' if mean else ''};"]

    return ["{", *over([(d, x.shape[d]) for d in kept], row), "}"]


def _steps(x: Layout, out: Layout, reduced: set[int]) -> list[int]:
    """How far each axis of what is reduced steps in the result."""
    own = iter(out.strides)
    if len(out.shape) == len(x.shape):
        return [0 if d in reduced else s for d, s in enumerate(out.strides)]
    return [0 if d in reduced else next(own) for d in range(len(x.shape))]


WRITERS: dict[str, Callable[[Any, Any], list[str]]] = dict.fromkeys(_COMBINE, _reduction)
