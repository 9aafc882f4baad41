"""Schedules that begin with a straight line up."""

from __future__ import annotations

import torch
from torch import Tensor

from ..specs import Domain
from .base import STEPS, VALUE, Given, between, root_power, schedule

PHASE = Domain("how many steps a phase lasts", low=0.0)
POWER = Domain("the power by which the decay begins", low=0.0, open_low=True)


@schedule(steps=STEPS, to=VALUE, from_=VALUE)
def warm_up(step: Tensor, steps: Given, to: Given, from_: Given = 0.0) -> Tensor:
    """A straight line, then its end: v(step) = from_ + (to − from_) · min(step / steps, 1).

    Args:
        steps: how many steps it takes; at least 1. From there on the value is ``to``.
        to: the last value.
        from_: the value at step 0. With 0 for a learning rate, the first step does not move.

    >>> [warm_up(10, to=0.5).at(k) for k in (0, 5, 10, 20)]
    [0.0, 0.25, 0.5, 0.5]

    Source: Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, 2017;
    ``torch.optim.lr_scheduler.LinearLR``, which it equals.
    """
    return between(from_, to, (step / steps).clamp(max=1))


@schedule(peak=VALUE, warm=PHASE, stable=PHASE, decay=PHASE, end=VALUE, power=POWER)
def warm_up_stable_decay(
    step: Tensor,
    peak: Given,
    warm: Given,
    stable: Given,
    decay: Given,
    end: Given = 0.0,
    power: Given = 1.0,
) -> Tensor:
    """Up by a straight line, along, and down: v = peak · step / warm, then peak, then its fall to ``end``.

        v(step) = end + (peak − end) · (1 − s^power),  s = (step − warm − stable) / decay, from 0 to 1

    Args:
        peak: the value of the middle phase.
        warm: how many steps go up, from 0; at least 0.
        stable: how many steps stay at the peak; at least 0.
        decay: how many steps go down; at least 0. From there on the value is ``end``.
        end: the last value.
        power: 1 is a straight line down; 0.5 is one minus a square root, which falls fast at first; above 0.

    >>> [warm_up_stable_decay(0.5, 10, 80, 10).at(k) for k in (0, 5, 10, 89, 95, 100)]
    [0.0, 0.25, 0.5, 0.5, 0.25, 0.0]

    Source: Hu et al., MiniCPM, 2024; Hägele et al., Scaling laws and compute-optimal training beyond fixed training
    durations, 2024, for the square root.
    """
    late = step - warm - stable
    done = torch.where(late < decay, late.clamp(min=0) / decay, 1)
    down = between(peak, end, root_power(done, power))
    return torch.where(step < warm, peak * (step / warm), torch.where(late < 0, peak, down))
