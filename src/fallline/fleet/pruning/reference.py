"""Slow twins of the policies: loops over single runs, one after another, as the papers write them; for tests.

A run is trained alone, from its first step, for as many steps as something is asked about. Nothing here shares code with
the policies, but for the counters from which population-based training draws, which are a part of its definition.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ... import rng
from ...records import Record, Series
from ...specs import Run
from ...tasks.base import Task
from ..block import trained
from ..programs import Executor
from ..settings import Settings
from ..snapshot import Snapshot
from ..workshop import Workshop

Given = dict[int, Record]
"""By position, a run's record up to the step at which it ended."""


@dataclass(frozen=True)
class Alone:
    """Trains runs of a task, one at a time.

    Args:
        task: what is trained.
        settings: as for a fleet, with the rungs among the evaluations.
        executor: how.
        metric: score or loss.
        workshop: what remembers programs.
        known: what was trained already, from the first step, by run and step.
    """

    task: Task
    settings: Settings
    executor: Executor = "alone"
    metric: str = "score"
    workshop: Workshop = field(default_factory=Workshop)
    known: dict[tuple[str, int], Snapshot] = field(default_factory=dict)

    def to(self, run: Run, step: int, start: Snapshot | None = None) -> Snapshot:
        """Where a run stands after so many steps, from its first or from where it stood."""
        largest = 1 if self.executor == "alone" else self.settings.largest
        settings = replace(self.settings, executor=self.executor, largest=largest)
        if start is None and (repr(run), step) in self.known:
            return self.known[repr(run), step]
        with trained(self.task, [run], settings, self.workshop, start=start, until=step) as block:
            held = block.snapshot()
        if start is None:
            self.known[repr(run), step] = held
        return held

    def record(self, run: Run, step: int) -> Record:
        """What a run leaves that is trained for so many steps."""
        held = self.to(run, step)
        return replace(held.record(0), weights=held.weights(0))

    def cost(self, run: Run, step: int) -> tuple[float, float]:
        """What a run competes by after so many steps, lower being better; infinite where it has diverged."""
        return self.measured(self.to(run, step))

    def measured(self, held: Snapshot) -> tuple[float, float]:
        """Cost and loss of a run that stands there."""
        if held.died(0) >= 0:
            return math.inf, math.inf
        cost, loss = (held.numbers(0)[f"validation_{name}"] for name in (self.metric, "loss"))
        if self.metric == "score" and self.task.metric.better == "higher":
            cost = -cost
        return (cost if math.isfinite(cost) else math.inf), (loss if math.isfinite(loss) else math.inf)


