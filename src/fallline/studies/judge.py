"""From what a comparison obtained to what may be said: the result document, plain data throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import specs
from ..records import Record
from .compare import Compared, Tuned
from .protocol import WorkingRange, steps_to_target, target, working_range
from .ranking import Difference, Ranking, compare_all
from .stats import Interval, interval
from .words import notes, verdict

Values = list[float | None]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Measures:
    """What was measured of one arm, one value per replicate."""

    score: Values
    loss: Values
    steps: Values
    seconds: Values
    decades: Values
    reached: tuple[int, int]


def judge(found: Compared, seconds: float, runs: int) -> dict[str, Any]:
    """The result document of a comparison, but for where its store and report lie.

    Args:
        found: what the comparison obtained.
        seconds: how long it took.
        runs: how many runs it trained.
    """
    metric, level = found.tasks[0].metric, found.protocol.level
    goal, sentence = _target(found)
    measures = {t.arm.label: _measures(t, found, goal) for t in found.tuned}
    rankings = _rankings(found, measures)
    by_score = rankings[metric.name]
    tuned = {t.arm.label: t for t in found.tuned}
    ranking = [_row(by_score, tuned[arm], measures[arm], found, goal) for arm in by_score.order]
    document: dict[str, Any] = {
        "tasks": [task.name for task in found.tasks],
        "metric": metric.name,
        "better": metric.better,
        "level": level,
        "seconds": seconds,
        "runs": runs,
        "verdict": "",
        "ranking": ranking,
        "comparisons": [
            _pair(name, UNITS.get(name, ""), one) for name, r in rankings.items() for one in r.differences
        ],
        "target": {"score": goal, "sentence": sentence},
        "protocol": {**asdict(found.protocol), "rounds_grown": found.grown},
    }
    document["verdict"] = verdict(document, rankings)
    document["notes"] = notes(found, rankings)
    return document


UNITS = {"test loss": "", "steps to target": "steps", "working range": "decades"}


def _target(found: Compared) -> tuple[float | None, str]:
    """The score that counts as reached, the same for all arms, and how it was set."""
    metric, asked = found.tasks[0].metric, found.protocol.target
    if asked is not None:
        return asked, f"validation {metric.name} {asked:.4g}, as asked for"
    every = [record for records in found.finals.values() for record in records]
    first = [
        float(r.series["validation_score"].values[0]) for r in every if len(r.series["validation_score"])
    ]
    last = [
        _mean([r.outcome.numbers.get("validation_score") for r in _of(found, t.arm.label)])
        for t in found.tuned
    ]
    known = [v for v in last if v is not None]
    if not first or not known:
        return None, "no target: no run finished"
    best = max(known) if metric.better == "higher" else min(known)
    goal = target(float(np.mean(first)), best, better=metric.better)
    return goal, (
        f"validation {metric.name} {goal:.4g}: 95 % of what the best arm gained over the untrained model"
        if goal is not None
        else "no target: nothing was gained over the untrained model"
    )


def _of(found: Compared, arm: str) -> list[Record]:
    return [record for (label, _), records in found.finals.items() if label == arm for record in records]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None and np.isfinite(v)]
    return float(np.mean(known)) if known else None


# --- one arm ----------------------------------------------------------------------------------------------


def _measures(tuned: Tuned, found: Compared, goal: float | None) -> Measures:
    label, better = tuned.arm.label, found.tasks[0].metric.better
    replicates = [found.finals.get((label, r), ()) for r in range(found.protocol.replicates)]
    steps = [[_steps(record, goal, better) for record in records] for records in replicates]
    cost = [
        float(np.mean([r.outcome.seconds for r in rs])) / found.protocol.steps if rs else None
        for rs in replicates
    ]
    middle = [_median(row) for row in steps]
    return Measures(
        score=[_over_seeds(records, "test_score") for records in replicates],
        loss=[_over_seeds(records, "test_loss") for records in replicates],
        steps=middle,
        seconds=[None if n is None or c is None else n * c for n, c in zip(middle, cost, strict=True)],
        decades=[None if w is None else w.decades for w in _ranges(tuned, goal, better)],
        reached=(sum(n is not None for row in steps for n in row), sum(len(row) for row in steps)),
    )


def _over_seeds(records: Sequence[Record], name: str) -> float | None:
    """The mean over fresh seeds; nothing where one of them diverged."""
    values = [record.outcome.numbers.get(name) for record in records]
    if not values or any(v is None or not np.isfinite(v) for v in values):
        return None
    return float(np.mean([v for v in values if v is not None]))


def _steps(record: Record, goal: float | None, better: str) -> int | None:
    series = record.series["validation_score"]
    return steps_to_target(series.steps.tolist(), series.values.tolist(), goal, better=better)


def _median(row: Sequence[int | None]) -> float | None:
    """The median over seeds, where more than half of them reached the target."""
    middle = float(np.median([np.inf if n is None else n for n in row])) if row else np.inf
    return middle if np.isfinite(middle) else None


def _ranges(tuned: Tuned, goal: float | None, better: str) -> list[WorkingRange | None]:
    """For each replicate, the rates that reach the target in the mean of its tuning seeds."""
    if tuned.arm.path is None or tuned.arm.axis is None or not tuned.arm.axis.log:
        return [None for _ in tuned.choices]
    values = tuned.arm.axis.values
    return [
        working_range(values, [_eligible(tuned, r, v) for v in values], goal, better=better)
        for r in range(len(tuned.choices))
    ]


def _eligible(tuned: Tuned, replicate: int, value: float) -> float | None:
    """Mean validation score of a setting; nothing where a seed diverged."""
    return _over_seeds(tuned.records[replicate, value], "validation_score")


def _row(
    ranking: Ranking, tuned: Tuned, measures: Measures, found: Compared, goal: float | None
) -> dict[str, Any]:
    arm, level = tuned.arm, found.protocol.level
    standing = ranking[arm.label]
    loss = interval(measures.loss, level=level)
    return {
        "arm": arm.label,
        "task": found.tasks[arm.task].name,
        "rule": repr(arm.rule) if arm.path is None else arm.rule.kind,
        "spec": specs.plain(arm.rule),
        "rank": standing.rank,
        "settings": _settings(tuned),
        "score": standing.score.value,
        "low": standing.score.low,
        "high": standing.score.high,
        "seeds": measures.score,
        "tied_with": list(standing.tied_with),
        "boundary": tuned.boundary,
        "steps_to_target": _mean(measures.steps),
        "seconds_to_target": _mean(measures.seconds),
        "reached": list(measures.reached),
        "working_range": _mean(measures.decades),
        "working": _working(tuned, measures, goal, found),
        "loss": {**_plain(loss), "seeds": measures.loss},
        "rates": _rates(tuned, level),
        "diverged": _diverged(tuned, found),
        "findings": [],
    }


def _settings(tuned: Tuned) -> dict[str, float]:
    """What was chosen: the middle one of the replicates' choices, or all numbers where nothing was tuned."""
    if tuned.arm.path is None:
        return {k: v for k, v in specs.flatten(tuned.arm.rule) if isinstance(v, (int, float))}
    chosen = sorted(c.index for c in tuned.choices if c.index is not None)
    return dict(tuned.arm.settings()[chosen[len(chosen) // 2]]) if chosen else {}


def _working(tuned: Tuned, measures: Measures, goal: float | None, found: Compared) -> dict[str, Any] | None:
    """The working range with an interval; its ends are geometric means over replicates."""
    known = [w for w in _ranges(tuned, goal, found.tasks[0].metric.better) if w is not None]
    if not known:
        return None
    decades = interval(measures.decades, level=found.protocol.level)
    return {
        "low": float(np.exp(np.mean(np.log([w.low for w in known])))),
        "high": float(np.exp(np.mean(np.log([w.high for w in known])))),
        "decades": decades.value,
        "decades_low": decades.low,
        "decades_high": decades.high,
        "open_low": any(w.open_low for w in known),
        "open_high": any(w.open_high for w in known),
        "of": [len(known), len(tuned.choices)],
    }


def _rates(tuned: Tuned, level: float) -> dict[str, Any] | None:
    """Validation score over the searched values, with intervals over replicates."""
    if tuned.arm.axis is None or tuned.arm.path is None:
        return None
    values = tuned.arm.axis.values
    columns = [[_eligible(tuned, r, v) for r in range(len(tuned.choices))] for v in values]
    found = [
        interval(column, level=level) if any(c is not None for c in column) else None for column in columns
    ]
    runs = [[r for k in range(len(tuned.choices)) for r in tuned.records[k, v]] for v in values]
    return {
        "name": tuned.arm.path,
        "values": list(values),
        "scores": [None if f is None else f.value for f in found],
        "low": [None if f is None else f.low for f in found],
        "high": [None if f is None else f.high for f in found],
        "diverged": [sum(r.outcome.diverged for r in records) for records in runs],
        "of": [len(records) for records in runs],
    }


def _diverged(tuned: Tuned, found: Compared) -> dict[str, list[int]]:
    stages = {"tune": [r for rs in tuned.records.values() for r in rs], "final": _of(found, tuned.arm.label)}
    return {
        stage: [sum(r.outcome.diverged for r in records), len(records)] for stage, records in stages.items()
    }


# --- all arms ---------------------------------------------------------------------------------------------


def _rankings(found: Compared, measures: Mapping[str, Measures]) -> dict[str, Ranking]:
    """A ranking of the arms by each measure that they can be compared by."""
    metric, level = found.tasks[0].metric, found.protocol.level
    scores = {arm: m.score for arm, m in measures.items()}
    made = {
        metric.name: compare_all(
            scores, better=metric.better, level=level, outcomes=_outcomes(found, scores, "test_score")
        )
    }
    if len({task.comparable for task in found.tasks}) == 1 and metric.name != "loss":
        losses = {arm: m.loss for arm, m in measures.items()}
        made["test loss"] = compare_all(
            losses, better="lower", level=level, outcomes=_outcomes(found, losses, "test_loss")
        )
    made["steps to target"] = compare_all(
        {a: m.steps for a, m in measures.items()}, better="lower", level=level
    )
    if found.protocol.retune and all(t.arm.axis is not None for t in found.tuned):
        decades = {a: m.decades for a, m in measures.items()}
        made["working range"] = compare_all(decades, better="higher", level=level)
    return made


def _outcomes(found: Compared, values: Mapping[str, Values], name: str) -> dict[str, Floats] | None:
    """[replicates, test examples] for each arm, the mean over fresh seeds; nothing where they cannot be paired."""
    made: dict[str, Floats] = {}
    for arm, scores in values.items():
        if all(score is None for score in scores):
            continue
        rows = [
            None if score is None else _row_of_examples(found.finals[arm, r], name) for r, score in enumerate(scores)
        ]  # fmt: skip
        known = [row for row in rows if row is not None]
        if len(known) < sum(score is not None for score in scores) or len({len(row) for row in known}) != 1:
            return None
        blank = np.full(len(known[0]), np.nan)
        made[arm] = np.stack([blank if row is None else row for row in rows])
    same_examples = len({_test_data(task) for task in found.tasks}) == 1
    return made if made and same_examples and len({table.shape for table in made.values()}) == 1 else None


def _row_of_examples(records: Sequence[Record], name: str) -> Floats | None:
    if any(name not in record.examples for record in records):
        return None
    return np.mean([record.examples[name].astype(np.float64) for record in records], axis=0)


def _test_data(task: Any) -> tuple[Any, ...]:
    return (task.facts.get("test_data", id(task)),)


def _pair(measure: str, unit: str, one: Difference) -> dict[str, Any]:
    shown = {
        name: getattr(one, name) for name in ("a", "b", "low", "high", "p", "p_holm", "significant", "winner")
    }
    return {"measure": measure, "unit": unit, "difference": one.value, **shown}


def _plain(found: Interval) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n, "method": found.method}
