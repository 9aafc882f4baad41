"""Operations that are written with others before they are written in C."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

KEPT = (
    aten.sum.default, aten.sum.dim_IntList, aten.mean.dim, aten.index_select.default, aten.square.default,
    aten.leaky_relu.default, aten.reciprocal.default, aten.slice_scatter.default, aten.select_scatter.default,
    aten.remainder.Tensor, aten.remainder.Scalar,
)  # fmt: skip
"""Operations that are written as they are, though torch could take them apart."""


IN_PARTS = (
    "addmv addr _softmax _softmax_backward_data _log_softmax _log_softmax_backward_data "
    "native_layer_norm native_layer_norm_backward native_group_norm native_group_norm_backward native_batch_norm "
    "_native_batch_norm_legit _native_batch_norm_legit_no_training native_batch_norm_backward gelu gelu_backward silu silu_backward elu elu_backward "
    "hardtanh hardtanh_backward hardswish hardswish_backward hardsigmoid hardsigmoid_backward leaky_relu_backward "
    "softplus softplus_backward log_sigmoid_forward log_sigmoid_backward mish mish_backward glu glu_backward "
    "tanh_backward sigmoid_backward threshold threshold_backward logsumexp addcmul addcdiv masked_fill "
    "embedding_dense_backward slice_backward select_backward nll_loss_forward nll_loss_backward mse_loss "
    "mse_loss_backward huber_loss huber_loss_backward smooth_l1_loss smooth_l1_loss_backward binary_cross_entropy "
    "binary_cross_entropy_backward _prelu_kernel _prelu_kernel_backward clamp rsub frac logit heaviside unfold_backward "
    "index_add trace norm xlogy nan_to_num triu tril"
)  # fmt: skip
"""Operations that torch can take apart, though it counts some of them among its simplest."""


@functools.cache
def table() -> dict[Any, Callable[..., Any]]:
    """What stands in place of each operation before it is written."""
    found: dict[Any, Callable[..., Any]] = dict(torch._decomp.core_aten_decompositions())
    found.update(torch._decomp.get_decompositions([getattr(aten, name) for name in IN_PARTS.split()]))
    for op in KEPT:
        found.pop(op, None)
    return {**found, **_ours()}


def _ours() -> dict[Any, Callable[..., Any]]:
    return {
        aten.addmm.default: _plus(aten.mm.default),
        aten.baddbmm.default: _plus(aten.bmm.default),
        aten.var.correction: _variance,
        aten.var_mean.correction: _variance_and_mean,
        aten.linalg_vector_norm.default: _norm,
        aten.lerp.Tensor: lambda a, b, w: a + w * (b - a),
        aten.lerp.Scalar: lambda a, b, w: a + w * (b - a),
        aten.dot.default: lambda a, b: (a * b).sum(),
        aten.mv.default: lambda a, b: aten.mm(a, b.unsqueeze(1)).squeeze(1),
        aten.mean.default: lambda x, **o: aten.mean.dim(x, list(range(x.ndim)), **o),
        aten.sum.default: lambda x, **o: aten.sum.dim_IntList(x, list(range(x.ndim)), **o),
        aten.embedding.default: lambda w, i, *_: aten.index.Tensor(w, [i]),
        aten.amax.default: _extreme(aten.amax.default),
        aten.amin.default: _extreme(aten.amin.default),
        aten.stack.default: lambda ts, d=0: aten.cat.default([t.unsqueeze(d) for t in ts], d),
        aten.rsub.Scalar: lambda x, y, alpha=1: aten.add.Scalar(aten.neg.default(x), y) if alpha == 1 else NotImplemented,
        aten.pow.Tensor_Scalar: _power,
        aten.leaky_relu.default: lambda x, slope=0.01: torch.where(x > 0, x, x * slope),
        aten.softshrink_backward.default: lambda g, x, cut: torch.where(x.abs() <= cut, 0.0, g),
        aten.repeat.default: _repeat,
        aten.avg_pool2d.default: _averages,
        aten.avg_pool2d_backward.default: _averages_backward,
        aten.constant_pad_nd.default: _crop,
        aten.convolution.default: functools.partial(_in_rows, aten.convolution.default, 2),
        aten.convolution_backward.default: functools.partial(_in_rows, aten.convolution_backward.default, 3),
        aten.max_pool2d_with_indices.default: functools.partial(_in_rows, aten.max_pool2d_with_indices.default, 1),
    }  # fmt: skip


def _plus(product: Any) -> Callable[..., Tensor]:
    def plus(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        out: Tensor = product(a, b) if alpha == 1 else alpha * product(a, b)
        return c + out if beta == 1 else out if beta == 0 else beta * c + out

    return plus


def _power(x: Tensor, p: float) -> Any:
    if p == 2:
        return x * x
    if p == 3:
        return x * x * x
    return x.sqrt() if p == 0.5 else NotImplemented


def _in_rows(op: Any, count: int, *args: Any, **options: Any) -> Any:
    """With its first arguments as they lie in memory one after another."""
    if all(t.is_contiguous() for t in args[:count]):
        return NotImplemented
    return op(
        *(t.clone(memory_format=torch.contiguous_format) for t in args[:count]), *args[count:], **options
    )


def _repeat(x: Tensor, times: Sequence[int]) -> Tensor:
    sizes = [1] * (len(times) - x.ndim) + list(x.shape)
    paired = [n for t, size in zip(times, sizes, strict=True) for n in (t, size)]
    ones = [n for size in sizes for n in (1, size)]
    return x.reshape(ones).expand(paired).reshape([t * n for t, n in zip(times, sizes, strict=True)])


def _crop(x: Tensor, pads: Sequence[int], value: float = 0) -> Any:
    """Padding by less than nothing cuts off."""
    if min(pads) >= 0:
        return NotImplemented
    for k in range(len(pads) // 2):
        before, after = (max(0, -p) for p in pads[2 * k : 2 * k + 2])
        x = x.narrow(-1 - k, before, x.shape[-1 - k] - before - after)
    kept = [max(0, p) for p in pads]
    return aten.constant_pad_nd.default(x, kept, value) if any(kept) else x.clone()


def _averages(x: Tensor, size: Any, stride: Any = (), padding: Any = (0,), *rest: Any) -> Any:
    (kh, kw), (sh, sw) = pair(size), pair(stride or size)
    if any(padding) or any(rest[:1]) or len(rest) > 2:
        return NotImplemented
    return x.unfold(-2, kh, sh).unfold(-2, kw, sw).mean((-2, -1))


def _averages_backward(g: Tensor, x: Tensor, size: Any, stride: Any, padding: Any, *rest: Any) -> Any:
    """Where windows do not overlap."""
    (kh, kw), (h, w) = pair(size), g.shape[-2:]
    if any(padding) or any(rest[:1]) or pair(stride or size) != (kh, kw) or (len(rest) > 2 and rest[2]):
        return NotImplemented
    spread = g[..., :, None, :, None].expand(*g.shape[:-2], h, kh, w, kw)
    whole = spread.reshape(*g.shape[:-2], h * kh, w * kw) / (kh * kw)
    return aten.constant_pad_nd.default(whole, [0, x.shape[-1] - w * kw, 0, x.shape[-2] - h * kh])


def pair(value: Any) -> tuple[int, int]:
    return (value[0], value[-1])


def _extreme(op: Any) -> Callable[..., Any]:
    def extreme(x: Tensor, dims: Any = (), keep: bool = False) -> Any:
        if not x.ndim:  # the one number there is
            return x.clone()
        return NotImplemented if dims else op(x, list(range(x.ndim)), keep)

    return extreme


def _variance(x: Tensor, dims: Any = None, *, correction: Any = None, keepdim: bool = False) -> Tensor:
    return _variance_and_mean(x, dims, correction=correction, keepdim=keepdim)[0]


def _variance_and_mean(
    x: Tensor, dims: Any = None, *, correction: Any = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    dims = list(range(x.ndim)) if dims is None else list(dims)
    count = 1
    for d in dims:
        count *= x.shape[d]
    mean = x.mean(dims, keepdim=True)
    spread = ((x - mean) ** 2).sum(dims, keepdim=keepdim) / (
        count - (1 if correction is None else correction)
    )
    return spread, mean if keepdim else x.mean(dims)


def _norm(x: Tensor, order: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    dims = list(range(x.ndim)) if dim is None else dim
    if dtype is not None:
        return NotImplemented
    if order == 2:
        return (x * x).sum(dims, keepdim=keepdim).sqrt()
    if order == 1:
        return x.abs().sum(dims, keepdim=keepdim)
    return x.abs().amax(dims, keepdim=keepdim) if order == float("inf") else NotImplemented
