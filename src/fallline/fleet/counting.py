"""How many numbers a model computes, counted on a few examples: a size that is the same on every machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from .. import rng
from ..tasks.base import PARTS, Task

FEW = 4


class _Counted(TorchDispatchMode):
    """Counts the numbers that operations give, without those of views."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.numbers += sum(t.numel() for t in pytree.tree_leaves(out) if isinstance(t, Tensor))
        return out


def numbers_per_example(task: Task) -> int:
    """How many numbers it takes to judge one example, at least 1."""
    few = next(({k: c[:FEW] for k, c in task.parts[p].items()} for p in PARTS[::-1] if task.size(p)), {})
    count = min(FEW, next((len(column) for column in few.values()), 1))
    first = task.init(0)
    with torch.no_grad(), rng.Noise(*torch.zeros(2, dtype=torch.int64)), _Counted() as counted:
        task.score(*first, few, task.first_numbers())
    return max(1, counted.numbers // count)
