"""Between the columns of a batch and the arguments of a model: one input, several in a row, or several by name."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from .base import Batch
from .data import is_input


def inputs(columns: Batch) -> Any:
    """What a model is given: a tensor, a tuple of tensors, or a dict of them."""
    own = {name.removeprefix("inputs."): column for name, column in columns.items() if is_input(name)}
    if list(own) == ["inputs"]:
        return own["inputs"]
    by_number = all(name.isdecimal() for name in own)
    return tuple(own[str(i)] for i in range(len(own))) if by_number else own


def arguments(module: nn.Module, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as arguments of ``forward``: those with names by keyword, but a single one that it calls otherwise."""
    if isinstance(given, tuple):
        return given, {}
    if not isinstance(given, dict):
        return (given,), {}
    if len(given) == 1 and not set(given) <= set(inspect.signature(module.forward).parameters):
        return tuple(given.values()), {}
    return (), given


def form(given: Any) -> str:
    """The form of inputs, in words: what is alike before and after an augmentation."""
    if isinstance(given, Tensor):
        return f"{len(given)} examples" if given.ndim else "a single number"
    if isinstance(given, dict):
        return "a dict of " + ", ".join(f"{name}: {form(value)}" for name, value in given.items())
    if isinstance(given, tuple):
        return "a tuple of " + ", ".join(map(form, given))
    return f"a {type(given).__name__}"
