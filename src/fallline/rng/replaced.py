"""What stands in place of torch's random functions, and which of them cannot be replaced."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadTask
from .counters import normal, uniform

Draw = Callable[[], Tensor]

USE = "use dropout, rand, randn, rand_like, randn_like or bernoulli of torch, which each run gets from its own stream"


class Rate(float):
    """A dropout rate that is a run's own, a tensor, where modules have a number.

    Python cannot ask a tensor of many runs whether it is above 0: to Python a rate is a number between 0 and 1, to
    torch's functions inside of :class:`Noise`, and in arithmetic, it is its tensor.
    """

    value: Tensor

    def __new__(cls, value: Tensor) -> Rate:
        rate = super().__new__(cls, 0.5)
        rate.value = value
        return rate

    def __rsub__(self, other: Any) -> Any:
        return other - self.value

    def __mul__(self, other: Any) -> Any:
        return self.value * other

    __rmul__ = __mul__


def as_data(given: Any) -> Any:
    """An argument as torch's functions get it."""
    return given.value if isinstance(given, Rate) else given


def _dropout(
    draw: Draw, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    return _dropped(draw, input, tuple(input.shape), p, training, inplace)


def _by_channel(batched: int | None) -> Callable[..., Tensor]:
    """Dropout of whole channels of [N, C, …], or of [C, …] where the input has fewer axes than ``batched``."""

    def dropout(
        draw: Draw, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        lead = 1 if batched is not None and input.ndim != batched else 2
        shape = (*input.shape[:lead], *(1 for _ in input.shape[lead:]))
        return _dropped(draw, input, shape, p, training, inplace)

    return dropout


def _named_train(dropout: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As ``torch.dropout`` has it, whose third argument is called ``train``."""
    return lambda draw, input, p, train: dropout(draw, input, p, train)


def _dropped(
    draw: Draw, x: Tensor, shape: tuple[int, ...], p: float | Tensor, training: bool, inplace: bool
) -> Tensor:
    p = as_data(p)
    if isinstance(p, Tensor):
        return _dropped_by_data(draw, x, shape, p, inplace) if training else x
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return x
    if p == 1.0:
        out = x * 0.0
    else:
        keep = uniform(draw(), shape, torch.float32) >= p
        out = torch.where(keep, x / (1 - p), torch.zeros_like(x))
    return x.copy_(out) if inplace else out


def _dropped_by_data(draw: Draw, x: Tensor, shape: tuple[int, ...], p: Tensor, inplace: bool) -> Tensor:
    """The same by a rate that is a tensor, its ends included: at 1 nothing is kept, and nothing is divided by 0."""
    keep = uniform(draw(), shape, torch.float32) >= p.to(torch.float32)
    out = torch.where(keep, x / torch.where(p < 1, 1 - p, 1.0).to(x.dtype), torch.zeros_like(x))
    return x.copy_(out) if inplace else out


def _attention(
    draw: Draw, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """Attention as torch defines it, in full: the fused kernels draw noise by themselves, and cannot be batched."""
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is None:
        return _dropout(draw, scores.softmax(-1), dropout_p) @ value
    masked = attn_mask.dtype == torch.bool
    scores = scores.masked_fill(~attn_mask, -math.inf) if masked else scores + attn_mask
    blind = torch.isneginf(scores).all(-1, keepdim=True)  # a query that may see nothing gets 0
    weights = scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)
    return _dropout(draw, weights, dropout_p) @ value


def _sized(sample: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def drawn(
        draw: Draw, *sizes: Any, size: Any = None, dtype: torch.dtype | None = None, **kw: Any
    ) -> Tensor:
        _only(kw)
        sizes = sizes if size is None else (size,)
        shape = sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
        return _marked(sample(draw(), tuple(shape), dtype or torch.get_default_dtype()), kw)

    return drawn


def _like(sample: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def drawn(draw: Draw, input: Tensor, *, dtype: torch.dtype | None = None, **kw: Any) -> Tensor:
        _only(kw)
        return _marked(sample(draw(), tuple(input.shape), dtype or input.dtype), kw)

    return drawn


def _bernoulli(draw: Draw, input: Tensor, p: float | None = None, **kw: Any) -> Tensor:
    _only(kw)
    share = input if p is None else torch.full_like(input, p)
    kind = share.dtype if share.is_floating_point() else torch.float32
    return (uniform(draw(), tuple(input.shape), kind) < share).to(input.dtype)


def _only(options: dict[str, Any]) -> None:
    """Refuse a generator of one's own and an output tensor; where a tensor lies is the fleet's to say."""
    for name in ("generator", "out", "names"):
        if options.get(name) is not None:
            raise BadTask(f"the model draws noise with {name}=…, which cannot be placed per run: {USE}")


def _marked(drawn: Tensor, options: dict[str, Any]) -> Tensor:
    return drawn.requires_grad_() if options.get("requires_grad") else drawn


_F = torch.nn.functional
REPLACED: dict[Any, Callable[..., Tensor]] = {
    _F.dropout: _dropout, torch.dropout: _named_train(_dropout), torch.feature_dropout: _named_train(_by_channel(None)),
    _F.dropout1d: _by_channel(3), _F.dropout2d: _by_channel(None), _F.dropout3d: _by_channel(5),
    _F.scaled_dot_product_attention: _attention,
    torch.rand: _sized(uniform), torch.randn: _sized(normal), torch.rand_like: _like(uniform),
    torch.randn_like: _like(normal), torch.bernoulli: _bernoulli, torch.Tensor.bernoulli: _bernoulli,
}  # fmt: skip
REFUSED = {
    torch.randint, torch.randint_like, torch.randperm, torch.multinomial, torch.normal, torch.poisson, torch.binomial,
    torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.bernoulli_, torch.Tensor.random_, torch.Tensor.cauchy_,
    torch.Tensor.exponential_, torch.Tensor.geometric_, torch.Tensor.log_normal_, torch.Tensor.multinomial,
    nn.init.uniform_, nn.init.normal_, nn.init.trunc_normal_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_,
}  # fmt: skip
REFUSED_IN_TRAINING = {
    torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu, torch.rrelu, torch.rrelu_, torch.dropout_,
    torch.feature_dropout_, torch.alpha_dropout, torch.alpha_dropout_, torch.feature_alpha_dropout,
    torch.feature_alpha_dropout_,
}  # fmt: skip
