"""The variables of a block: stacked when runs start, and to and from the plain arrays of a snapshot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .. import rules
from ..specs import Rule
from ..tasks.base import Task, Variables
from ..types import State, Tree
from .advance import Carry
from .counting import numbers_per_example
from .members import Member
from .snapshot import PARAMS, Array
from .widths import masks, padded, shapes

BUFFERS, STATE, TREE = "buffers/", "state/", "tree/"


class Room:
    """The shapes of a program's variables, into which those of a run are put.

    Args:
        task: the variant of the task whose program it is.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        first = task.init(0)
        self.params, self.buffers = shapes(first.params), shapes(first.buffers)
        self.per_example = numbers_per_example(task)
        self.numbers = sum(map(math.prod, self.params.values()))

    def start(self, member: Member) -> Variables:
        """A run's variables before its first step, with zeros around them where the program is wider."""
        first = member.task.init(member.run.seed)
        if member.task is self.task:
            return first
        return Variables(padded(first.params, self.params), padded(first.buffers, self.buffers))

    def masks(self, members: Sequence[Member]) -> Tree:
        """Where each run's parameters are, [runs, …], for those parameters that are padded in some run."""
        found: dict[Task, Tree] = {}
        for member in members:
            if member.task not in found:
                found[member.task] = masks(member.task.init(0).params, self.params)
        some = {name for mask in found.values() for name, m in mask.items() if not bool(m.all())}
        rows = [found[member.task] for member in members]
        return {name: torch.stack([row[name] for row in rows]) for name in self.params if name in some}


def started(room: Room, members: Sequence[Member], h: Mapping[str, Tensor]) -> Carry:
    """The variables of all runs, stacked; runs that begin alike are made once.

    Args:
        room: the shapes of the program.
        members: the runs.
        h: the numbers of their rules at the first step, [runs].
    """
    first: dict[tuple[Task, int], int] = {}
    whole: list[Tensor] = []
    shape: Any = None
    for i, member in enumerate(members):
        same = first.setdefault((member.task, member.run.seed), i)
        if same < i:
            params, buffers = _row((whole, shape), same)
        else:
            params, buffers = room.start(member)
        state = rules.init(member.run.rule, params, {k: v[i] for k, v in h.items()})
        own, shape = pytree.tree_flatten((params, buffers, state))
        whole = whole or [t.new_empty((len(members), *t.shape)) for t in own]
        for tensor, row in zip(whole, own, strict=True):
            tensor[i] = row
    params, buffers, state = pytree.tree_unflatten(whole, shape)
    return Carry(params, buffers, state, torch.ones(len(members), dtype=torch.bool))


def _row(stacked: tuple[list[Tensor], Any], i: int) -> tuple[Tree, Tree]:
    """The parameters and buffers of a run that is in its place already."""
    params, buffers, _ = pytree.tree_unflatten([t[i] for t in stacked[0]], stacked[1])
    return params, buffers


def arrays(carry: Carry, count: int) -> dict[str, Array]:
    """The first ``count`` rows of a block's variables, as arrays of their own."""
    named = {PARAMS + k: t for k, t in carry.params.items()}
    named |= {BUFFERS + k: t for k, t in carry.buffers.items()}
    named |= {f"{STATE}{k}/{s}": t for k, own in carry.state.params.items() for s, t in own.items()}
    named |= {TREE + s: t for s, t in carry.state.tree.items()}
    return {name: t[:count].cpu().numpy().copy() for name, t in named.items()}


def restored(room: Room, rule: Rule, h: Mapping[str, Tensor], held: Mapping[str, Array]) -> Carry:
    """The variables of a block, from the arrays of a snapshot.

    Names come in the order in which a block has them, whatever the order of the arrays: sums over a tree follow it.
    """
    first = room.task.init(0)
    state = rules.init(rule, first.params, {k: v[0] for k, v in h.items()})

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(np.array(held[name]))

    return Carry(
        {k: tensor(PARAMS + k) for k in first.params},
        {k: tensor(BUFFERS + k) for k in first.buffers},
        State(
            {k: {s: tensor(f"{STATE}{k}/{s}") for s in own} for k, own in state.params.items()},
            {s: tensor(TREE + s) for s in state.tree},
        ),
        torch.from_numpy(held["died"] < 0),
    )