def halving(alone: Alone, runs: dict[int, Run], *, eta: int, first: int) -> Given:
    """Successive halving of runs, by position."""
    steps = alone.settings.steps
    n, r = len(runs), first
    contenders, ended = sorted(runs), dict.fromkeys(runs, steps)
    k = 1
    while r < steps:
        losses = {i: alone.cost(runs[i], r) for i in contenders}
        best = sorted(contenders, key=lambda i: (losses[i], i))[: max(1, n // eta**k)]
        best = [i for i in best if losses[i][0] < math.inf]
        for i in contenders:
            if i not in best:
                ended[i] = r
        contenders, r, k = best, r * eta, k + 1
    return {i: alone.record(runs[i], ended[i]) for i in runs}


def hyperband(alone: Alone, runs: Sequence[Run], *, eta: int, first: int) -> Given:
    """Successive halving in one bracket after another."""
    steps = alone.settings.steps
    s_max = 0
    while first * eta**s_max < steps:
        s_max += 1
    sizes = [math.ceil((s_max + 1) * eta**s / (s + 1)) for s in range(s_max, -1, -1)]
    brackets: list[dict[int, Run]] = [{} for _ in sizes]
    credits = [0] * len(sizes)
    for i, run in enumerate(runs):
        credits = [credit + size for credit, size in zip(credits, sizes, strict=True)]
        chosen = credits.index(max(credits))
        credits[chosen] -= sum(sizes)
        brackets[chosen][i] = run
    found: Given = {}
    for skipped, bracket in enumerate(brackets):
        found |= halving(alone, bracket, eta=eta, first=first * eta**skipped)
    return found


def median_rule(alone: Alone, runs: Sequence[Run], *, grace: int, every: int) -> Given:
    """The median rule, at one step after another."""
    steps = alone.settings.steps
    ended = dict.fromkeys(range(len(runs)), steps)
    for t in range(every, steps, every):
        seen = {
            i: [alone.cost(runs[i], s)[0] for s in range(every, t + 1, every)]
            for i in ended
            if ended[i] == steps
        }
        for i in [i for i in seen if alone.to(runs[i], t).died(0) >= 0]:
            ended[i] = t
            del seen[i]
        means = {i: math.inf if math.inf in costs else statistics.mean(costs) for i, costs in seen.items()}
        for i, costs in seen.items():
            others = [means[j] for j in means if j != i]
            if t >= grace and others and min(costs) > statistics.median(others):
                ended[i] = t
    return {i: alone.record(runs[i], ended[i]) for i in ended}


def patience(alone: Alone, runs: Sequence[Run], *, evaluations: int, least: float = 0.0) -> Given:
    """Early stopping of one run after another."""
    return {i: alone.record(run, _patient(alone, run, evaluations, least)) for i, run in enumerate(runs)}


def _patient(alone: Alone, run: Run, evaluations: int, least: float) -> int:
    best, wait = math.inf, 0
    for t in alone.settings.evaluations:
        if t == 0 or t == alone.settings.steps:
            continue
        cost = alone.cost(run, t)[0]
        wait = wait + 1
        if cost < best - least:
            best, wait = cost, 0
        if wait >= evaluations:
            return t
    return alone.settings.steps


Explore = Callable[[Run, int, int], Run]
"""A run with its numbers changed after a step, at a position."""


def population(
    alone: Alone, runs: Sequence[Run], explore: Explore, *, every: int, exploit: float, seed: int
) -> Given:
    """Population-based training: members step, are evaluated, exploit and explore, one after another."""
    members, states = dict(enumerate(runs)), dict[int, Snapshot]()
    seen: dict[int, Measured] = {i: {} for i in members}
    size = max(1, math.floor(exploit * len(runs)))
    for t in [*range(every, alone.settings.steps, every), alone.settings.steps]:
        for i, run in members.items():
            start = states.get(i)
            states[i] = alone.to(run, t, None if start is None else start.renamed([run]))
            _look(states[i], -1 if start is None else start.step, seen[i])
        if t == alone.settings.steps:
            break
        costs = {i: alone.measured(state) for i, state in states.items()}
        ranking = sorted(members, key=lambda i: (costs[i], i))
        healthy = [i for i in ranking if costs[i][0] < math.inf]
        worst = [i for i in ranking[len(ranking) - size :] if i != ranking[0]]
        worst += [i for i in members if i not in healthy and i not in worst]
        best = [i for i in healthy if i not in worst][:size]
        before, held = dict(members), dict(states)
        for i in worst if best else []:
            donor = best[rng.seed_for(seed, f"population, which run, {t}, {i}") % len(best)]
            states[i], own = held[donor], runs[i]
            members[i] = explore(replace(before[donor], seed=own.seed, data=own.data, tags=own.tags), t, i)
    return {i: _told(states[i], seen[i]) for i in members}


Measured = dict[tuple[str, int], float]
"""What was measured of a member, by name and step, whatever states it went on from."""


def _look(state: Snapshot, since: int, seen: Measured) -> None:
    for name, series in state.of(0).items():
        seen.update({(name, t): v for t, v in zip(series.steps, series.values, strict=True) if t > since})


def _told(state: Snapshot, seen: Measured) -> Record:
    record = replace(state.record(0), weights=state.weights(0))
    series = {
        name: Series(one.steps, np.array([seen.get((name, t), math.nan) for t in one.steps]))
        for name, one in record.series.items()
    }
    return replace(record, series=series)
