"""Randomness by counting: (run seed, step, call site, element) → a number, by a hash, with no hidden state.

A generator that is advanced gives numbers that depend on what was drawn before, and under ``vmap`` on the slot
and on the size of the fleet. A hash of counters gives each run its own stream, the same alone and in any fleet.
The mixer is the finalizer of splitmix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators,
2014) on 64-bit integers that wrap.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_ALL = (1 << 64) - 1
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
    """The order in which a run sees the ``n`` training examples in an epoch: a permutation of 0 … n − 1.

    It sorts the examples by ``fold(fold(seed, epoch), example)``, computed in Python and NumPy, which are several
    times as fast as torch for so little. No two keys are equal, since ``fold`` is a bijection of the counter.
    """
    of_epoch = _plain_fold(seed_for(seed, "order"), epoch)
    return np.argsort(_plain_fold(of_epoch, np.arange(n, dtype=np.uint64)).view(np.int64))


def _plain_fold(key: int, counter: Any) -> Any:
    """``fold`` for a number below 2**64, or for an array of them."""
    return _plain_mix((_plain_mix(key) + (counter + 1) * _GOLDEN) & _ALL)


def _plain_mix(x: Any) -> Any:
    x = ((x ^ (x >> 30)) * _FIRST) & _ALL
    x = ((x ^ (x >> 27)) * _SECOND) & _ALL
    return x ^ (x >> 31)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run code that draws from torch's own generator (a model's initialization) from a seed, and leave no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
