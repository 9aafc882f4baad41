"""The result document of a comparison, read: what is missing is NaN or None, and nothing here raises for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...figure import Array
from .. import words


@dataclass(frozen=True)
class Estimate:
    """A measured value with its interval and the values of the replicates; NaN is what is not known."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: tuple[float, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there is a value at all."""
        return math.isfinite(self.value)


@dataclass(frozen=True)
class Working:
    """The learning rates at which an arm reaches the target; an open end lies outside of what was searched."""

    low: float
    high: float
    decades: float
    decades_low: float = math.nan
    decades_high: float = math.nan
    open_low: bool = False
    open_high: bool = False

    @property
    def open(self) -> bool:
        """Whether the range may be wider than what was searched."""
        return self.open_low or self.open_high


@dataclass(frozen=True, eq=False)
class Rates:
    """The validation score at each value that was searched [k], with its interval, and how many runs diverged there.

    ``name`` is the path of the number that was searched, such as 'lr'.
    """

    values: Array
    scores: Array
    low: Array
    high: Array
    diverged: Array
    of: Array
    name: str = "lr"


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm of a comparison; ``style`` is its number, which decides how it looks everywhere."""

    label: str
    style: int
    rank: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    score: Estimate = Estimate()
    loss: Estimate = Estimate()
    tied_with: tuple[str, ...] = ()
    boundary: bool = False
    steps: float = math.nan
    seconds: float = math.nan
    reached: tuple[int, int] | None = None
    working: Working | None = None
    rates: Rates | None = None
    diverged: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    findings: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Difference:
    """One pair of arms by one measure: a minus b."""

    measure: str
    unit: str
    a: str
    b: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    significant: bool


@dataclass(frozen=True)
class Baseline:
    """The arms held against an earlier study: now minus then."""

    store: str
    sentence: str
    pairs: tuple[Difference, ...]


@dataclass(frozen=True, eq=False)
class View:
    """A comparison as its report sees it."""

    tasks: tuple[str, ...]
    metric: str
    arms: tuple[Arm, ...]
    better: str = "higher"
    level: float = 0.95
    verdict: str = ""
    seconds: float = math.nan
    runs: int | None = None
    differences: tuple[Difference, ...] = ()
    target: float = math.nan
    target_sentence: str = ""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    baseline: Baseline | None = None
    finished: bool = True

    @property
    def replicates(self) -> int | None:
        """How often the whole protocol was repeated."""
        given = self.protocol.get("replicates")
        return (
            int(given)
            if isinstance(given, int)
            else max((len(arm.score.seeds) for arm in self.arms), default=0) or None
        )

    def ties(self, measure: str) -> bool:
        """Whether arms were compared by a measure and no difference is significant."""
        found = [d.significant for d in self.differences if d.measure == measure]
        return bool(found) and not any(found)

    @property
    def target_words(self) -> str:
        """How the target was set, as a sentence."""
        said = self.target_sentence.strip()
        if math.isfinite(self.target) and not said.lower().startswith("target"):
            said = f"Target: {said or f'validation {self.metric} {words.number(self.target)}'}"
        return words.first_up(words.sentence(said)).strip()


def read(result: Mapping[str, Any]) -> View:
    """The view of a result document."""
    target = result.get("target") or {}
    return View(
        tasks=tuple(str(task) for task in result.get("tasks") or ()),
        metric=str(result.get("metric") or "score"),
        arms=tuple(_arm(entry, i) for i, entry in enumerate(result.get("ranking") or ())),
        better=str(result.get("better") or "higher"),
        level=_or(result.get("level"), 0.95),
        verdict=str(result.get("verdict") or ""),
        seconds=_float(result.get("seconds")),
        runs=result.get("runs"),
        differences=tuple(_difference(entry) for entry in result.get("comparisons") or ()),
        target=_float(target.get("score")),
        target_sentence=str(target.get("sentence") or ""),
        protocol=result.get("protocol") or {},
        notes=tuple(str(note) for note in result.get("notes") or ()),
        baseline=_baseline(result.get("baseline")),
    )


def _arm(entry: Mapping[str, Any], style: int) -> Arm:
    loss = entry.get("loss") or {}
    return Arm(
        label=str(entry.get("arm", "")),
        style=style,
        rank=entry.get("rank"),
        settings=entry.get("settings") or {},
        score=_estimate(entry, "score"),
        loss=_estimate(loss, "value"),
        tied_with=tuple(str(name) for name in entry.get("tied_with") or ()),
        boundary=bool(entry.get("boundary")),
        steps=_float(entry.get("steps_to_target")),
        seconds=_float(entry.get("seconds_to_target")),
        reached=_pair(entry.get("reached")),
        working=_working(entry),
        rates=_rates(entry.get("rates")),
        diverged={
            str(k): pair for k, v in (entry.get("diverged") or {}).items() if (pair := _pair(v)) is not None
        },
        findings=tuple(entry.get("findings") or ()),
    )


def _estimate(entry: Mapping[str, Any], name: str) -> Estimate:
    seeds = tuple(_float(seed) for seed in entry.get("seeds") or ())
    return Estimate(_float(entry.get(name)), _float(entry.get("low")), _float(entry.get("high")), seeds)


def _working(entry: Mapping[str, Any]) -> Working | None:
    given = entry.get("working")
    if not given:
        return None
    number = {
        name: _float(given.get(name)) for name in ("low", "high", "decades", "decades_low", "decades_high")
    }
    return Working(**number, open_low=bool(given.get("open_low")), open_high=bool(given.get("open_high")))


def _rates(given: Mapping[str, Any] | None) -> Rates | None:
    if not given or not given.get("values"):
        return None
    size = len(given["values"])
    values, scores, low, high, diverged, of = (
        floats(given.get(name), size) for name in ("values", "scores", "low", "high", "diverged", "of")
    )
    return Rates(values, scores, low, high, diverged, of, str(given.get("name") or "lr"))


def _difference(entry: Mapping[str, Any]) -> Difference:
    measure, unit, a, b = (str(entry.get(name) or "") for name in ("measure", "unit", "a", "b"))
    value, low, high, p, p_holm = (
        _float(entry.get(name)) for name in ("difference", "low", "high", "p", "p_holm")
    )
    return Difference(measure, unit, a, b, value, low, high, p, p_holm, bool(entry.get("significant")))


def _baseline(given: Mapping[str, Any] | None) -> Baseline | None:
    if not given:
        return None
    pairs = tuple(_difference({**pair, "a": pair.get("arm")}) for pair in given.get("pairs") or ())
    return Baseline(str(given.get("store") or ""), str(given.get("sentence") or ""), pairs)


def floats(values: Sequence[Any] | None, size: int) -> Array:
    """Values as floats, of a given number: None and what is missing become NaN."""
    given = [_float(value) for value in values or ()][:size]
    return np.array(given + [math.nan] * (size - len(given)))


def _float(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _or(value: Any, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) else default


def _pair(value: Any) -> tuple[int, int] | None:
    return (int(value[0]), int(value[1])) if isinstance(value, (list, tuple)) and len(value) == 2 else None
