"""Schedules that stay, and drop at once: constant, and staircases."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import specs
from ..errors import BadValue
from ..specs import Number, Schedule
from .base import DROP, LENGTH, STEPS, VALUE, Behavior, Draw, Given, checked, numbers_of, power, schedule


@schedule(value=VALUE)
def constant(step: Tensor, value: Given) -> Tensor:
    """The same value at each step: v(step) = value.

    Args:
        value: the value.

    >>> constant(0.1).at(1000)
    0.1

    Source: the slide's first form of rate tuning, μ for all t. ``torch.optim.lr_scheduler.ConstantLR`` is two of
    them: ``joined(constant(factor * lr), constant(lr), lengths=(total_iters,))``.
    """
    return torch.add(torch.zeros_like(step), value)


@schedule(start=VALUE, factor=DROP, every=STEPS)
def step(step: Tensor, start: Given, factor: Given, every: Given) -> Tensor:
    """A staircase: v(step) = start · factor^⌊step / every⌋.

    Args:
        start: the value before the first drop.
        factor: what each drop multiplies the value by; at least 0.
        every: steps between drops; at least 1.

    >>> [step(0.1, factor=0.5, every=30).at(k) for k in (29, 30, 60)]
    [0.1, 0.05, 0.025]

    Source: ``torch.optim.lr_scheduler.StepLR``, which it equals.
    """
    return torch.mul(power(factor, torch.floor(step / every)), start)


def multi_step(start: Number, factor: Number, milestones: tuple[Number, ...] | list[Number]) -> Schedule:
    """A staircase with its own place for each drop: v(step) = start · factor^(the number of milestones ≤ step).

    Args:
        start: the value before the first drop.
        factor: what each drop multiplies the value by; at least 0.
        milestones: the steps at which it drops, at least 0 and in any order; one that is named twice counts twice.

    >>> [multi_step(0.1, factor=0.5, milestones=(30, 80)).at(k) for k in (29, 30, 80)]
    [0.1, 0.05, 0.025]

    Source: ``torch.optim.lr_scheduler.MultiStepLR``, which it equals; He et al., Deep residual learning, 2016.
    """
    if not isinstance(milestones, (tuple, list)) or not milestones:
        raise BadValue(
            f"milestones are the steps at which multi_step drops, as in (30, 60, 80), got {milestones!r}"
        )
    numbers = {"start": start, "factor": factor, **{f"milestone{i}": m for i, m in enumerate(milestones)}}
    domains = {**dict.fromkeys(numbers, LENGTH), "start": VALUE, "factor": DROP}
    return Schedule("multi_step", checked("multi_step", domains, numbers))


def _multi_step_at(one: Schedule, step: Tensor) -> Tensor:
    numbers = numbers_of(one)
    start, factor = numbers.pop("start"), numbers.pop("factor")
    drops = torch.zeros_like(step)
    for milestone in numbers.values():
        drops = drops + (step >= milestone)
    return power(factor, drops) * start


def _multi_step_sample(draw: Draw) -> Schedule:
    return multi_step(draw(VALUE), draw(DROP), (draw(STEPS), draw(LENGTH)))


specs.register(Schedule, "multi_step", Behavior(_multi_step_at, multi_step, _multi_step_sample))
