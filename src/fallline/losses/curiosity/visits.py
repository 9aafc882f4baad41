"""Curiosity about places that were rarely seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Cells, Curiosity, States, Transition, cells_of, check_whole


def counts(cells: int, *, cell: Cells | None = None) -> Curiosity:
    """How rarely a place was seen: b(s') = 1/√(n(s') + 1), where n(s') counts the earlier visits of its cell.

    Transitions of one call are judged by the same counts. A state holds "visits" [cells].

    Args:
        cells: how many cells there are.
        cell: from observations [n, …] to cells [n], whole numbers from 0 to cells − 1; left out, observations are
            cells.

    >>> world = counts(3)
    >>> seen = Transition(*torch.tensor([[0, 0], [0, 0], [1, 2]]))
    >>> state = world.learn(world.init(), seen)
    >>> world.bonus(state, seen)
    tensor([0.7071, 0.7071])

    Source: Strehl and Littman, "An analysis of model-based interval estimation for Markov decision processes" (2008),
    who count pairs of state and action; Bellemare et al., "Unifying count-based exploration and intrinsic motivation"
    (2016).
    """
    check_whole("counts", cells=cells)

    def judge(state: States, seen: Transition, h: Any) -> Tensor:
        return (state["visits"][cells_of(cell, seen.after)] + 1).rsqrt()

    def renew(state: States, seen: Transition, h: Any) -> States:
        where = cells_of(cell, seen.after)
        one = torch.ones(where.shape, dtype=state["visits"].dtype, device=where.device)
        return {"visits": state["visits"].index_add(0, where, one)}

    return Curiosity("counts", lambda seed: {"visits": torch.zeros(cells)}, judge, renew, {}, {})
