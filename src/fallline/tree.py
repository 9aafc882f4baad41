"""Arithmetic on trees: dicts of tensors by parameter name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .types import Tree

AT_ONCE = 1 << 20
"""Entries of which there is a copy in float64 at once."""


def map_tree(f: Callable[..., Tensor], *trees: Tree) -> Tree:
    """Apply ``f`` name by name; all trees have the names of the first."""
    return {name: f(*(tree[name] for tree in trees)) for name in trees[0]}


def norm(tree: Tree, order: float = 2.0) -> Tensor:
    """The vector norm of all entries together, as if they were one long vector: 0-d, in float64.

    Squares of float32 entries neither overflow nor vanish in float64. Entries are taken in their order, however they
    lie in memory, so that the last digit does not hang on what else a program does with them.

    >>> norm({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])})
    tensor(5., dtype=torch.float64)
    """
    if not tree:
        return torch.zeros((), dtype=torch.float64)
    pieces = [piece for t in tree.values() for piece in _pieces(t)]
    parts = torch.stack([torch.linalg.vector_norm(piece.double(), order) for piece in pieces])
    return torch.linalg.vector_norm(parts, order)


def _pieces(t: Tensor) -> Sequence[Tensor]:
    """All entries in their order, some at a time; those that are shared out to several processes as they are."""
    if type(t) not in (Tensor, torch.nn.Parameter):
        return (t,)
    flat = t.reshape(-1)
    if t.numel() <= AT_ONCE:
        return (flat,)
    return [flat[i : i + AT_ONCE] for i in range(0, t.numel(), AT_ONCE)]


def total(tree: Tree) -> Tensor:
    """The sum of all entries: 0-d, not finite as soon as one entry is not.

    >>> total({"a": torch.tensor([3.0]), "b": torch.tensor([4.0, 5.0])})
    tensor(12.)
    """
    if not tree:
        return torch.zeros(())
    return torch.stack([t.sum() for t in tree.values()]).sum()
