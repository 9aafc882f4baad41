"""What a schedule is: how a formula becomes a kind, and the value at a step.

A schedule with its numbers as arguments can be lifted by ``vmap``: they are data, tensors of any shape that
broadcasts with the steps. Values are of float64, and the value at a step has the same digits alone and within any
tensor of steps.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeAlias

import torch
from torch import Tensor

from .. import specs
from ..errors import BadValue
from ..specs import Axis, Domain, Schedule

P = ParamSpec("P")
Draw: TypeAlias = Callable[[Domain], Any]
Given: TypeAlias = Any
"""A number of a schedule: a float, a tensor or an axis where the schedule is made, a tensor in its formula."""

VALUE = Domain("a value of the schedule, in the unit of what it schedules", low=-math.inf)
DROP = Domain("what each drop multiplies the value by", low=0.0)
OFFSET = Domain("what the first step is counted as, in steps", low=0.0, open_low=True)
STEPS = Domain("a number of steps", low=1.0)
LENGTH = Domain("how many steps a schedule lasts before the next one begins", low=0.0)


@dataclass(frozen=True)
class Behavior:
    """What one kind of schedule does.

    Args:
        values: ``(schedule, steps) → values``, for a float64 tensor of steps.
        make: the public function that makes such a schedule.
        sample: one such schedule for tests and pages, with numbers from ``draw(domain)``.
        domains: what its own numbers may be.
    """

    values: Callable[[Schedule, Tensor], Tensor]
    make: Callable[..., Schedule]
    sample: Callable[[Draw], Schedule]
    domains: Mapping[str, Domain] = field(default_factory=dict)

    def at(self, schedule: Schedule, step: Any) -> Any:
        """The value at a step: a float for a whole number, a float64 tensor for a tensor of steps."""
        if isinstance(step, Tensor):
            return self.values(schedule, step.to(torch.float64))
        value = self.values(schedule, torch.tensor(_counted(step), dtype=torch.float64))
        pure = not any(isinstance(number, Tensor) for _, number in specs.flatten(schedule))
        return float(value) if pure else value


def _counted(step: Any) -> int:
    try:
        whole = operator.index(step)
    except TypeError:
        raise BadValue(f"a step is a whole number or a tensor of whole numbers, got {step!r}") from None
    if whole < 0:
        raise BadValue(f"steps are counted from 0, got {whole}")
    return whole


def values(number: Any, steps: Tensor) -> Tensor:
    """The values of a hyperparameter at these steps, [steps] of float64: of a schedule, or of a fixed number.

    Args:
        number: a number, a schedule, or a tensor that holds one number.
        steps: the steps, counted from 0.

    >>> values(0.5, torch.arange(3))
    tensor([0.5000, 0.5000, 0.5000], dtype=torch.float64)
    """
    if isinstance(number, Schedule):
        found: Tensor = number.at(steps)
        return found
    return _number("a hyperparameter", number).to(steps.device).expand(steps.shape)


# --- making kinds -----------------------------------------------------------------------------------------


def schedule(
    **domains: Domain,
) -> Callable[[Callable[Concatenate[Tensor, P], Tensor]], Callable[P, Schedule]]:
    """Make a kind of schedule from its formula ``f(step, numbers…) → value``, written for one step or many.

    A Python ``if`` on a number breaks a fleet; ``torch.where`` does not.

    Args:
        **domains: what each number may be.
    """

    def decorate(formula: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[P, Schedule]:
        kind, signature = formula.__name__, _without_step(formula)

        @functools.wraps(formula, updated=())
        def make(*args: P.args, **given: P.kwargs) -> Schedule:
            try:
                found = signature.bind(*args, **given)
            except TypeError as wrong:
                raise BadValue(f"{kind} takes {', '.join(domains)}: {wrong}") from None
            found.apply_defaults()
            return Schedule(kind, checked(kind, domains, found.arguments))

        def at(one: Schedule, step: Tensor) -> Tensor:
            return formula(step, **numbers_of(one))  # type: ignore[arg-type, call-arg]

        def sample(draw: Draw) -> Schedule:
            return make(**{name: draw(domain) for name, domain in domains.items()})  # type: ignore[call-arg]

        make.__signature__ = signature  # type: ignore[attr-defined]
        specs.register(Schedule, kind, Behavior(at, make, sample, dict(domains)))
        return make

    return decorate


def _without_step(formula: Callable[..., Tensor]) -> inspect.Signature:
    signature = inspect.signature(formula)
    return signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation="Schedule")


def checked(kind: str, domains: Mapping[str, Domain], given: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers given to a schedule, each finite and in its domain; tensors are data and cannot be looked at."""
    for name, number in given.items():
        if isinstance(number, Schedule):
            raise BadValue(
                f"{kind}({name}={number!r}): {name} is {domains[name].meaning}, a number, not a schedule"
            )
        if isinstance(number, Tensor):
            continue
        if isinstance(number, float) and not math.isfinite(number):
            raise BadValue(
                f"{kind}({name}={number:g}): {name} is {domains[name].meaning} and must be a finite number "
                f"{domains[name]}; got {number:g}"
            )
        domains[name].check(kind, name, number)
    return dict(given)


def numbers_of(one: Schedule) -> dict[str, Tensor]:
    """The numbers of a schedule as tensors of float64."""
    return {name: _number(f"{name} of {one.kind}", number) for name, number in one.numbers.items()}


def _number(owner: str, number: Any) -> Tensor:
    if isinstance(number, Axis):
        raise BadValue(
            f"{owner} has a value for each run of a fleet, {number!r}: make one run for each of them"
        )
    if isinstance(number, bool) or not isinstance(number, (int, float, Tensor)):
        raise BadValue(f"{owner} is a number or a schedule, got {number!r}")
    return torch.as_tensor(number, dtype=torch.float64)


# --- arithmetic with the same digits alone and in a row -----------------------------------------------------


def between(low: Tensor, high: Tensor, share: Tensor) -> Tensor:
    """low + (high − low) · share, in a form that meets both ends exactly."""
    return high * share + low * torch.rsub(share, 1)


def power(base: Tensor, times: Tensor, bits: int = 24) -> Tensor:
    """base^times for whole times below 2^bits, by repeated squaring.

    ``torch.pow`` gives other last digits to an entry at the end of a tensor than to the same one within it.
    """
    result, whole = torch.ones_like(times), times.to(torch.int64)
    for i in range(bits):
        result = torch.where((whole >> i) & 1 == 1, result * base, result)
        base = base * base
    return result


def root_power(base: Tensor, exponent: Tensor) -> Tensor:
    """base^exponent for a base from 0 and an exponent above 0, neither whole: exp(exponent · log base).

    0 and 1 are met exactly, for ``torch.pow``'s last digits see :func:`power`.
    """
    return torch.exp(exponent * torch.log(base))


def doubled(growth: Tensor, times: Tensor, bits: int = 24) -> tuple[Tensor, Tensor]:
    """The sum 1 + growth + … + growth^(times − 1), and growth^times, for whole times below 2^bits.

    By doubling, so that it is exact where all numbers are whole, and has no division by growth − 1.
    """
    whole = times.to(torch.int64)
    total, last = torch.zeros_like(times), torch.ones_like(times)
    piece, ratio = torch.ones_like(growth), growth
    for i in range(bits):
        taken = (whole >> i) & 1 == 1
        total = torch.where(taken, total + last * piece, total)
        last = torch.where(taken, last * ratio, last)
        piece, ratio = piece * (1 + ratio), ratio * ratio
    return total, last
