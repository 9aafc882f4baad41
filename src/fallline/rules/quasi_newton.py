"""Steps by what the last steps did to the gradient (L-BFGS), and how far to go along a direction (line search)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from ..tree import map_tree
from ..types import Info, Numbers, Tree
from .asking import asking
from .base import Oracle
from .curvature import inner
from .making import one

Held = dict[str, dict[str, Tensor]]
FIRST = Domain("the length that a line search tries first, in units of the direction", low=0.0)
SUFFICIENT = 1e-4
"""The share of the fall that the slope promises, which a step must keep."""
CURVED = Domain("the share of the slope that may be left at the end of a line search", low=0.0, high=1.0)
LEAST = 1e-10
"""Pairs of less curvature yᵀs are not remembered, as in torch."""


def _stack(p: Tensor, history: int) -> Tensor:
    return torch.zeros((history, *p.shape), dtype=p.dtype, device=p.device)


def _history_start(params: Tree, h: Numbers, history: int) -> Held:
    return {
        name: {
            "moves": _stack(p, history), "changes": _stack(p, history), "at": p.clone(), "gradient": torch.zeros_like(p),
            "scale": one(p, h), "t": torch.zeros((), dtype=torch.float64, device=p.device),
        }
        for name, p in params.items()
    }  # fmt: skip


@asking(
    start=_history_start, options={"history": (int, 10)}, discontinuous=True, together=True, as_vector=True
)
def precondition_by_history(
    direction: Tree, held: Held, params: Tree, h: Any, oracle: Oracle | None, *, history: int
) -> tuple[Tree, Held, Info]:
    """The two loops of L-BFGS: H·g, H the inverse Hessian as the last moves s and changes y of the gradient show it.

        q ← g;  newest to oldest:  α = sᵀq / yᵀs,  q ← q − α·y
        r ← (sᵀy / yᵀy)·q;  oldest to newest:  r ← r + (α − yᵀr / yᵀs)·s

    Args:
        history: how many pairs (s, y) are kept, at least 1.

    >>> precondition_by_history(history=5)
    precondition_by_history(history=5)

    Source: Nocedal, Updating quasi-Newton matrices with limited storage, 1980. As in ``torch.optim.LBFGS``, the first
    direction is g · min(1, 1 / Σ|g|), and a pair with yᵀs ≤ 1e-10 is left out. The gradients must be those of one
    function: of a minibatch that changes, y holds more noise than curvature.
    """
    if not direction:
        return {}, {}, {}
    moved = {name: params[name] - held[name]["at"] for name in direction}
    changed = {name: g - held[name]["gradient"] for name, g in direction.items()}
    some = held[next(iter(direction))]
    first, curvature = some["t"] == 0, inner(moved, changed)
    new = ~first & (curvature > LEAST)
    moves = {name: _pushed(held[name]["moves"], moved[name], new) for name in direction}
    changes = {name: _pushed(held[name]["changes"], changed[name], new) for name in direction}
    scale = torch.where(new, curvature / inner(changed, changed), some["scale"])
    total = torch.stack([g.abs().sum() for g in direction.values()]).sum()
    start = torch.where(total > 1, 1 / total, torch.ones_like(total))
    turned = _two_loops(direction, moves, changes, scale, history)
    out = {name: torch.where(first, g * start, turned[name]) for name, g in direction.items()}
    after = {
        name: {
            "moves": moves[name], "changes": changes[name], "at": params[name], "gradient": g, "scale": scale,
            "t": some["t"] + 1,
        }
        for name, g in direction.items()
    }  # fmt: skip
    return out, after, {}


def _pushed(stack: Tensor, newest: Tensor, new: Tensor) -> Tensor:
    """A history with one more entry at its end, where that is to be kept."""
    return torch.where(new, torch.cat([stack[1:], newest[None]]), stack)


def _two_loops(g: Tree, moves: Tree, changes: Tree, scale: Tensor, history: int) -> Tree:
    """H·g; entries of the history that are still zero change nothing."""
    pairs = [({n: moves[n][i] for n in g}, {n: changes[n][i] for n in g}) for i in range(history)]
    inverse = [
        torch.where(ys > 0, 1 / torch.where(ys > 0, ys, 1.0), 0.0) for ys in (inner(y, s) for s, y in pairs)
    ]
    q, shares = g, []
    for (s, y), rho in zip(reversed(pairs), reversed(inverse), strict=True):
        shares.append(rho * inner(s, q))
        q = map_tree(lambda x, b, share=shares[-1]: x - share * b, q, y)
    r = map_tree(lambda x: x * scale, q)
    for (s, y), rho, share in zip(pairs, inverse, reversed(shares), strict=True):
        less = rho * inner(y, r)
        r = map_tree(lambda x, a, times=share - less: x + times * a, r, s)
    return r


# --- how far ----------------------------------------------------------------------------------------------


@asking(
    start=lambda params, h, **options: {},
    needs=("value", "grad_at"),
    together=True,
    as_vector=True,
    gives="step",
    options={"search": (("backtracking", "strong_wolfe"), "strong_wolfe"), "trials": (int, 10)},
    discontinuous=True,
    lr=FIRST,
    curvature=CURVED,
)
def search_line(
    direction: Tree, held: Held, params: Tree, h: Any, oracle: Oracle, *, search: str, trials: int
) -> tuple[Tree, Held, Info]:
    """Go along a direction as far as the loss falls: w ← w − t·d, by a fixed number of trials of t, from lr on.

    backtracking: half as far until f(w − t·d) ≤ f(w) − 1e-4 · t · gᵀd. strong_wolfe: until also |slope| ≤ curvature ·
    gᵀd; between two trials it goes to where the slope would be zero if it were linear, so that a parabola is minimized
    by the second trial. Where no trial falls enough, the step is zero.

    Args:
        lr: the length that is tried first, in units of the direction; at least 0.
        curvature: the share of the slope that may be left, in [0, 1]; backtracking does not look at it.
        search: backtracking or strong_wolfe.
        trials: how many lengths are tried, each at the cost of a gradient (backtracking: of a loss).

    >>> search_line(1.0, 0.9, search="backtracking", trials=5).options["trials"]
    5

    Source: Nocedal and Wright, Numerical optimization, 2006, algorithms 3.1, 3.5 and 3.6, with the interpolation of
    the slope in place of their cubic one, and an end after a fixed number of trials.
    """
    if not direction:
        return {}, {}, {}
    assert oracle.value is not None
    assert oracle.grad_at is not None
    at = oracle.grad_at
    here, _ = at(params)
    slope = -inner(direction, {name: here[name] for name in direction})
    dtype = slope.dtype
    first = torch.as_tensor(h.lr, dtype=dtype, device=slope.device)

    def look(t: Tensor) -> tuple[Tensor, Tensor]:
        there = {name: p - t * direction[name] if name in direction else p for name, p in params.items()}
        gradient, value = at({name: p.to(params[name].dtype) for name, p in there.items()})
        return value.to(dtype), -inner(direction, {name: gradient[name] for name in direction})

    value = oracle.value.to(dtype)
    if search == "backtracking":
        t = _backtracked(look, value, slope, first, trials)
    else:
        t = _strong_wolfe(look, value, slope, first, trials, h.curvature)
    return {name: -(t * d) for name, d in direction.items()}, {}, {"length": t}


def _backtracked(look: Any, value: Tensor, slope: Tensor, t: Tensor, trials: int) -> Tensor:
    found, enough = torch.zeros_like(t), torch.zeros_like(t, dtype=torch.bool)
    for _ in range(trials):
        falls = look(t)[0] <= value + SUFFICIENT * t * slope
        found = torch.where(falls & ~enough, t, found)
        enough = enough | falls
        t = torch.where(enough, t, t / 2)  # which asks again for what is known
    return found


def _strong_wolfe(look: Any, value: Tensor, slope: Tensor, t: Tensor, trials: int, curvature: Any) -> Tensor:
    """The first length that meets both conditions, or else the one of those that fall enough where it is flattest.

    A minimum lies between ``low``, where the loss has fallen enough and still falls, and ``high``, where it does not.
    """
    low, low_slope, high = torch.zeros_like(t), slope, torch.full_like(t, torch.inf)
    found, flattest, done = torch.zeros_like(t), high, torch.zeros_like(t, dtype=torch.bool)
    for _ in range(trials):
        there, its_slope = look(t)
        falls = there <= value + SUFFICIENT * t * slope
        met = falls & (its_slope.abs() <= -curvature * slope)
        better = falls & ~done & (its_slope.abs() < flattest)
        found, flattest = torch.where(better, t, found), torch.where(better, its_slope.abs(), flattest)
        done = done | met
        goes_on = falls & (its_slope < 0)
        zero = t - its_slope * (t - low) / (its_slope - low_slope)
        low, low_slope = torch.where(goes_on, t, low), torch.where(goes_on, its_slope, low_slope)
        high = torch.where(goes_on, high, t)
        width = torch.where(torch.isfinite(high), high - low, 9 * low)
        inside = torch.isfinite(zero) & (zero > low) & (zero < low + width)
        t = torch.where(done, t, torch.where(inside, zero, low + width / 2))
    return found
