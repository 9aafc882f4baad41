"""Slow, literal twins of the schedules, one Python function of one step each."""

from __future__ import annotations

import math
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
