"""Arithmetic on trees: dicts of tensors by parameter name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .types import Tree


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
    parts = torch.stack([torch.linalg.vector_norm(_flat(t).double(), order) for t in tree.values()])
    return torch.linalg.vector_norm(parts, order)


def _flat(t: Tensor) -> Tensor:
    """All entries in their order; those that are shared out to several processes as they are."""
    return t.reshape(-1) if type(t) in (Tensor, torch.nn.Parameter) else t


def total(tree: Tree) -> Tensor:
    """The sum of all entries: 0-d, not finite as soon as one entry is not.

    >>> total({"a": torch.tensor([3.0]), "b": torch.tensor([4.0, 5.0])})
    tensor(12.)
    """
    if not tree:
        return torch.zeros(())
    return torch.stack([t.sum() for t in tree.values()]).sum()
