"""Runs of different widths in one program: each is padded with zeros to the width of its bucket, and masked.

Where zeros change nothing (the units of a linear layer or a convolution, the rank of an adapter), a run of width 17
inside a program of width 64 is the run of width 17: padded entries begin at zero, their gradient and their step are
masked, and the numbers that are not padded never see them. Where they do change something (the mean of a
LayerNorm, dropout's noise, packed heads of attention), a trial tells, and each width has a program of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

from .. import rng
from ..tasks.base import PARTS, Batch, Task, Variables
from ..tree import norm
from ..types import Tree

MODEL = "model."
"""How the numbers of a model begin among the numbers of a task."""
BUCKETS = (4, 16, 64, 128, 256)
FEW = 4


def bucket(width: int) -> int:
    """The width of the program for a run: the next of 4, 16, 64, 128, 256, then powers of two.

    >>> [bucket(n) for n in (2, 17, 64, 300)]
    [4, 64, 64, 512]
    """
    return next((b for b in BUCKETS if b >= width), 1 << (width - 1).bit_length())


def padded(tree: Tree, shapes: Mapping[str, torch.Size]) -> Tree:
    """Tensors in the corner of larger ones, with zeros around them."""
    return {name: _in_corner(t, shapes[name]) for name, t in tree.items()}


def masks(tree: Tree, shapes: Mapping[str, torch.Size]) -> Tree:
    """Where the entries of smaller tensors stand in larger ones, of those that are padded."""
    ones = {name: torch.ones_like(t, dtype=torch.bool) for name, t in tree.items()}
    return {name: _in_corner(t, shapes[name]) for name, t in ones.items()}


def cut(array: Any, shape: tuple[int, ...]) -> Any:
    """The corner of an array that is not padding."""
    return array[(..., *(slice(n) for n in shape))]


def _in_corner(t: Tensor, shape: torch.Size) -> Tensor:
    if t.shape == shape:
        return t
    whole = t.new_zeros(shape)
    whole[tuple(slice(n) for n in t.shape)] = t
    return whole


def wide(task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the program in which a run with these options trains: of widths their bucket, where that is exact.

    >>> from fallline import layers, losses
    >>> def model(width=32):
    ...     return layers.mlp(3, width, 2)
    >>> task = Task.supervised(model, (torch.randn(50, 3), torch.arange(50) % 2), loss=losses.cross_entropy)
    >>> wide(task, {"width": 17})
    {'width': 64}
    """
    found = dict(options)
    for name, value in options.items():
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if whole and not isinstance(task.options[name], bool) and _exact(task, found, name):
            found[name] = bucket(value)
    return found


def _exact(task: Task, options: Mapping[str, Any], name: str) -> bool:
    """Whether padding one option to its bucket leaves the loss and its gradient as they are."""
    narrow = task.variant(options)
    try:
        large = task.variant({**options, name: bucket(options[name])})
    except Exception:  # an option that is no width need not take the bucket's value
        return False
    first, room = narrow.init(0), large.init(0)
    if not (_fits(first.params, room.params) and _fits(first.buffers, room.buffers)):
        return False
    if all(first.params[k].shape == p.shape for k, p in room.params.items()):
        return bool(options[name] == bucket(options[name]))
    first = Variables(_moved(first.params), first.buffers)
    alike = Variables(padded(first.params, shapes(room.params)), padded(first.buffers, shapes(room.buffers)))
    for part in PARTS:
        few = {k: column[:FEW] for k, column in task.parts.get(part, {}).items()}
        (ours, value), (theirs, other) = _slope(narrow, first, few), _slope(large, alike, few)
        apart = {k: t - cut(theirs[k], tuple(t.shape)) for k, t in ours.items()}
        tolerance = 1e3 * torch.finfo(value.dtype).eps
        if not bool(
            (norm(apart) <= tolerance * norm(ours)) & ((value - other).abs() <= tolerance * value.abs())
        ):
            return False
    return True


def _moved(params: Tree) -> Tree:
    """Parameters away from where models begin: a gate or a head that begins at zero hides what stands before it."""
    keys = rng.fold(torch.tensor(0), torch.arange(len(params)))
    drawn = zip(params.items(), keys, strict=True)
    return {name: p + 0.1 * rng.normal(key, tuple(p.shape), p.dtype) for (name, p), key in drawn}


def shapes(tree: Tree) -> dict[str, torch.Size]:
    """The shapes of a tree's tensors."""
    return {name: t.shape for name, t in tree.items()}


def _fits(small: Tree, large: Tree) -> bool:
    """Whether two trees have the same names, and each tensor fits into its namesake."""
    return set(small) == set(large) and all(
        t.ndim == large[name].ndim and all(a <= b for a, b in zip(t.shape, large[name].shape, strict=True))
        for name, t in small.items()
    )


def _slope(task: Task, at: Variables, few: Batch) -> tuple[Tree, Tensor]:
    """The gradient and the loss at some variables, with all that a run may drop out dropping out."""
    numbers = task.first_numbers() | {name: 0.5 for name in task.numbers if name.startswith(MODEL)}

    def loss(params: Tree) -> Tensor:
        with rng.Noise(*torch.zeros(2, dtype=torch.int64)):
            return task.loss(params, at.buffers, few, numbers)[0]

    slope: Callable[[Tree], tuple[Tree, Tensor]] = grad_and_value(loss)
    return slope(at.params)
