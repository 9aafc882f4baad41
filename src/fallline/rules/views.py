"""Wrappers that keep a second set of weights: averages to evaluate, slow weights, schedule-free training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from .arithmetic import number
from .base import RATE, UNIT
from .making import count
from .wrapping import around, same

FIRST = Domain("the first step whose weights are in the average, counted from 1", low=1.0)
EVERY = Domain("how often: at each step, at each second, …", low=1.0)
SHARE = Domain(
    "the share of the way from the slow weights to the fast ones", low=0.0, high=1.0, open_low=True
)


def _average_of(p: Tensor, s: Any) -> Tensor:
    average: Tensor = s.average
    return average


@around(state={"average": same}, evaluate=_average_of, decay=UNIT)
def average(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Evaluate a running average of the parameters: w̄ ← decay · w̄ + (1 − decay) · w, training w as before.

    Args:
        rule: the rule that trains.
        decay: the share of the past that is kept at each step, in [0, 1).

    >>> from fallline import rules
    >>> rules.average(rules.sgd(lr=0.1), decay=0.99)
    average(sgd(lr=0.1), decay=0.99)

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992, with weights that
    forget (an exponential moving average, EMA). w̄ starts at the initial parameters.
    """
    return d, {"average": h.decay * s.average + (1 - h.decay) * (p + d)}


@around(state={"average": same, "t": count, "n": count}, evaluate=_average_of, first=FIRST, every=EVERY)
def average_equally(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Evaluate the mean of the weights since a step: w̄ ← w̄ + (w − w̄) / (n + 1), n the number already in w̄.

    The weights after ``first`` steps are the first in the mean, then those after each ``every`` steps more. Before
    that, the weights that are trained are evaluated.

    Args:
        rule: the rule that trains.
        first: the first step whose weights are in the mean, counted from 1; a fraction is rounded up.
        every: how many steps lie between two of them; at least 1, a fraction is rounded up.

    >>> from fallline import rules
    >>> rules.average_equally(rules.sgd(lr=0.1), first=1000, every=100)
    average_equally(sgd(lr=0.1), first=1000, every=100)

    Source: Izmailov et al., Averaging weights leads to wider optima and better generalization (SWA), 2018;
    ``torch.optim.swa_utils.AveragedModel``. Running statistics of batch normalization are not averaged: compute
    them anew for the averaged weights.
    """
    t, after = s.t + 1, p + d
    due = (t >= h.first) & (torch.remainder(t - _up(h.first, t), _up(h.every, t)) == 0)
    mean = torch.where(due, s.average + (after - s.average) / (s.n + 1), s.average)
    return d, {"average": torch.where(t < h.first, after, mean), "t": t, "n": s.n + due}


@around(state={"slow": same, "t": count}, every=EVERY, share=SHARE)
def lookahead(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """k steps forward, one step back: after every k steps of w, φ ← φ + share · (w − φ) and w ← φ.

    Args:
        rule: the rule that takes the fast steps; it keeps its state.
        every: k, after how many steps the slow weights φ follow; at least 1, a fraction is rounded up.
        share: the share of the way that they go, in (0, 1].

    >>> from fallline import rules
    >>> rules.lookahead(rules.adam(lr=0.01), every=5, share=0.5)
    lookahead(adam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08), every=5, share=0.5)

    Source: Zhang, Lucas, Hinton and Ba, Lookahead optimizer: k steps forward, 1 step back, 2019. Here the weights
    to evaluate are the fast ones, which are the slow ones after every k steps.
    """
    t, slow = s.t + 1, s.slow + h.share * (p + d - s.slow)
    due = t >= h.every
    step = torch.where(due, slow - p, d)
    return step, {"slow": torch.where(due, slow, s.slow), "t": torch.where(due, 0.0, t)}


@around(state={"fast": same, "average": same, "total": count}, evaluate=_average_of, lr=RATE, beta=UNIT)
def schedule_free(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Average instead of a schedule: z ← z + d, x ← (1 − c) · x + c · z, y ← (1 − β) · z + β · x, c = γ² / Σ γ².

    The gradient is taken at y, which is what is trained, and x is what to evaluate. All three start together.

    Args:
        rule: the rule whose step d moves z; without momentum, whose place β takes.
        lr: its learning rate γ, the weight of a step in the average x; at least 0.
        beta: how far y lies from z toward x, in [0, 1). At 0 this is the rule, with its average evaluated.

    >>> from fallline import rules
    >>> rules.schedule_free(rules.sgd(lr=0.1), lr=0.1, beta=0.9)
    schedule_free(sgd(lr=0.1), lr=0.1, beta=0.9)

    Source: Defazio et al., The road less scheduled, 2024. The authors' code keeps z alone and finds x again by
    dividing y − (1 − β) · z by β; here x is kept beside it, which costs one more number per parameter, and keeps the
    digits of x in bfloat16 and where β changes. It weighs by the largest γ so far: the same while γ does not fall.
    """
    square = number(h.lr, s.total) ** 2
    total = s.total + square
    share = square / torch.where(total > 0, total, 1.0)
    fast = s.fast + d
    seen = s.average + share * (fast - s.average)
    y = fast + h.beta * (seen - fast)
    return y - p, {"fast": fast, "average": seen, "total": total}


def _up(value: Any, like: Tensor) -> Tensor:
    """A number of steps as a whole number."""
    return number(value, like).ceil()
