"""Schedules made of cosines."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..specs import Domain
from .base import STEPS, VALUE, Given, between, doubled, schedule

GROWTH = Domain("how much longer each cycle is than the one before", low=1.0)
SHARE = Domain("the share of the way that goes up", low=0.0, high=1.0, open_low=True, open_high=True)
DIVISOR = Domain("what the value is divided by", low=0.0, open_low=True)


@schedule(start=VALUE, steps=STEPS, end=VALUE)
def cosine(step: Tensor, start: Given, steps: Given, end: Given = 0.0) -> Tensor:
    """Half a period of a cosine, then its end: v(step) = end + (start − end) · (1 + cos(π · step / steps)) / 2.

    Args:
        start: the value at step 0.
        steps: how many steps it takes to come down; at least 1. From there on the value is ``end``.
        end: the last value.

    >>> [cosine(0.2, 100).at(k) for k in (0, 50, 100, 1000)]
    [0.2, 0.1, 0.0, 0.0]

    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, 2017, without the
    restarts. ``torch.optim.lr_scheduler.CosineAnnealingLR`` rises again after its end.
    """
    return between(end, start, _wave((step / steps).clamp(max=1)))


@schedule(start=VALUE, steps=STEPS, end=VALUE, growth=GROWTH)
def cosine_restarts(
    step: Tensor, start: Given, steps: Given, end: Given = 0.0, growth: Given = 1.0
) -> Tensor:
    """Half a period of a cosine, again and again: v = end + (start − end) · (1 + cos(π · s / n)) / 2.

    Cycle i lasts n = steps · growthⁱ steps, and s is the step within it, from 0. Each cycle starts at ``start``, and
    comes near ``end`` at its last step without reaching it.

    Args:
        start: the value at the first step of each cycle.
        steps: how many steps the first cycle lasts; at least 1.
        end: what each cycle comes down to.
        growth: how much longer each cycle is than the one before; at least 1.

    >>> [round(cosine_restarts(0.2, 10, growth=2.0).at(k), 3) for k in (0, 5, 9, 10, 20, 30)]
    [0.2, 0.1, 0.005, 0.2, 0.1, 0.2]

    Source: Loshchilov and Hutter 2017; ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts``, which it equals.
    torch's takes whole numbers only.
    """
    share = step / steps
    grown = torch.log1p(share * (growth - 1)) / torch.log(torch.where(growth > 1, growth, 2))
    near = torch.floor(torch.where(growth > 1, grown, share))
    # rounding may put it one cycle off, so its neighbors are tried: the last one that has begun is the one
    begun, length = torch.zeros_like(step), torch.ones_like(step) * steps
    for cycle in (near - 1, near, near + 1):
        total, last = doubled(growth, cycle.clamp(min=0))
        here = total * steps <= step
        begun, length = torch.where(here, total * steps, begun), torch.where(here, last * steps, length)
    return between(end, start, _wave((step - begun) / length))


@schedule(peak=VALUE, steps=STEPS, share=SHARE, start_divisor=DIVISOR, end_divisor=DIVISOR)
def one_cycle(
    step: Tensor,
    peak: Given,
    steps: Given,
    share: Given = 0.3,
    start_divisor: Given = 25.0,
    end_divisor: Given = 250_000.0,
) -> Tensor:
    """Up to a peak and down to almost nothing, each by half a period of a cosine: v(share · steps) = peak.

        v(0) = peak / start_divisor  ↗  v(share · steps) = peak  ↘  v(steps) = peak / end_divisor, and so on

    Args:
        peak: the largest value.
        steps: how many steps it takes; at least 1. From there on the value is the last one.
        share: the share of the steps that go up, in (0, 1).
        start_divisor: the peak is so many times the first value; above 0.
        end_divisor: the peak is so many times the last value; above 0.

    >>> [round(one_cycle(0.1, 100).at(k), 7) for k in (0, 30, 100, 101)]
    [0.004, 0.1, 4e-07, 4e-07]

    Source: Smith and Topin, Super-convergence, 2019, with cosines for its lines (those are ``joined`` ``warm_up``).
    ``torch.optim.lr_scheduler.OneCycleLR`` names its last step ``total_steps - 1``, puts its peak at
    ``pct_start * total_steps - 1``, its ``div_factor * final_div_factor`` is our ``end_divisor``, and it raises
    after its end; with these numbers they are equal.
    """
    top = share * steps
    rising = between(peak / start_divisor, peak, 1 - _wave((step / top).clamp(max=1)))
    falling = between(peak / end_divisor, peak, _wave(((step - top) / (steps - top)).clamp(min=0, max=1)))
    return torch.where(step < top, rising, falling)


def _wave(share: Tensor) -> Tensor:
    """From 1 down to 0, while the share goes from 0 to 1."""
    return (1 + torch.cos(math.pi * share)) / 2
