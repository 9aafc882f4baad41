"""Products of matrices, convolutions and pooling in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...native.pointwise import C_TYPES, SUFFIX, Unwritable
from .loops import over, spot
from .moves import filled, filled_up
from .rewrites import pair

LANES = 16
LONGEST, TALLEST = 8192, 16384
"""Sums and rows of a product whose panels, which lie on the stack, stay far below a thread's smallest one."""


def _check_panels(rows: int, inner: int) -> None:
    if inner > LONGEST or rows > TALLEST:
        raise Unwritable(f"product of {rows} rows with sums over {inner} entries")


def _product(node: Any, names: Any) -> list[str]:
    a, b = node.args[0], node.args[1]
    x, y, out = (n.meta["layout"] for n in (a, b, node))
    if out.dtype not in SUFFIX:
        raise NotImplementedError
    sheets = x.shape[0] if len(x.shape) == 3 else 1
    (rows, inner), columns = x.shape[-2:], y.shape[-1]
    _check_panels(rows, inner)
    (ai, ak), (bk, bj), (ci, cj) = x.strides[-2:], y.strides[-2:], out.strides[-2:]
    by = [(t.strides[0] if len(t.shape) == 3 else 0) for t in (x, y, out)]
    if columns == 1:
        cj, bj = 1, 1
    if cj != 1:
        raise NotImplementedError
    pa, pb, pc = (f"{names.pointer(n)} + s * {step}" for n, step in zip((a, b, node), by, strict=True))
    call = f"product_{SUFFIX[out.dtype]}({rows}, {columns}, {inner}, {pa}, {ai}, {ak}, {pb}, {bk}, {bj}, {pc}, {ci}, 0);"
    return [f"for (long s = 0; s < {sheets}; s++)", call]


def _convolution(node: Any, names: Any) -> list[str]:
    x, w, bias, stride, padding, dilation, transposed, _, groups = node.args
    kind, suffix, sizes, settings = _geometry(node, x, w, stride, padding, dilation, transposed, groups)
    n, c, h, wide, o, kh, kw, oh, ow = sizes
    inner, pixels = c * kh * kw, oh * ow
    _check_panels(o, inner)
    out = names.pointer(node)
    text = [
        "{", settings, f"static __thread {kind} cols[{inner * pixels}] __attribute__((aligned(64)));",
        f"for (long s = 0; s < {n}; s++) {{",
        f"patches_{suffix}({names.pointer(x)} + s * {c * h * wide}, {c}, {h}, {wide}, {kh}, {kw}, {oh}, {ow}, set, cols);",
        f"product_{suffix}({o}, {pixels}, {inner}, {names.pointer(w)}, {inner}, 1, cols, {pixels}, 1, {out} + s * {o * pixels}, {pixels}, 0);",
    ]  # fmt: skip
    if bias is not None:
        text += [f"for (long o = 0; o < {o}; o++) for (long q = 0; q < {pixels}; q++)",
                 f"{out}[(s * {o} + o) * {pixels} + q] += {names.pointer(bias)}[o];"]  # fmt: skip
    return [*text, "}", "}"]


def _convolution_backward(node: Any, names: Any) -> list[str]:
    g, x, w, _, stride, padding, dilation, transposed, _, groups, _ = node.args
    kind, suffix, sizes, settings = _geometry(node, x, w, stride, padding, dilation, transposed, groups, g)
    n, c, h, wide, o, kh, kw, oh, ow = sizes
    inner, pixels = c * kh * kw, oh * ow
    _check_panels(inner, max(pixels, o))
    parts = {
        part.args[1]: names.pointer(part) for part in node.users if part.args[1] in (0, 1, 2) and part.users
    }
    grad = names.pointer(g)
    text = ["{", settings, f"static __thread {kind} cols[{inner * pixels}] __attribute__((aligned(64)));"]
    text += [
        f"static __thread {kind} across[{pixels * o}] __attribute__((aligned(64))), turned[{inner * o}] __attribute__((aligned(64)));"
    ]
    if 0 in parts:
        text += [f"memset({parts[0]}, 0, {n * c * h * wide} * sizeof({kind}));"]
    if 2 in parts:
        text += [f"memset({parts[2]}, 0, {o} * sizeof({kind}));"]
    text += [f"for (long s = 0; s < {n}; s++) {{", f"const {kind} *const g = {grad} + s * {o * pixels};"]
    if 1 in parts:
        text += [
            f"patches_{suffix}({names.pointer(x)} + s * {c * h * wide}, {c}, {h}, {wide}, {kh}, {kw}, {oh}, {ow}, set, cols);",
            f"turn_{suffix}({pixels}, {o}, g, 1, {pixels}, across, {o});",
            f"product_{suffix}({inner}, {o}, {pixels}, cols, {pixels}, 1, across, {o}, 1, turned, {o}, s > 0);",
        ]
    if 0 in parts:
        text += [
            f"product_{suffix}({inner}, {pixels}, {o}, {names.pointer(w)}, 1, {inner}, g, {pixels}, 1, cols, {pixels}, 0);",
            f"unpatch_{suffix}({parts[0]} + s * {c * h * wide}, {c}, {h}, {wide}, {kh}, {kw}, {oh}, {ow}, set, cols);",
        ]
    if 2 in parts:
        text += [f"for (long o = 0; o < {o}; o++) {{ {kind} sum[{LANES}] = {{0}};",
                 f"for (long q = 0; q < {pixels}; q++) sum[q % {LANES}] += g[o * {pixels} + q];",
                 f"for (long l = 0; l < {LANES}; l++) {parts[2]}[o] += sum[l]; }}"]  # fmt: skip
    last = [f"turn_{suffix}({o}, {inner}, turned, 1, {o}, {parts[1]}, {inner});"] if 1 in parts else []
    return [*text, "}", *last, "}"]


