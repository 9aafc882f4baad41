"""Randomness by counting: (run seed, step, call site, element) → a number, by a hash, with no hidden state.

A generator that is advanced gives numbers that depend on what was drawn before, and under ``vmap`` on the slot
and on the size of the fleet. A hash of counters gives each run its own stream, the same alone and in any fleet.
The mixer is the finalizer of splitmix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators,
2014) on 64-bit integers that wrap.
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .errors import BadTask

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


def _shifted(x: Tensor, k: int) -> Tensor:
    """A logical shift to the right; torch's own shift keeps the sign."""
    return (x >> k) & ((1 << (64 - k)) - 1)


def mix(x: Tensor) -> Tensor:
    """Scramble int64 numbers: a bijection in which each bit of the input moves half of the output."""
    x = (x ^ _shifted(x, 30)) * _signed(_FIRST)
    x = (x ^ _shifted(x, 27)) * _signed(_SECOND)
    return x ^ _shifted(x, 31)


def fold(key: Tensor, counter: Tensor | int) -> Tensor:
    """A new key from a key and a counter; both int64, of shapes that broadcast."""
    steps = torch.as_tensor(counter, dtype=torch.int64, device=key.device) + 1
    return mix(mix(key) + steps * _signed(_GOLDEN))


def seed_for(seed: int, purpose: str) -> int:
    """A seed below 2**63 for one purpose of a run, unrelated to those of all other seeds and purposes."""
    digest = hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def uniform(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers in [0, 1), one for each element of ``shape``, from a 0-d int64 key."""
    bits = 1 - round(
        math.log2(torch.finfo(dtype).eps)
    )  # as many as the type holds, so that 1 is never reached
    return (_bits(key, shape, bits).to(dtype) * 2.0**-bits).reshape(shape)


def normal(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, one for each element of ``shape``, by the inverse of the distribution."""
    inside = (_bits(key, shape, 52).to(torch.float64) + 0.5) * 2.0**-52  # neither 0 nor 1
    return torch.special.ndtri(inside).reshape(shape).to(dtype)


def _bits(key: Tensor, shape: tuple[int, ...], count: int) -> Tensor:
    elements = torch.arange(math.prod(shape), dtype=torch.int64, device=key.device)
    return _shifted(fold(key, elements), 64 - count)


def order(seed: int, epoch: int, n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order in which a run sees the ``n`` training examples in an epoch: a permutation of 0 … n − 1."""
    key = fold(fold(torch.tensor(seed_for(seed, "order")), epoch), torch.arange(n))
    return torch.argsort(key, stable=True).numpy()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run code that draws from torch's own generator (a model's initialization) from a seed, and leave no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def untouched(whose: str) -> Iterator[None]:
    """Refuse, with a sentence, code that draws from a generator which all runs of a process share."""
    before = _states()
    yield
    for name, was, is_now in zip(("torch", "NumPy", "random"), before, _states(), strict=True):
        if was != is_now:
            raise BadTask(
                f"{whose} draws noise from the global generator of {name}, so that a run would depend on what was "
                f"drawn before it: {_USE}"
            )


def _states() -> tuple[Any, ...]:
    numpy = np.random.get_state()  # noqa: NPY002  (to see whether somebody else uses it)
    return bytes(torch.random.get_rng_state().numpy()), repr(numpy), random.getstate()


_USE = "use dropout, rand, randn, rand_like, randn_like or bernoulli of torch, which each run gets from its own stream"


class Noise(TorchFunctionMode):
    """Inside, torch's random functions draw from one run's stream: (seed, step, call site, element).

    Dropout, attention's dropout, ``rand``, ``randn``, ``rand_like``, ``randn_like`` and ``bernoulli`` are replaced; a
    function whose noise cannot be placed per run is refused with a sentence.

    Args:
        seed: the run's seed, 0-d int64.
        step: the step, 0-d int64.
    """

    def __init__(self, seed: Tensor, step: Tensor) -> None:
        super().__init__()
        self.key, self.site = fold(seed, step), 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _REPLACED:
            with torch._C.DisableTorchFunction():
                return _REPLACED[func](self._next, *args, **kwargs)
        if func in _REFUSED or (func in _REFUSED_IN_TRAINING and _draws((*args, *kwargs.values()))):
            raise BadTask(f"the model draws noise by {func.__name__}, which cannot be placed per run: {_USE}")
        if _is_composite(func):
            with self:
                return _body(func)(*args, **kwargs)
        return func(*args, **kwargs)

    def _next(self) -> Tensor:
        self.site += 1
        return fold(self.key, self.site)


# --- functions of torch that call others ------------------------------------------------------------------


_ASKS = {"has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"}


def _is_composite(func: Any) -> bool:
    """Whether a function of torch is written in Python, and so may draw noise by others (attention does)."""
    # torch.nn.init asks by another way, which cannot be taken out: what draws there is refused by name
    inside = isinstance(func, types.FunctionType) and func.__module__ == "torch.nn.functional"
    return inside and not _ASKS.isdisjoint(func.__code__.co_names)


@functools.cache
def _body(func: types.FunctionType) -> Callable[..., Any]:
    """The function without its question whether a mode is active, so that the mode sees what it calls."""
    seen = {**func.__globals__, **dict.fromkeys(_ASKS, lambda *_: False)}
    body = types.FunctionType(func.__code__, seen, func.__name__, func.__defaults__, func.__closure__)
    body.__kwdefaults__ = func.__kwdefaults__
    return body


def _draws(given: tuple[Any, ...]) -> bool:
    """Whether a call whose arguments are (…, share, …, training, …) draws noise."""
    share = next((i for i, a in enumerate(given) if isinstance(a, float)), None)
    return (
        share is not None
        and given[share] > 0
        and next((a for a in given[share:] if isinstance(a, bool)), True)
    )


# --- what is replaced -------------------------------------------------------------------------------------

Draw = Callable[[], Tensor]


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
    draw: Draw, x: Tensor, shape: tuple[int, ...], p: float, training: bool, inplace: bool
) -> Tensor:
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
            raise BadTask(f"the model draws noise with {name}=…, which cannot be placed per run: {_USE}")


def _marked(drawn: Tensor, options: dict[str, Any]) -> Tensor:
    return drawn.requires_grad_() if options.get("requires_grad") else drawn


_F = torch.nn.functional
_REPLACED: dict[Any, Callable[..., Tensor]] = {
    _F.dropout: _dropout, torch.dropout: _named_train(_dropout), torch.feature_dropout: _named_train(_by_channel(None)),
    _F.dropout1d: _by_channel(3), _F.dropout2d: _by_channel(None), _F.dropout3d: _by_channel(5),
    _F.scaled_dot_product_attention: _attention,
    torch.rand: _sized(uniform), torch.randn: _sized(normal), torch.rand_like: _like(uniform),
    torch.randn_like: _like(normal), torch.bernoulli: _bernoulli, torch.Tensor.bernoulli: _bernoulli,
}  # fmt: skip
_REFUSED = {
    torch.randint, torch.randint_like, torch.randperm, torch.multinomial, torch.normal, torch.poisson, torch.binomial,
    torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.bernoulli_, torch.Tensor.random_, torch.Tensor.cauchy_,
    torch.Tensor.exponential_, torch.Tensor.geometric_, torch.Tensor.log_normal_, torch.Tensor.multinomial,
    nn.init.uniform_, nn.init.normal_, nn.init.trunc_normal_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_,
}  # fmt: skip
_REFUSED_IN_TRAINING = {
    torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu, torch.rrelu, torch.rrelu_, torch.dropout_,
    torch.feature_dropout_, torch.alpha_dropout, torch.alpha_dropout_, torch.feature_alpha_dropout,
    torch.feature_alpha_dropout_,
}  # fmt: skip
