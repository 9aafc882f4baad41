"""Which learning rates train: a ladder of rates, each its own run from the same start, for several seeds.

Every rate trains alone from the start, so that no rate sees what another one did to the weights. What is decided from
the losses (:func:`judged`) is a pure function of arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import specs
from ..errors import BadRule, BadValue
from ..fleet import Fleet, settings_for
from ..rules.base import behavior
from ..specs import Rule, Run
from ..tasks.base import Task
from .stats import interval

Floats = NDArray[np.float64]
SHARE = 0.9
"""The share of the best decrease of the loss from which on a rate counts as working."""
ROUNDS = 3
"""Ladders that are trained at most, where the first ends before training becomes unstable."""
WIDE = 30.0
"""How far a ladder goes beyond both ends of what a rule declares as its range to tune."""
RANGE = (1e-6, 10.0)
"""The ladder of a rule that declares no range."""


@dataclass(frozen=True)
class Curve:
    """What a ladder of rates did.

    Args:
        rates: [k], growing.
        start: [seeds] the loss before the first step.
        end: [k, seeds] the loss after the last one; infinite where a run diverged.
    """

    rates: Floats
    start: Floats
    end: Floats

    def joined(self, other: Curve) -> Curve:
        """Both ladders as one."""
        order = np.argsort(rates := np.concatenate([self.rates, other.rates]), kind="stable")
        return Curve(rates[order], self.start, np.concatenate([self.end, other.end])[order])


@dataclass(frozen=True)
class Estimate:
    """A learning rate with its interval over seeds, on a logarithmic scale; None where it lies outside of the ladder."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class Judgment:
    """What is read from a curve.

    Args:
        low, high: the ends of the range of rates that work.
        edge: the largest rate whose loss does not end above its start. The interval reaches up to the next rate of
            the ladder, as the edge itself may lie anywhere before that.
        suggestion: a rate; None where none works.
        reason: why this one.
    """

    low: Estimate
    high: Estimate
    edge: Estimate
    suggestion: float | None
    reason: str


# --- training ---------------------------------------------------------------------------------------------------


def ladder(low: float, high: float, points: int) -> Floats:
    """Rates at equal ratios, both ends included.

    >>> ladder(0.01, 1.0, 3).tolist()
    [0.01, 0.1, 1.0]
    """
    if not 0 < low < high < math.inf:
        raise BadValue(f"a ladder of learning rates needs 0 < low < high, got {low=} and {high=}")
    return np.array([low * (high / low) ** (i / (points - 1)) for i in range(points)])


def first_ladder(rule: Rule, low: float | None, high: float | None, points: int) -> Floats:
    """The rates to begin with: those asked for, or well beyond what the rule declares as its range."""
    declared = behavior(rule).search.get("lr")
    known = (declared[0] / WIDE, declared[1] * WIDE) if declared else RANGE
    return ladder(known[0] if low is None else low, known[1] if high is None else high, points)


def with_rate(rule: Rule, rate: float) -> Rule:
    """The rule at another learning rate; where several of its numbers are called lr, they keep their ratios."""
    given = {path: n for path, n in specs.flatten(rule) if path.rpartition(".")[2] == "lr"}
    for path, number in given.items():
        if isinstance(number, (specs.Schedule, specs.Axis)):
            raise BadRule(
                f"{path}={number!r} is not one learning rate: give the rule a number there, find its range, and put that "
                "into the schedule as its peak"
            )
    first = next((n for n in given.values() if n), 0.0)
    if not first:
        raise BadRule(f"{rule!r} has no learning rate above 0 that is called lr, so there is none to find")
    changed: Rule = rule.replace(**{path: rate * (n / first) for path, n in given.items()})
    return changed