def _geometry(node: Any, x: Any, w: Any, stride: Any, padding: Any, dilation: Any, transposed: Any,
              groups: Any, grad: Any = None) -> Any:  # fmt: skip
    one, other = x.meta["layout"], w.meta["layout"]
    grad_layout = (grad or node).meta["layout"]
    if transposed or groups != 1 or one.dtype not in SUFFIX or len(one.shape) not in (3, 4):
        raise NotImplementedError
    if not (one.contiguous and other.contiguous and grad_layout.contiguous):
        raise NotImplementedError
    flat = len(one.shape) == 3

    def two(value: Any, fill: int) -> list[int]:
        value = list(value) if len(value) > 1 else list(value) * (1 if flat else 2)
        return [fill, *value] if flat else value

    n, c, *size = one.shape
    o, _, *kernel = other.shape
    h, wide = size if not flat else (1, *size)
    kh, kw = kernel if not flat else (1, *kernel)
    oh, ow = grad_layout.shape[2:] if not flat else (1, *grad_layout.shape[2:])
    s, p, d = two(stride, 1), two(padding, 0), two(dilation, 1)
    settings = f"static const long set[6] = {{{s[0]}, {s[1]}, {p[0]}, {p[1]}, {d[0]}, {d[1]}}};"
    return C_TYPES[one.dtype], SUFFIX[one.dtype], (n, c, h, wide, o, kh, kw, oh, ow), settings


def _pooled(node: Any, names: Any) -> list[str]:
    """The largest entry of each window, and where it is in its picture."""
    x, size, *rest = node.args
    stride, padding, dilation, _ = filled_up(rest, [[], [0, 0], [1, 1], False])
    parts = {part.args[1]: part for part in node.users}
    out = next(iter(parts.values())).meta["layout"]
    given = x.meta["layout"]
    if not given.contiguous or not out.contiguous:
        raise NotImplementedError
    (kh, kw), (ph, pw), (dh, dw) = (pair(v) for v in (size, padding, dilation))
    sh, sw = pair(stride) if stride else (kh, kw)
    h, w = given.shape[-2:]
    oh, ow = out.shape[-2:]
    sheets = 1
    for n in given.shape[:-2]:
        sheets *= n
    kind = C_TYPES[given.dtype]
    text = [
        f"for (long s = 0; s < {sheets}; s++) for (long y = 0; y < {oh}; y++) for (long z = 0; z < {ow}; z++) {{",
        f"{kind} best = -INFINITY; int64_t at = -1;",
        f"for (long u = 0; u < {kh}; u++) for (long v = 0; v < {kw}; v++) {{",
        f"const long row = y * {sh} - {ph} + u * {dh}, column = z * {sw} - {pw} + v * {dw};",
        f"if (row < 0 || row >= {h} || column < 0 || column >= {w}) continue;",
        f"const {kind} x = {names.pointer(x)}[(s * {h} + row) * {w} + column];",
        f"if (at < 0 || x > best || x != x) {{ best = x; at = row * {w} + column; }} }}",
    ]
    if 0 in parts:
        text.append(f"{names.pointer(parts[0])}[(s * {oh} + y) * {ow} + z] = best;")
    if 1 in parts:
        text.append(f"{names.pointer(parts[1])}[(s * {oh} + y) * {ow} + z] = at;")
    return [*text, "}"]


def _pooled_backward(node: Any, names: Any) -> list[str]:
    g, where = node.args[0], node.args[-1]
    grad, out = g.meta["layout"], node.meta["layout"]
    if not out.contiguous or not where.meta["layout"].contiguous:
        raise NotImplementedError
    axes = range(len(grad.shape))
    plane = out.shape[-1] * out.shape[-2]
    lead = spot([d for d in axes if d < len(grad.shape) - 2], out.strides)
    value = names.literals.get(grad.base) or f"{names.pointer(g)}[{spot(axes, grad.strides)}]"
    at = f"place({names.pointer(where)}[{spot(axes, where.meta['layout'].strides)}], {plane}, &bad)"
    body = [f"{names.pointer(node)}[{lead} + {at}] += {value};"]
    loops = [line for line in over(list(enumerate(grad.shape)), lambda _: body) if "ivdep" not in line]
    return [*filled(names, node, "0"), "{", *loops, "}"]


WRITERS: dict[str, Callable[[Any, Any], list[str]]] = {
    "mm": _product,
    "bmm": _product,
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "max_pool2d_with_indices": _pooled,
    "max_pool2d_with_indices_backward": _pooled_backward,
}
