"""Randomness by counting: (run seed, step, call site, element) → a number, by a hash, with no hidden state.

A generator that is advanced gives numbers that depend on what was drawn before, and under ``vmap`` on the slot
and on the size of the fleet. A hash of counters gives each run its own stream, the same alone and in any fleet.
The mixer is the finalizer of splitmix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators,
2014) on 64-bit integers that wrap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
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
    elements = torch.arange(int(np.prod(shape)), dtype=torch.int64, device=key.device)
    bits = 53 if dtype == torch.float64 else 24
    return (_shifted(fold(key, elements), 64 - bits).to(dtype) * 2.0**-bits).reshape(shape)


def normal(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, one for each element of ``shape``, by the inverse of the distribution."""
    exact = uniform(key, shape, torch.float64) + 2.0**-54
    return torch.special.ndtri(exact).to(dtype)


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


class Noise(TorchFunctionMode):
    """Inside, torch's random functions draw from one run's stream: (seed, step, call site, element).

    Dropout, ``rand``, ``randn``, ``rand_like``, ``randn_like`` and ``bernoulli`` are replaced; a function whose
    noise cannot be placed per run is refused with a sentence.

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
        if func in _REFUSED:
            raise BadTask(
                f"the model draws noise by {getattr(func, '__name__', func)!r}, which cannot be given to each run "
                "of a fleet from its own stream: use dropout, rand, randn, rand_like, randn_like or bernoulli"
            )
        return func(*args, **kwargs)

    def _next(self) -> Tensor:
        self.site += 1
        return fold(self.key, self.site)


Draw = Callable[[], Tensor]


def _dropout(draw: Draw, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or p == 0.0:
        return x
    if p == 1.0:
        return x * 0.0
    keep = uniform(draw(), tuple(x.shape), torch.float32) >= p
    return torch.where(keep, x / (1 - p), torch.zeros_like(x))


def _channels(draw: Draw, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of [N, C, …]."""
    if not training or p == 0.0:
        return x
    keep = uniform(draw(), tuple(x.shape[:2]), torch.float32) >= p
    keep = keep.reshape(*x.shape[:2], *(1 for _ in x.shape[2:]))
    return torch.where(keep, x / (1 - p), torch.zeros_like(x))


def _shape(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else tuple(sizes)


def _rand(draw: Draw, *sizes: Any, dtype: torch.dtype | None = None, **kw: Any) -> Tensor:
    return uniform(draw(), _shape(sizes), dtype or torch.get_default_dtype())


def _randn(draw: Draw, *sizes: Any, dtype: torch.dtype | None = None, **kw: Any) -> Tensor:
    return normal(draw(), _shape(sizes), dtype or torch.get_default_dtype())


def _rand_like(draw: Draw, x: Tensor, dtype: torch.dtype | None = None, **kw: Any) -> Tensor:
    return uniform(draw(), tuple(x.shape), dtype or x.dtype)


def _randn_like(draw: Draw, x: Tensor, dtype: torch.dtype | None = None, **kw: Any) -> Tensor:
    return normal(draw(), tuple(x.shape), dtype or x.dtype)


def _bernoulli(draw: Draw, x: Tensor, p: float | None = None, **kw: Any) -> Tensor:
    share = x if p is None else torch.full_like(x, p)
    return (uniform(draw(), tuple(x.shape), torch.float32) < share).to(x.dtype)


_F = torch.nn.functional
_REPLACED: dict[Any, Callable[..., Tensor]] = {
    _F.dropout: _dropout, torch.dropout: _dropout,
    _F.dropout1d: _channels, _F.dropout2d: _channels, _F.dropout3d: _channels, torch.feature_dropout: _channels,
    torch.rand: _rand, torch.randn: _randn, torch.rand_like: _rand_like, torch.randn_like: _randn_like,
    torch.bernoulli: _bernoulli, torch.Tensor.bernoulli: _bernoulli,
}  # fmt: skip
_REFUSED = {
    torch.randint, torch.randint_like, torch.randperm, torch.multinomial, torch.normal, torch.poisson,
    torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.bernoulli_, torch.Tensor.random_,
    torch.Tensor.exponential_, torch.Tensor.multinomial, torch.alpha_dropout, torch.feature_alpha_dropout,
    _F.alpha_dropout, _F.feature_alpha_dropout, _F.gumbel_softmax, torch.rrelu, _F.rrelu,
}  # fmt: skip
