"""Schedules: step → value, pure and vectorized; any hyperparameter may be one.

A schedule is a value (:class:`fallline.specs.Schedule`) that prints, compares and nests. Steps are counted from
0, the number of steps taken so far:

>>> from fallline import schedules
>>> warm = schedules.joined(schedules.warm_up(10, to=0.1), schedules.cosine(0.1, 90), lengths=(10,))
>>> warm.at(5), warm.at(10), warm.at(100)
(0.05, 0.1, 0.0)
>>> warm.at(torch.tensor([0, 10, 55]))
tensor([0.0000, 0.1000, 0.0500], dtype=torch.float64)

The numbers of a schedule are data: tensors of any shape that broadcasts with the steps are allowed in their
place, and a schedule with its numbers as arguments can be lifted by ``vmap``. Values are of float64, and the
value at a step has the same digits alone and within any tensor of steps.
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

from . import specs
from .errors import BadValue
from .specs import Axis, Domain, Number, Schedule

P = ParamSpec("P")
Draw: TypeAlias = Callable[[Domain], Any]
Given: TypeAlias = Any
"""A number of a schedule: a float, a tensor or an axis where the schedule is made, a tensor in its formula."""

VALUE = Domain("a value of the schedule, in the unit of what it schedules", low=-math.inf)
FACTOR = Domain("what the values are multiplied by", low=-math.inf)
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
            return Schedule(kind, _checked(kind, domains, found.arguments))

        def at(one: Schedule, step: Tensor) -> Tensor:
            return formula(step, **_numbers(one))  # type: ignore[arg-type, call-arg]

        def sample(draw: Draw) -> Schedule:
            return make(**{name: draw(domain) for name, domain in domains.items()})  # type: ignore[call-arg]

        make.__signature__ = signature  # type: ignore[attr-defined]
        specs.register(Schedule, kind, Behavior(at, make, sample, dict(domains)))
        return make

    return decorate


def _without_step(formula: Callable[..., Tensor]) -> inspect.Signature:
    signature = inspect.signature(formula)
    return signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation="Schedule")


def _checked(kind: str, domains: Mapping[str, Domain], given: Mapping[str, Any]) -> dict[str, Any]:
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


def _numbers(one: Schedule) -> dict[str, Tensor]:
    return {name: _number(f"{name} of {one.kind}", number) for name, number in one.numbers.items()}


def _number(owner: str, number: Any) -> Tensor:
    if isinstance(number, Axis):
        raise BadValue(
            f"{owner} has a value for each run of a fleet, {number!r}: make one run for each of them"
        )
    if isinstance(number, bool) or not isinstance(number, (int, float, Tensor)):
        raise BadValue(f"{owner} is a number or a schedule, got {number!r}")
    return torch.as_tensor(number, dtype=torch.float64)


# --- the kinds --------------------------------------------------------------------------------------------


@schedule(value=VALUE)
def constant(step: Tensor, value: Given) -> Tensor:
    """The same value at each step: v(step) = value.

    Args:
        value: the value.

    >>> constant(0.1).at(1000)
    0.1

    Source: the slide's first form of rate tuning, μ for all t.
    """
    return torch.add(torch.zeros_like(step), value)


@schedule(rate=VALUE, offset=OFFSET)
def inverse_time(step: Tensor, rate: Given, offset: Given = 1.0) -> Tensor:
    """A rate that falls as 1/t: v(step) = rate / (step + offset), so that t is counted from 1.

    Args:
        rate: the value at t = 1, which is step 0 unless ``offset`` is changed.
        offset: what the first step is counted as, in steps; above 0. A larger one falls later.

    >>> inverse_time(0.1).at(0), inverse_time(0.1).at(9)
    (0.1, 0.01)

    Source: Robbins and Monro, A stochastic approximation method, 1951; the slide's μ/t.
    """
    return torch.div(rate, step + offset)


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
    return torch.mul(_power(factor, torch.floor(step / every)), start)


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
    return _between(end, start, (1 + torch.cos(math.pi * (step / steps).clamp(max=1))) / 2)


@schedule(steps=STEPS, to=VALUE, from_=VALUE)
def warm_up(step: Tensor, steps: Given, to: Given, from_: Given = 0.0) -> Tensor:
    """A straight line, then its end: v(step) = from_ + (to − from_) · min(step / steps, 1).

    Args:
        steps: how many steps it takes; at least 1. From there on the value is ``to``.
        to: the last value.
        from_: the value at step 0. With 0 for a learning rate, the first step does not move.

    >>> [warm_up(10, to=0.5).at(k) for k in (0, 5, 10, 20)]
    [0.0, 0.25, 0.5, 0.5]

    Source: Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, 2017.
    """
    return _between(from_, to, (step / steps).clamp(max=1))


def _between(low: Tensor, high: Tensor, share: Tensor) -> Tensor:
    """low + (high − low) · share, in a form that meets both ends exactly."""
    return high * share + low * torch.rsub(share, 1)


def _power(base: Tensor, times: Tensor, bits: int = 24) -> Tensor:
    """base^times for whole times below 2^bits, by repeated squaring.

    ``torch.pow`` gives other last digits to an entry at the end of a tensor than to the same one within it.
    """
    result, whole = torch.ones_like(times), times.to(torch.int64)
    for i in range(bits):
        result = torch.where((whole >> i) & 1 == 1, result * base, result)
        base = base * base
    return result


# --- made of schedules ------------------------------------------------------------------------------------


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
        "joined", _checked("joined", dict.fromkeys(numbers, LENGTH), numbers), children=tuple(schedules)
    )


def _joined_at(one: Schedule, step: Tensor) -> Tensor:
    found = _inner(one.children[0], step)
    for child, length in zip(one.children[1:], _numbers(one).values(), strict=True):
        step = step - length
        found = torch.where(step < 0, found, _inner(child, step.clamp(min=0)))
    return found


def scaled(schedule: Schedule, factor: Number) -> Schedule:
    """A schedule times a number: v(step) = factor · v₀(step).

    Args:
        schedule: the schedule v₀.
        factor: what its values are multiplied by.

    >>> scaled(cosine(1.0, 100), 0.2).at(0)
    0.2

    Source: one shape for many peak values, as in ``torch.optim.lr_scheduler.LambdaLR``.
    """
    _refuse_unless_schedule("scaled", schedule)
    return Schedule(
        "scaled", _checked("scaled", {"factor": FACTOR}, {"factor": factor}), children=(schedule,)
    )


def _scaled_at(one: Schedule, step: Tensor) -> Tensor:
    return _inner(one.children[0], step) * _numbers(one)["factor"]


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
