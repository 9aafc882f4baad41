"""Kernels that give a run the same digits in any slot of a block, and in a block of any size.

A kernel for many numbers may round a number by where it stands. Matrix products round by where a matrix begins in
memory, functions such as tanh by whether an entry is among the last ones of a tensor, sums by what stands beside
their columns. In a block these are a run's slot and its neighbors. Here stand the operations that do so, each
written with others that do not; tracing puts them in place (``programs``). A block whose matrices begin at
multiples of a cache line and whose tensors fill whole vectors pays nothing for it.

Left as they are: other factorizations (qr, svd, cholesky) and Fourier transforms, which round by where a matrix
begins, too. A model that has them is told so in its plan.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions

aten = torch.ops.aten

LINE = 64
"""Bytes in a cache line, and in the widest vector registers."""

_EXACT = (
    "abs add bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp clamp_max clamp_min clone copysign div eq floor "
    "fmod ge gt isfinite isinf isnan le logical_and logical_not logical_or logical_xor lt masked_fill maximum minimum "
    "mul ne neg reciprocal relu remainder round rsqrt sgn sign sqrt sub threshold threshold_backward trunc where "
)  # fmt: skip
"""Functions that are rounded correctly, or not at all, whatever way they are computed."""

_IN_PARTS = (
    "native_batch_norm _native_batch_norm_legit native_batch_norm_backward binary_cross_entropy "
    "binary_cross_entropy_backward binary_cross_entropy_with_logits elu_backward glu glu_backward hardsigmoid_backward "
    "hardswish hardswish_backward huber_loss huber_loss_backward leaky_relu_backward log_sigmoid_backward "
    "log_sigmoid_forward mish_backward mse_loss mse_loss_backward _prelu_kernel _prelu_kernel_backward smooth_l1_loss "
    "smooth_l1_loss_backward softplus_backward "
)  # fmt: skip
"""Functions that torch itself can write with simpler ones, each of which is then looked at."""


@functools.cache
def table() -> dict[Any, Callable[..., Any]]:
    """What stands in place of each operation, for ``make_fx``."""
    found: dict[Any, Callable[..., Any]] = {}
    for op in _overloads():
        if torch.Tag.pointwise in op.tags and op._schema.name.split("::")[1] not in _EXACT.split():
            found[op] = functools.partial(_pointwise, op)
    for op in (aten.add.Tensor, aten.sub.Tensor):
        found[op] = functools.partial(_scaled, op)
    found.update(get_decompositions([getattr(aten, name) for name in _IN_PARTS.split()]))
    found[aten.sqrt.default] = _sqrt
    found[aten.index.Tensor] = _index
    found[aten.bmm.default] = _bmm
    found[aten.mm.default] = _mm
    found[aten.addmm.default] = _addmm
    found[aten.baddbmm.default] = _baddbmm
    found[aten._linalg_eigh.default] = _eigh
    found[aten.sum.dim_IntList] = functools.partial(_reduction, aten.sum.dim_IntList)
    found[aten.mean.dim] = functools.partial(_reduction, aten.mean.dim)
    return found


def _overloads() -> list[Any]:
    packets = (getattr(aten, name) for name in dir(aten) if not name.startswith("__"))
    every = (
        getattr(p, o) for p in packets if isinstance(p, torch._ops.OpOverloadPacket) for o in p.overloads()
    )
    return [op for op in every if not op._schema.is_mutable and len(op._schema.returns) == 1]


def _pointwise(op: Any, *args: Any, **options: Any) -> Any:
    """A function of each entry: the last entries of a tensor, which fill no vector, are rounded in another way."""
    tensors = [a for a in args if isinstance(a, Tensor) and a.ndim]
    if not tensors or options.get("out") is not None:
        return NotImplemented
    shape = torch.broadcast_shapes(*(t.shape for t in tensors))
    n = shape.numel()
    if _fills_vectors(tensors, shape) or _goes_by_rows(tensors, shape):
        return NotImplemented

    def whole(a: Any) -> Any:
        if not isinstance(a, Tensor) or not a.ndim:
            return a
        flat = a.expand(shape).reshape(-1).contiguous()
        return aten.constant_pad_nd(flat, [0, -n % LINE], 1.0) if n % LINE else flat

    return op(*map(whole, args), **options)[:n].reshape(shape)


def _scaled(op: Any, *args: Any, **options: Any) -> Any:
    """a ± alpha · b, which is rounded once where a machine can, and twice elsewhere."""
    return NotImplemented if options.get("alpha", 1) == 1 else _pointwise(op, *args, **options)


def _fills_vectors(tensors: list[Tensor], shape: torch.Size) -> bool:
    return shape.numel() % LINE == 0 and all(t.shape == shape and t.is_contiguous() for t in tensors)


def _goes_by_rows(tensors: list[Tensor], shape: torch.Size) -> bool:
    """Whether one number for each run meets many, so that the last entries are those of each run, alike for all."""
    short = [t for t in tensors if t.shape != shape]
    lead = (shape[0], *(1 for _ in shape[1:]))
    return bool(short) and all(t.is_contiguous() and t.shape in (shape, lead) for t in tensors)


def _sqrt(x: Tensor) -> Tensor:
    """By way of 1/√x: torch takes √x from a library that slows down several times where entries are 0."""
    return aten.reciprocal(aten.rsqrt(x))


def _index(x: Tensor, positions: Sequence[Tensor | None]) -> Any:
    """Rows of a table, which torch copies whole when they are asked for in this way."""
    i = positions[0]
    if len(positions) != 1 or i is None or i.dtype != torch.int64 or x.ndim < 2 or not i.numel():
        return NotImplemented
    rows = torch.where(i < 0, i + len(x), i).reshape(-1)
    return aten.index_select(x, 0, rows).reshape(*i.shape, *x.shape[1:])


def _bmm(a: Tensor, b: Tensor) -> Any:
    """Products of matrices: libraries choose their path by whether a matrix begins at a cache line."""
    lanes = LINE // a.element_size()
    rows, columns = a.shape[1], b.shape[2]
    more_rows = 0 if _aligned(a) else -rows % lanes
    whole = _aligned(b) and (rows + more_rows) * columns % lanes == 0
    more_columns = 0 if whole else -columns % lanes
    if not more_rows and not more_columns:
        return NotImplemented
    a = aten.constant_pad_nd(a, [0, 0, 0, more_rows]) if more_rows else a
    b = aten.constant_pad_nd(b, [0, more_columns]) if more_columns else b
    return aten.bmm(a, b)[:, :rows, :columns]


def _mm(a: Tensor, b: Tensor) -> Tensor:
    """Products with a matrix that all runs share: the rows of all runs, in sheets of as many as fill a line."""
    lanes, (rows, inner), columns = LINE // a.element_size(), a.shape, b.shape[1]
    a = aten.constant_pad_nd(a, [0, -inner % lanes, 0, -rows % lanes])
    b = aten.constant_pad_nd(b, [0, -columns % lanes, 0, -inner % lanes])
    sheets = a.reshape(-1, lanes, a.shape[1])
    out: Tensor = aten.bmm(sheets, b.expand(len(sheets), *b.shape))
    return out.flatten(0, 1)[:rows, :columns]


def _addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Any:
    return _mm(a, b) + bias if alpha == beta == 1 else beta * bias + alpha * _mm(a, b)


def _baddbmm(plus: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Any:
    return beta * plus + alpha * torch.bmm(a, b)


def _eigh(m: Tensor, uplo: str = "L", compute_v: bool = True) -> Any:
    """Eigenvectors: matrices get rows and columns with one larger eigenvalue, so that each fills whole lines."""
    n = m.shape[-1]
    more = -n % 4  # 16 numbers of four bytes are a line
    if not more or not n or not compute_v:
        return NotImplemented
    above = 1 + 2 * m.abs().sum(-1).amax(-1)
    further = torch.arange(n + more, device=m.device) >= n
    m = aten.constant_pad_nd(m, [0, more, 0, more])
    m = torch.where(torch.diag(further), above[..., None, None], m)
    values, vectors = aten._linalg_eigh(m, uplo, compute_v)
    return values[..., :n], vectors[..., :n, :n]


def _aligned(t: Tensor) -> bool:
    return len(t) == 1 or t.stride(0) * t.element_size() % LINE == 0


def _reduction(op: Any, x: Tensor, dims: Sequence[int] | None, keepdim: bool = False, **options: Any) -> Any:
    """A sum over the outermost axis adds up columns side by side, in an order that depends on their number."""
    reduced = sorted({d % x.ndim for d in dims or range(x.ndim)})
    kept = [d for d in range(x.ndim) if d not in reduced]
    wide = [d for d in range(x.ndim) if x.shape[d] > 1]
    if not x.numel() or not set(kept) & set(wide) or max(wide, key=x.stride) not in reduced:
        return NotImplemented
    rows = x.permute(*kept, *reduced).reshape(*(x.shape[d] for d in kept), -1).contiguous()
    out = op(rows, [-1], **options)
    return out.reshape([1 if d in reduced else n for d, n in enumerate(x.shape)]) if keepdim else out
