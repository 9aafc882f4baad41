"""Curiosity about what can be learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import BadValue
from ...specs import Domain
from .base import Cells, Curiosity, States, Transition, cells_of, check_whole

MEMORY = Domain("the share of the newest error in a running mean", low=0.0, high=1.0, open_low=True)


def learning_progress(
    of: Curiosity, regions: int = 1, *, region: Cells | None = None, fast: float = 0.1, slow: float = 0.02
) -> Curiosity:
    """How fast an error falls: b(s') = m_slow(r) − m_fast(r), the difference of two running means in the region r of s'.

    The errors are the bonuses of another curiosity, such as ``icm`` or ``rnd``. At each call the mean error e
    in a region that was visited enters both: m ← (1 − a) m + a e, divided by 1 − (1 − a)^t after t of them, so
    that the weights of the past sum to 1. On errors that only fluctuate the bonus is 0 on average, above 0 where they
    fall, and below where they rise (forgetting).

    Args:
        of: the curiosity whose bonuses are the errors.
        regions: how many regions errors are compared in.
        region: from observations [n, …] to regions [n], whole numbers from 0 to regions − 1; left out, all are in one.
        fast: the share a of the newest error in the fast mean, in (0, 1].
        slow: the same in the slow mean, below fast.

    >>> from fallline.losses.curiosity import rnd
    >>> world = learning_progress(rnd(2))
    >>> seen = Transition(torch.ones(1, 2), torch.zeros(1), torch.ones(1, 2))
    >>> state = world.init(seed=0)
    >>> for _ in range(10):
    ...     state = world.learn(state, seen)
    >>> bool(world.bonus(state, seen) > 0)
    True

    Source: Schmidhuber, "A possibility for implementing curiosity and boredom in model-building neural controllers"
    (1991); Oudeyer, Kaplan and Hafner, "Intrinsic motivation systems for autonomous mental development" (2007), who
    compare two windows where these are running means.
    """
    check_whole("learning_progress", regions=regions)
    own = {"fast": fast, "slow": slow}
    if not slow < fast:
        raise BadValue(
            f"learning_progress(fast={fast:g}, slow={slow:g}): the slow mean must remember longer, slow < fast"
        )

    def where(seen: Transition) -> Tensor:
        if region is None:
            return torch.zeros(seen.after.shape[0], dtype=torch.int64, device=seen.after.device)
        return cells_of(region, seen.after)

    def start(seed: int) -> States:
        inner = {f"of.{name}": t for name, t in of.init(seed).items()}
        return {**inner, **{name: torch.zeros(regions) for name in (*own, "times")}}

    def judge(state: States, seen: Transition, h: Any) -> Tensor:
        times = state["times"].clamp(min=1)
        means = [state[name] / (1 - (1 - getattr(h, name)) ** times) for name in ("slow", "fast")]
        return (means[0] - means[1]).to(state["times"].dtype)[where(seen)]

    def renew(state: States, seen: Transition, h: Any) -> States:
        inner = {name.removeprefix("of."): t for name, t in state.items() if name.startswith("of.")}
        numbers = {name: getattr(h, name) for name in of.numbers}
        error, at, times = of.bonus(inner, seen, numbers), where(seen), state["times"]
        visits = torch.zeros_like(times).index_add(0, at, torch.ones_like(error))
        mean = torch.zeros_like(times).index_add(0, at, error) / visits.clamp(min=1)
        moved = {name: state[name] + getattr(h, name) * (mean - state[name]) for name in own}
        moved = {name: torch.where(visits > 0, t.to(times.dtype), state[name]) for name, t in moved.items()}
        after = {f"of.{name}": t for name, t in of.learn(inner, seen, numbers).items()}
        return {**after, **moved, "times": times + (visits > 0)}

    numbers, domains = {**of.numbers, **own}, {**of.domains, **dict.fromkeys(own, MEMORY)}
    return Curiosity("learning_progress", start, judge, renew, numbers, domains, of.width)
