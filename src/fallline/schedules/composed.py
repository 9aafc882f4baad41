"""Schedules made of schedules: one after another, and one times a number."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import specs
from ..errors import BadValue
from ..specs import Domain, Number, Schedule
from .base import LENGTH, STEPS, VALUE, Behavior, Draw, checked, numbers_of
from .falling import inverse_time
from .ramps import warm_up
from .stairs import constant

FACTOR = Domain("what the values are multiplied by", low=-math.inf)


def joined(*schedules: Schedule, lengths: tuple[Number, ...] | list[Number]) -> Schedule:
    """One schedule after another: v(step) = vᵢ(step − bᵢ) from step bᵢ = lengths₀ + … + lengthsᵢ₋₁ on.

    Each child sees its own steps, from 0. Joining what is joined changes nothing, and no step is taken unseen.

    Args:
        *schedules: at least one; the last one goes on for ever.
        lengths: how many steps each schedule but the last one lasts; at least 0.

    >>> both = joined(warm_up(10, to=0.1), inverse_time(0.1), lengths=(10,))
    >>> both.at(5), both.at(10), both.at(19)
    (0.05, 0.1, 0.01)

    Source: ``torch.optim.lr_scheduler.SequentialLR``, whose children's values change when it is nested.
    """
    for one in schedules:
        _refuse_unless_schedule("joined", one)
    if not schedules or len(lengths) != len(schedules) - 1:
        raise BadValue(
            f"joined takes schedules and the length of each but the last one, "
            f"got {len(schedules)} schedules and {len(lengths)} lengths"
        )
    numbers = {f"length{i}": length for i, length in enumerate(lengths)}
    return Schedule(
        "joined", checked("joined", dict.fromkeys(numbers, LENGTH), numbers), children=tuple(schedules)
    )


def _joined_at(one: Schedule, step: Tensor) -> Tensor:
    found = _inner(one.children[0], step)
    for child, length in zip(one.children[1:], numbers_of(one).values(), strict=True):
        step = step - length
        found = torch.where(step < 0, found, _inner(child, step.clamp(min=0)))
    return found


def scaled(schedule: Schedule, factor: Number) -> Schedule:
    """A schedule times a number: v(step) = factor · v₀(step).

    Args:
        schedule: the schedule v₀.
        factor: what its values are multiplied by.

    >>> scaled(warm_up(10, to=1.0), 0.2).at(5)
    0.1

    Source: one shape for many peak values, as in ``torch.optim.lr_scheduler.LambdaLR``.
    """
    _refuse_unless_schedule("scaled", schedule)
    return Schedule("scaled", checked("scaled", {"factor": FACTOR}, {"factor": factor}), children=(schedule,))


def _scaled_at(one: Schedule, step: Tensor) -> Tensor:
    return _inner(one.children[0], step) * numbers_of(one)["factor"]


def _inner(child: Schedule, step: Tensor) -> Tensor:
    found: Tensor = specs.behavior(child).values(child, step)
    return found


def _refuse_unless_schedule(owner: str, given: Any) -> None:
    if not isinstance(given, Schedule):
        raise BadValue(f"{owner} takes schedules such as fl.schedules.constant(0.1), got {given!r}")


def _joined_sample(draw: Draw) -> Schedule:
    pieces = warm_up(draw(STEPS), draw(VALUE)), constant(draw(VALUE)), inverse_time(draw(VALUE))
    return joined(*pieces, lengths=(draw(LENGTH), draw(LENGTH)))


def _scaled_sample(draw: Draw) -> Schedule:
    return scaled(inverse_time(draw(VALUE)), draw(FACTOR))


specs.register(Schedule, "joined", Behavior(_joined_at, joined, _joined_sample))
specs.register(Schedule, "scaled", Behavior(_scaled_at, scaled, _scaled_sample, {"factor": FACTOR}))