def trained(
    fleet: Fleet,
    rule: Rule,
    rates: Floats,
    seeds: Sequence[int],
    *,
    steps: int,
    batch: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Curve:
    """Train each rate for each seed from the seed's start."""
    asked = [(0, Run(with_rate(rule, float(rate)), seed)) for rate in rates for seed in seeds]
    losses = np.full((len(asked), 2), math.inf)
    for positions, records in fleet.train(
        asked, settings_for(fleet.tasks, steps, batch, judge=False), progress
    ):
        for position, record in zip(positions, records, strict=True):
            seen = record.series["validation_loss"].values
            end = float(seen[-1]) if not record.outcome.diverged else math.inf
            losses[position] = float(seen[0]), end if math.isfinite(end) else math.inf
    table = losses.reshape(len(rates), len(seeds), 2)
    return Curve(rates, table[0, :, 0], table[:, :, 1])


def searched(
    task: Task,
    rule: Rule,
    *,
    points: int,
    seeds: Sequence[int],
    steps: int,
    low: float | None = None,
    high: float | None = None,
    batch: int | None = None,
    workers: int | None = None,
    executor: str = "auto",
    progress: Any = None,
) -> Curve:
    """Train a ladder of rates, and go on above or below where the edge of stability is not on it.

    An end that was asked for is kept.
    """
    rates = first_ladder(rule, low, high, points)
    tell = (lambda count: progress.expect(count * len(seeds) * steps)) if progress else lambda count: None
    with Fleet([task], workers=workers, executor=executor, steps=steps, batch=batch) as fleet:

        def train(more: Floats) -> Curve:
            tell(len(more))
            return trained(fleet, rule, more, seeds, steps=steps, batch=batch, progress=progress)

        curve = train(rates)
        if not np.isfinite(curve.start).all():
            raise BadValue(
                f"the loss of {task.name} is not finite before the first step, so no learning rate can be judged: check "
                "the data for NaN and infinities, and the model's initial weights"
            )
        span = rates[-1] / rates[0] * (rates[1] / rates[0])
        for _ in range(ROUNDS - 1):
            edges = [edge(curve, seed) for seed in range(len(seeds))]
            if high is None and len(curve.rates) - 1 in edges:
                curve = curve.joined(train(rates * (curve.rates[-1] / rates[-1]) * span))
            elif low is None and -1 in edges:
                curve = curve.joined(train(rates * (curve.rates[0] / rates[0]) / span))
            else:
                break
    return curve


# --- judging ----------------------------------------------------------------------------------------------------


def edge(curve: Curve, seed: int) -> int:
    """The last rate, going up from the best one, whose loss does not end above its start; −1 where even that does.

    What lies above the first rate that is unstable does not count: a network that a huge rate has broken may end
    with a constant answer, below where it began.
    """
    end = curve.end[:, seed]
    stable = end <= curve.start[seed] * (1 + 1e-9)
    best = int(np.argmin(end))
    return best - 1 + sum(1 for _ in takewhile(bool, stable[best:])) if stable[best] else -1


def working(curve: Curve, seed: int) -> tuple[int, int] | None:
    """The first and the last rate around the best one with most of its decrease; None where no rate decreases."""
    gain = curve.start[seed] - curve.end[:, seed]
    best = int(np.argmax(gain))
    if not gain[best] > 0:
        return None
    good = gain >= SHARE * gain[best]
    up = sum(1 for _ in takewhile(bool, good[best:]))
    down = sum(1 for _ in takewhile(bool, good[best::-1]))
    return best - down + 1, best + up - 1


def judged(curve: Curve, level: float = 0.95) -> Judgment:
    """The range that works, the edge of stability, and a suggestion."""
    seeds, rates = range(len(curve.start)), curve.rates
    spacing = float(rates[1] / rates[0])
    edges = [edge(curve, s) for s in seeds]
    found = [w for w in (working(curve, s) for s in seeds) if w is not None]
    low = _estimate([rates[a] for a, _ in found], level)
    high = _estimate([rates[b] for _, b in found], level)
    if len(rates) - 1 in edges or -1 in edges:
        limit = Estimate(None, None, None, len(edges))
    else:
        limit = _estimate([rates[i] for i in edges], level, spacing)
    limits = [float(rates[i]) for i in edges if 0 <= i < len(rates) - 1]
    return Judgment(low, high, limit, *_suggestion(curve, min(limits, default=None), bool(found)))


def _estimate(rates: Sequence[float], level: float, spacing: float = 1.0) -> Estimate:
    logs = np.log10(np.asarray(rates, dtype=np.float64))
    known = interval(logs, level=level) if len(logs) else None
    if known is None or known.value is None:
        return Estimate(None, None, None, 0)
    value = 10.0**known.value
    if known.low is None or known.high is None:
        return Estimate(value, None, None, known.n)
    return Estimate(value, 10.0**known.low, 10.0**known.high * spacing, known.n)


def _suggestion(curve: Curve, limit: float | None, works: bool) -> tuple[float | None, str]:
    """The rate with the largest mean decrease over seeds, none of which diverged; at most half of every seed's edge."""
    if not works:
        return (
            None,
            "no rate on the ladder ends below where it began: try more steps, or other ends by low and high",
        )
    gain = curve.start - curve.end
    shares = np.where(np.isfinite(gain), gain, -math.inf) / np.maximum(gain.max(axis=0), 1e-300)
    best = float(curve.rates[int(np.argmax(shares.mean(axis=1)))])
    if limit is not None and best > limit / 2:
        return limit / 2, (
            f"half of the lowest edge of stability among the seeds, so that training stays stable where the curvature "
            f"doubles; {best:.3g} had the largest decrease, and is nearer to the edge than that"
        )
    return (
        best,
        "the largest mean decrease of the loss over seeds, and at most half of every seed's edge of stability",
    )
