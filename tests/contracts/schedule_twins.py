"""Slow, literal twins of the schedules, one Python function of one step each."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from fallline.specs import Schedule


def follow(schedule: Schedule, step: int) -> float:
    """The value of a schedule at a step by the twin of its kind; one without a twin is a KeyError."""
    return float(globals()[f"_{schedule.kind}"](step, schedule.children, **schedule.numbers))


def _constant(step: int, _: Any, value: float) -> float:
    return value


def _inverse_time(step: int, _: Any, rate: float, offset: float) -> float:
    t = offset
    for _step in range(step):
        t += 1
    return rate / t


def _step(step: int, _: Any, start: float, factor: float, every: float) -> float:
    value = start
    for k in range(1, step + 1):
        if k % every == 0:
            value *= factor
    return value


def _multi_step(step: int, _: Any, start: float, factor: float, **milestones: float) -> float:
    value = start
    for k in range(step + 1):
        for milestone in milestones.values():
            if k - 1 < milestone <= k:
                value *= factor
    return value


def _inverse_sqrt(step: int, _: Any, rate: float, offset: float) -> float:
    return rate * float((step + offset) ** -0.5)


def _exponential(step: int, _: Any, start: float, factor: float, every: float) -> float:
    return start * float(factor ** (step / every))


def _polynomial(step: int, _: Any, start: float, steps: float, end: float, power: float) -> float:
    if step >= steps:
        return end
    return end + (start - end) * float(((steps - step) / steps) ** power)


def _cosine_restarts(step: int, _: Any, start: float, steps: float, end: float, growth: float) -> float:
    left, length = Fraction(step), Fraction(steps)  # exact: where a cycle begins must not hang on rounding
    while left >= length:
        left, length = left - length, length * Fraction(growth)
    return _fall(float(left / length), start, end)


def _one_cycle(
    step: int, _: Any, peak: float, steps: float, share: float, start_divisor: float, end_divisor: float
) -> float:
    top, first, last = share * steps, peak / start_divisor, peak / end_divisor
    if step <= top:
        return _fall(step / top, first, peak)
    return _fall(min((step - top) / (steps - top), 1.0), peak, last)


def _fall(share: float, start: float, end: float) -> float:
    """From start to end along half a cosine, in another form: cos² of half the angle."""
    return end + (start - end) * math.cos(math.pi * share / 2) ** 2


def _warm_up_stable_decay(
    step: int, _: Any, peak: float, warm: float, stable: float, decay: float, end: float, power: float
) -> float:
    if step < warm:
        return peak * step / warm
    if step < warm + stable:
        return peak
    if step >= warm + stable + decay:
        return end
    return peak - (peak - end) * float(((step - warm - stable) / decay) ** power)


def _cosine(step: int, _: Any, start: float, steps: float, end: float) -> float:
    if step >= steps:
        return end
    return end + (start - end) * (1 + math.cos(math.pi * step / steps)) / 2


def _warm_up(step: int, _: Any, steps: float, to: float, from_: float) -> float:
    return to if step >= steps else from_ + (to - from_) * step / steps


def _joined(step: int, children: tuple[Schedule, ...], **lengths: float) -> float:
    for child, length in zip(children, lengths.values(), strict=False):
        if step < length:
            return follow(child, step)
        step -= int(length)
    return follow(children[-1], step)


def _scaled(step: int, children: tuple[Schedule, ...], factor: float) -> float:
    return factor * follow(children[0], step)
