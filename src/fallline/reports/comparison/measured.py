"""What the report takes from the records themselves: bands of curves, divergence, and how far a study has come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...figure import Array
from ...records import Record, Series
from ...store import Store
from .view import Arm, Rates, View


@dataclass(frozen=True, eq=False)
class Band:
    """A quantity over steps [k]: median over runs, 10th and 90th percentile, and the most runs at any step."""

    steps: Array
    middle: Array
    low: Array
    high: Array
    runs: int


@dataclass
class Divergence:
    """The runs of one arm that left the finite numbers, by stage, and the first of them."""

    counts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    values: list[float] = field(default_factory=list)
    first_step: int | None = None
    sentence: str = ""

    def add(self, record: Record) -> None:
        """Count one run."""
        outcome = record.outcome
        self.counts[record.stage][1] += 1
        if not outcome.diverged:
            return
        self.counts[record.stage][0] += 1
        found = searched(record)
        if found is not None:
            self.values.append(found[1])
        if self.first_step is None or outcome.step < self.first_step:
            self.first_step, self.sentence = outcome.step, outcome.sentence


def searched(record: Record) -> tuple[str, float] | None:
    """The number that was searched, from the run's tags: its path and the run's value."""
    settings = record.run.tags.get("settings") or {}
    found = [(str(name), float(v)) for name, v in settings.items() if isinstance(v, (int, float))]
    return found[0] if len(found) == 1 else None


def bands(store: Store, arm: str) -> dict[str, Band]:
    """The learning curves of an arm's final runs, by quantity."""
    found: dict[str, list[Series]] = defaultdict(list)
    for record in store.records(arm=arm, stage="final", examples=False):
        for name in ("validation_loss", "validation_score"):
            if name in record.series:
                found[name].append(record.series[name])
    return {name: made for name, runs in found.items() if (made := band(runs)) is not None}


def band(runs: Sequence[Series]) -> Band | None:
    """The band of some runs; at each step it is over the runs that are still finite there."""
    if not runs:
        return None
    steps = np.unique(np.concatenate([run.steps for run in runs]))
    table = np.full((len(runs), len(steps)), np.nan)
    for row, run in zip(table, runs, strict=True):
        row[np.searchsorted(steps, run.steps)] = run.values
    table[~np.isfinite(table)] = np.nan
    present = np.isfinite(table).any(axis=0)
    if not present.any():
        return None
    low, middle, high = np.nanpercentile(table[:, present], (10, 50, 90), axis=0)
    return Band(steps[present].astype(np.float64), middle, low, high, len(runs))


def divergences(store: Store) -> dict[str, Divergence]:
    """Each arm's diverged runs."""
    found: dict[str, Divergence] = defaultdict(Divergence)
    for record in store.records(series=False, examples=False):
        found[record.arm].add(record)
    return dict(found)


def partial(store: Store) -> View:
    """The view of a study that is not finished: no ranking, but what its runs show so far."""
    study = store.study
    found: dict[str, dict[float, list[float]]] = {}
    names: dict[str, str] = {}
    for label in (arm.get("label") or arm.get("arm") for arm in study.arms):
        found[str(label)] = {}
    for record in store.records(series=False, examples=False):
        scores = found.setdefault(record.arm, {})
        setting = searched(record)
        if record.stage == "tune" and setting is not None:
            names[record.arm] = setting[0]
            score = record.outcome.numbers.get("validation_score", np.nan)
            scores.setdefault(setting[1], []).append(np.nan if record.outcome.diverged else score)
    arms = tuple(
        Arm(label, i, rates=_rates(scores, names.get(label, "lr")))
        for i, (label, scores) in enumerate(found.items())
    )
    metric, better = (str(study.protocol.get(*pair)) for pair in (("metric", "score"), ("better", "higher")))
    return View(study.tasks, metric, arms, better, protocol=study.protocol, finished=False)


def _rates(found: Mapping[float, Sequence[float]], name: str) -> Rates | None:
    if not found:
        return None
    values = sorted(found)
    tables = [np.array(found[value]) for value in values]
    finite = [table[np.isfinite(table)] for table in tables]
    lowest, mean, highest = (_each(finite, function) for function in (np.min, np.mean, np.max))
    diverged = np.array([float(np.isnan(table).sum()) for table in tables])
    return Rates(
        np.array(values), mean, lowest, highest, diverged, np.array([float(len(t)) for t in tables]), name
    )


def _each(tables: Iterable[Array], function: Any) -> Array:
    return np.array([function(table) if len(table) else np.nan for table in tables])
