"""Schedules that fall smoothly: as powers of the step, as an exponential, as a polynomial."""

from __future__ import annotations

import torch
from torch import Tensor

from ..specs import Domain
from .base import OFFSET, STEPS, VALUE, Given, between, power, root_power, schedule

RATIO = Domain("what the value is multiplied by again and again", low=0.0, open_low=True)
SPAN = Domain("after how many steps it is multiplied once, a number of steps", low=0.0, open_low=True)
POWER = Domain("the power of what is left", low=0.0, open_low=True)


@schedule(rate=VALUE, offset=OFFSET)
def inverse_time(step: Tensor, rate: Given, offset: Given = 1.0) -> Tensor:
    """A rate that falls as 1/t: v(step) = rate / (step + offset), so that t is counted from 1.

    Args:
        rate: the value at t = 1, which is step 0 unless ``offset`` is changed.
        offset: what the first step is counted as, in steps; above 0. A larger one falls later.

    >>> inverse_time(0.1).at(0), inverse_time(0.1).at(9)
    (0.1, 0.01)

    Source: Robbins and Monro, A stochastic approximation method, 1951; the slide's μ/t. The form μ / (1 + k · step)
    is ``inverse_time(μ / k, offset=1 / k)``.
    """
    return torch.div(rate, step + offset)


@schedule(rate=VALUE, offset=OFFSET)
def inverse_sqrt(step: Tensor, rate: Given, offset: Given = 1.0) -> Tensor:
    """A rate that falls as 1/√t: v(step) = rate / √(step + offset), so that t is counted from 1.

    Args:
        rate: the value at t = 1, which is step 0 unless ``offset`` is changed.
        offset: what the first step is counted as, in steps; above 0. A larger one falls later.

    >>> inverse_sqrt(0.1).at(0), inverse_sqrt(0.1).at(99)
    (0.1, 0.01)

    Source: Zinkevich, Online convex programming and generalized infinitesimal gradient ascent, 2003. After
    ``warm_up`` it is the schedule of Vaswani et al., Attention is all you need, 2017.
    """
    return torch.div(rate, torch.sqrt(step + offset))


@schedule(start=VALUE, factor=RATIO, every=SPAN)
def exponential(step: Tensor, start: Given, factor: Given, every: Given = 1.0) -> Tensor:
    """A smooth fall by the same share in each step: v(step) = start · factor^(step / every).

    Args:
        start: the value at step 0.
        factor: what the value is multiplied by in ``every`` steps; above 0.
        every: after how many steps it is multiplied once; above 0.

    >>> [exponential(0.1, factor=0.5, every=10).at(k) for k in (0, 10, 20)]
    [0.1, 0.05, 0.025]

    Source: ``torch.optim.lr_scheduler.ExponentialLR``, which it equals with ``every=1``; ``step`` is its staircase.
    """
    times = step / every
    whole = torch.floor(times)
    return torch.mul(power(factor, whole) * torch.exp((times - whole) * torch.log(factor)), start)


@schedule(start=VALUE, steps=STEPS, end=VALUE, power=POWER)
def polynomial(step: Tensor, start: Given, steps: Given, end: Given = 0.0, power: Given = 1.0) -> Tensor:
    """A power of what is left, then its end: v(step) = end + (start − end) · (1 − min(step / steps, 1))^power.

    Args:
        start: the value at step 0.
        steps: how many steps it takes to come down; at least 1. From there on the value is ``end``.
        end: the last value.
        power: above 0; 1 is a straight line, a larger one falls sooner.

    >>> [polynomial(0.4, 10, power=2.0).at(k) for k in (0, 5, 10, 11)]
    [0.4, 0.1, 0.0, 0.0]

    Source: ``torch.optim.lr_scheduler.PolynomialLR``, which it equals where ``end`` is 0; torch has no other end.
    """
    left = torch.clamp(1 - step / steps, min=0)
    return between(end, start, root_power(left, power))
