"""Compare arms by the whole protocol, repeated: tune, choose on validation, train again on fresh seeds, judge on test.

A replicate is one repetition of all of it. In a replicate every arm tries the same number of settings on the same
tuning seeds, the best is chosen by validation score, and it is trained again on fresh seeds, which alone are judged,
on the test part. Seeds are shared between arms, so that replicates are paired. Intervals and tests are over
replicates: repeating only the last training would take the luck of the tuning for a property of the rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..errors import BadValue
from ..fleet import Fleet, settings_for
from ..records import Record
from ..specs import Run, Study
from ..tasks.base import Task
from .arms import Arm
from .memory import Memory, Trainer
from .protocol import Choice, choose, grow

Sink = Callable[[list[Record]], None]
Progress = Callable[[int], None]

SEEDS_APART = 1_000
"""Seeds of one replicate: r·1000 + 0, 1, … tune, r·1000 + 500, 501, … are fresh."""
FRESH = 500


@dataclass(frozen=True)
class Protocol:
    """How arms are compared.

    Args:
        replicates: repetitions of the whole protocol, which intervals are over.
        rates: values that each arm tries at first.
        seeds: seeds for each setting in tuning, and fresh seeds for the one that is chosen.
        steps: steps of each run.
        batch: examples in a training batch.
        points: values by which every arm's range grows when some arm's best setting sits at its edge.
        rounds: how often the ranges may grow.
        retune: whether each replicate tunes anew; False tunes once, and then speaks about these settings only.
        level: the confidence level of intervals and tests.
        seed: the first seed.
        target: the score that counts as reached; left out, 95 % of the best arm's gain.
    """

    replicates: int = 10
    rates: int = 9
    seeds: int = 3
    steps: int = 600
    batch: int = 32
    points: int = 2
    rounds: int = 2
    retune: bool = True
    level: float = 0.95
    seed: int = 0
    target: float | None = None

    def __post_init__(self) -> None:
        if self.target is not None and not math.isfinite(self.target):
            raise BadValue(f"target is a validation score, a finite number; got {self.target!r}")
        least = {
            "replicates": 2,
            "rates": 2,
            "seeds": 1,
            "steps": 1,
            "batch": 1,
            "points": 1,
            "rounds": 0,
            "seed": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise BadValue(f"{name} must be a whole number of at least {low}, got {value!r}")
        if self.seeds > FRESH:
            raise BadValue(f"seeds must be at most {FRESH}, got {self.seeds}")
        if not 0.5 <= self.level < 1:
            raise BadValue(f"level is a confidence level, from 0.5 up to 1, as in 0.95; got {self.level!r}")

    @property
    def tunings(self) -> int:
        """How often settings are chosen."""
        return self.replicates if self.retune else 1

    def tuning_seeds(self, replicate: int) -> list[int]:
        """The seeds on which a replicate tunes."""
        return [self.seed + replicate * SEEDS_APART + k for k in range(self.seeds)]

    def fresh_seeds(self, replicate: int) -> list[int]:
        """The seeds on which a replicate trains what it chose."""
        return [self.seed + replicate * SEEDS_APART + FRESH + k for k in range(self.seeds)]

    def runs(self, arm: Arm) -> int:
        """How many runs an arm takes, before any growth of its range."""
        tuned = len(arm.settings()) * self.seeds * self.tunings if arm.path else 0
        return tuned + self.replicates * self.seeds


@dataclass(frozen=True)
class Tuned:
    """What tuning found about one arm.

    Args:
        arm: the arm, with its range as far as it grew.
        records: for each replicate and setting, the runs over seeds.
        choices: for each replicate, which setting was chosen.
    """

    arm: Arm
    records: Mapping[tuple[int, float | None], Sequence[Record]]
    choices: tuple[Choice, ...]

    @property
    def boundary(self) -> bool:
        """Whether a quarter of the replicates or more chose a setting at the edge of what was searched."""
        at_edge = sum(choice.boundary for choice in self.choices)
        return 4 * at_edge >= len(self.choices) and at_edge > 0

    def chosen(self, replicate: int) -> dict[str, float] | None:
        """The setting of a replicate; None where every setting had a diverged seed."""
        choice = self.choices[replicate % len(self.choices)]
        return None if choice.index is None else self.arm.settings()[choice.index]


@dataclass(frozen=True)
class Compared:
    """All that a comparison obtained, for analysis.

    Args:
        tasks: what was trained.
        protocol: how.
        tuned: what tuning found, one for each arm.
        finals: for each arm and replicate, the judged runs on fresh seeds; none where nothing was eligible.
        grown: how often the ranges grew.
    """

    tasks: tuple[Task, ...]
    protocol: Protocol
    tuned: tuple[Tuned, ...]
    finals: Mapping[tuple[str, int], Sequence[Record]]
    grown: int


def study_of(tasks: Sequence[Task], arms: Sequence[Arm], protocol: Protocol) -> Study:
    """The question as plain data."""
    named = tuple(task.name for task in tasks)
    return Study("compare", named, tuple(arm.plain() for arm in arms), asdict(protocol))


def compare(
    fleet: Fleet, arms: Sequence[Arm], protocol: Protocol, sink: Sink, progress: Progress | None = None,
    more: Callable[[int], bool] = lambda runs: True, memory: Memory | None = None,
) -> Compared:  # fmt: skip
    """Run the whole protocol.

    Args:
        fleet: holds the tasks.
        arms: what is compared.
        protocol: how.
        sink: is given records as they are obtained.
        progress: called with the number of run-steps done since its last call.
        more: asked whether so many more runs may be spent on growing ranges.
        memory: what an earlier part of the same comparison left.
    """
    study = _Study(fleet, protocol, sink, progress, memory or Memory())
    tuned = [study.tune(arm) for arm in arms]
    found = study.run([run for plan in tuned for run in plan])
    result = [_tuned(arm, found, fleet, protocol) for arm in arms]
    grown = 0
    while grown < protocol.rounds and any(t.boundary for t in result):
        wider = [_grown(t, protocol) for t in result]
        asked = [run for (arm, new) in wider if new for run in study.tune(arm, new)]
        if not asked or not more(len(asked)):
            break
        found += study.run(asked)
        result = [_tuned(arm, found, fleet, protocol) for arm, _ in wider]
        grown += 1
    asked = [run for t in result for run in study.final(t)]
    if progress:  # an arm without a setting that finished has no final runs
        progress((len(arms) * protocol.replicates * protocol.seeds - len(asked)) * protocol.steps)
    judged = study.run(asked, judge=True)
    finals: dict[tuple[str, int], list[Record]] = {}
    for record in judged:
        finals.setdefault((record.arm, record.run.tags["replicate"]), []).append(record)
    return Compared(tuple(fleet.tasks), protocol, tuple(result), finals, grown)


class _Study:
    """Asks a fleet for runs, and hands on what it obtains."""

    def __init__(
        self, fleet: Fleet, protocol: Protocol, sink: Sink, progress: Progress | None, memory: Memory
    ) -> None:
        self.fleet, self.protocol = fleet, protocol
        self.trainer = Trainer(fleet, sink, progress, memory)
        self.settings = settings_for(fleet.tasks, protocol.steps, protocol.batch, judge=False)

    def run(self, asked: Sequence[tuple[int, Run]], *, judge: bool = False) -> list[Record]:
        """Train; the records come in the order of what was asked for."""
        return self.trainer.run(asked, replace(self.settings, judge=judge))

    def tune(self, arm: Arm, values: Sequence[float] | None = None) -> list[tuple[int, Run]]:
        """The runs that tune an arm, at all its settings or at some values of its axis."""
        if arm.path is None:
            return []
        settings = arm.settings() if values is None else [{arm.path: value} for value in values]
        return [
            self._asked(arm, setting, seed, "tune", replicate)
            for replicate in range(self.protocol.tunings)
            for setting in settings
            for seed in self.protocol.tuning_seeds(replicate)
        ]

    def final(self, tuned: Tuned) -> list[tuple[int, Run]]:
        """The runs of an arm that are judged."""
        return [
            self._asked(tuned.arm, setting, seed, "final", replicate)
            for replicate in range(self.protocol.replicates)
            if (setting := tuned.chosen(replicate)) is not None
            for seed in self.protocol.fresh_seeds(replicate)
        ]

    def _asked(
        self, arm: Arm, setting: dict[str, float], seed: int, stage: str, replicate: int
    ) -> tuple[int, Run]:
        tags = {
            "arm": arm.label, "task": self.fleet.tasks[arm.task].name, "stage": stage, "replicate": replicate,
            "settings": setting,
        }  # fmt: skip
        return arm.task, arm.run(setting, seed, replicate, tags)


def _tuned(arm: Arm, found: Sequence[Record], fleet: Fleet, protocol: Protocol) -> Tuned:
    """Choose an arm's setting in each replicate."""
    if arm.path is None:
        return Tuned(arm, {}, tuple(Choice(0, boundary=False) for _ in range(protocol.tunings)))
    by_setting: dict[tuple[int, float | None], list[Record]] = {}
    for record in found:
        if record.arm == arm.label:
            tags = record.run.tags
            by_setting.setdefault((tags["replicate"], tags["settings"][arm.path]), []).append(record)
    better = fleet.tasks[arm.task].metric.better
    values = [setting[arm.path] for setting in arm.settings()]
    choices = tuple(
        choose(
            _table(by_setting, replicate, values, "validation_score"),
            _table(by_setting, replicate, values, "validation_loss"),
            better=better,
        )
        for replicate in range(protocol.tunings)
    )
    return Tuned(arm, by_setting, choices)


def _table(
    by_setting: Mapping[tuple[int, float | None], Sequence[Record]],
    replicate: int,
    values: Sequence[float],
    name: str,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[settings, seeds] of a final measurement; NaN where the run diverged."""
    rows = [[r.outcome.numbers.get(name, np.nan) for r in by_setting[replicate, value]] for value in values]
    return np.array(rows, dtype=np.float64)


def _grown(tuned: Tuned, protocol: Protocol) -> tuple[Arm, tuple[float, ...]]:
    """An arm with a wider range, and the values that are new."""
    axis = tuned.arm.axis
    if axis is None or len(axis.values) < 2:
        return tuned.arm, ()
    new = grow(axis, [choice.index for choice in tuned.choices], protocol.points)
    return tuned.arm.grown(new), new
