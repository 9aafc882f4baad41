"""Inside a step, torch's random functions draw from a run's own stream; what would draw from another is refused."""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import BadTask
from .counters import fold
from .replaced import REFUSED, REFUSED_IN_TRAINING, REPLACED, USE, as_data


@contextmanager
def untouched(whose: str) -> Iterator[None]:
    """Refuse, with a sentence, code that draws from a generator which all runs of a process share."""
    before = _states()
    yield
    for name, was, is_now in zip(("torch", "NumPy", "random"), before, _states(), strict=True):
        if was != is_now:
            raise BadTask(
                f"{whose} draws noise from the global generator of {name}, so that a run would depend on what was "
                f"drawn before it: {USE}"
            )


def _states() -> tuple[Any, ...]:
    numpy = np.random.get_state()  # noqa: NPY002  (to see whether somebody else uses it)
    return bytes(torch.random.get_rng_state().numpy()), repr(numpy), random.getstate()


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
        if func in REPLACED:
            with torch._C.DisableTorchFunction():
                return REPLACED[func](self._next, *args, **kwargs)
        if func in REFUSED or (func in REFUSED_IN_TRAINING and _draws((*args, *kwargs.values()))):
            raise BadTask(f"the model draws noise by {func.__name__}, which cannot be placed per run: {USE}")
        if _is_composite(func):
            with self:
                return _body(func)(*args, **kwargs)
        return func(*map(as_data, args), **{name: as_data(a) for name, a in kwargs.items()})

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
