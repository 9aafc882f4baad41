"""A made-up comparison, realistic enough to look at: records, and the result document that belongs to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from fallline.records import Outcome, Record, Series
from fallline.specs import Rule, Run, Study
from fallline.store import Store

STEPS, SEEDS, TARGET = 600, 3, 0.93


@dataclass(frozen=True)
class Made:
    """An arm that was made up: its best rate, how sharp its optimum is, its best score and its pace in steps."""

    label: str
    best: float
    decades: float = 1.5
    score: float = 0.970
    pace: float = 40.0
    limit: float = np.inf  # learning rates from here on diverge

    @property
    def rates(self) -> np.ndarray:
        return np.array([float(f"{self.best * 10**e:.3g}") for e in np.linspace(-2, 2, 9)])

    def reach(self, rate: float) -> float:
        """The score that a learning rate ends at."""
        off = np.log10(rate / self.best) / self.decades
        return 0.1 + (self.score - 0.1) * float(np.exp(-0.15 * off**4 - 0.01 * off**2))


FIVE = (
    Made("adam", 0.01, 1.45, 0.9712, 34),
    Made("rmsprop", 0.003, 1.2, 0.9695, 38),
    Made("adagrad", 0.05, 1.3, 0.9641, 55),
    Made("momentum", 0.05, 1.0, 0.9668, 62, limit=1.0),
    Made("sgd", 0.3, 0.8, 0.9540, 120, limit=3.0),
)


def runs(made: Sequence[Made], replicates: int) -> Iterator[Record]:
    """Every run: tuning over nine rates with three seeds, then three fresh seeds at the best rate."""
    rng = np.random.default_rng(0)
    for arm, replicate in product(made, range(replicates)):
        for rate, seed in product(arm.rates, range(SEEDS)):
            yield run(rng, arm, replicate, "tune", float(rate), 1000 * replicate + seed)
        for seed in range(SEEDS):
            yield run(rng, arm, replicate, "final", arm.best, 1000 * replicate + 500 + seed)


def run(rng: np.random.Generator, arm: Made, replicate: int, stage: str, rate: float, seed: int) -> Record:
    """One run."""
    tags = {
        "arm": arm.label,
        "task": "digits",
        "replicate": replicate,
        "stage": stage,
        "settings": {"lr": rate},
    }
    asked = Run(Rule(arm.label, {"lr": rate}), seed=seed, tags=tags)
    end = arm.reach(rate) + 0.006 * rng.normal()
    ends = STEPS if rate < arm.limit else int(rng.integers(12, 60))
    steps = np.arange(0, ends + 1, 15 if stage == "final" else 100)
    shape = np.exp(-((steps / (arm.pace * rng.uniform(0.8, 1.25) * (1 + 0.2 * (rate < arm.best)))) ** 0.8))
    score = np.clip(end - (end - 0.1) * shape + 0.008 * rng.normal(size=len(steps)) * (1 - shape), 0, 1)
    floor = 2.1 * (1 - end) + 0.045
    loss = floor + (2.3 - floor) * shape * np.exp(0.05 * rng.normal(size=len(steps)))
    if ends < STEPS:
        loss = loss * 10 ** (steps / 8)
    series = {"validation_loss": Series(steps, loss), "validation_score": Series(steps, score)}
    if ends < STEPS:
        sentence = f"the loss left the finite numbers at step {ends}: the learning rate {rate:g} is too large"
        return Record(asked, Outcome("diverged", ends, sentence, 0.02), series if stage == "final" else {})
    numbers = {"validation_loss": float(loss[-1]), "validation_score": float(score[-1])}
    if stage == "tune":
        return Record(asked, Outcome("finished", STEPS, "", 0.02, numbers))
    numbers |= {"test_loss": float(loss[-1] + 0.01 * rng.normal()), "test_score": end}
    return Record(
        asked, Outcome("finished", STEPS, "", 0.02, numbers), series, {"test_score": rng.random(60) < end}
    )


def result(records: Sequence[Record], made: Sequence[Made], replicates: int) -> dict[str, Any]:
    """The result document of these runs."""
    ranking = sorted((_entry(records, arm, replicates) for arm in made), key=lambda e: -(e["score"] or -1))
    scores = {e["arm"]: np.array(e["seeds"], dtype=float) for e in ranking}
    comparisons = [
        _pair("accuracy", "share", a, b, scores[a] - scores[b]) for a, b in combinations(scores, 2)
    ]
    steps = {arm.label: arm.pace * 3.1 for arm in made}
    comparisons += [
        _pair("steps to target", "steps", a, b, steps[a] - steps[b] + 6 * np.sin(np.arange(replicates)))
        for a, b in combinations(scores, 2)
    ]
    beaten = {(c["b"], c["a"]) for c in comparisons if c["measure"] == "accuracy" and c["significant"]}
    for entry in ranking:
        entry["rank"] = (
            1 + sum(1 for worse, _ in beaten if worse == entry["arm"]) if entry["score"] else len(made)
        )
        entry["tied_with"] = [
            other for other in scores
            if other != entry["arm"] and not {(other, entry["arm"]), (entry["arm"], other)} & beaten
        ]  # fmt: skip
    leaders = [e["arm"] for e in ranking if e["rank"] == 1]
    verdict = (
        f"{leaders[0]} has the highest test accuracy"
        if len(leaders) == 1
        else f"{' and '.join(leaders)} tie for the highest test accuracy"
    )
    return {
        "tasks": ["digits"], "metric": "accuracy", "better": "higher", "level": 0.95, "store": "study.db",
        "report": "report.html", "seconds": 61.2, "runs": len(records),
        "verdict": f"{verdict}. Any difference to the others is smaller than what ten replicates can show, or is given below.",
        "ranking": ranking, "comparisons": comparisons,
        "target": {"score": TARGET, "sentence": "Target: the validation accuracy that the median arm reaches after half of its steps, 0.93."},
        "protocol": {"replicates": replicates, "rates": 9, "seeds": SEEDS, "steps": STEPS, "batch": 32, "metric": "accuracy"},
        "notes": ["The best learning rate of sgd, 0.3, lies inside of the range that was searched, as do all others."],
    }  # fmt: skip


def _entry(records: Sequence[Record], arm: Made, replicates: int) -> dict[str, Any]:
    own = [r for r in records if r.arm == arm.label]
    final = [r for r in own if r.stage == "final"]
    alive = all(not r.outcome.diverged for r in final)

    def seeds(name: str) -> list[float | None]:
        if not alive:
            return [None] * replicates
        groups = [
            [r.outcome.numbers[name] for r in final if r.run.tags["replicate"] == i]
            for i in range(replicates)
        ]
        return [float(np.mean(group)) for group in groups]

    columns: dict[str, list[float | None]] = {
        name: [] for name in ("scores", "low", "high", "diverged", "of")
    }
    for rate in arm.rates:
        here = [r for r in own if r.stage == "tune" and r.run.tags["settings"]["lr"] == float(rate)]
        lost = sum(r.outcome.diverged for r in here)
        mean = None if lost else float(np.mean([r.outcome.numbers["validation_score"] for r in here]))
        half = None if mean is None else 0.004 + 0.1 * mean * (1 - mean)
        for name, value in (("scores", mean), ("low", mean and mean - half), ("high", mean and mean + half)):
            columns[name].append(value)
        columns["diverged"].append(lost)
        columns["of"].append(len(here))
    good = [r for r, s in zip(arm.rates, columns["scores"], strict=True) if s is not None and s >= TARGET]
    working = None
    if good:
        decades = float(np.log10(good[-1] / good[0])) + 0.2
        working = {"low": good[0] / 1.2, "high": good[-1] * 1.2, "decades": decades, "open_low": False,
                   "open_high": arm.label == "adagrad", "decades_low": decades - 0.2, "decades_high": decades + 0.2}  # fmt: skip
    score, loss = _estimate(seeds("test_score")), _estimate(seeds("test_loss"))
    tuned = [r for r in own if r.stage == "tune"]
    return {
        "arm": arm.label, "task": "digits", "rule": arm.label, "rank": 1, "settings": {"lr": arm.best}, **score,
        "seeds": seeds("test_score"), "tied_with": [], "boundary": False,
        "steps_to_target": arm.pace * 3.1 if alive else None, "seconds_to_target": arm.pace * 1.1e-4 if alive else None,
        "reached": [len(final) - 1, len(final)] if alive else [0, len(final)],
        "working_range": working and working["decades"], "working": working,
        "loss": {"value": loss["score"], "low": loss["low"], "high": loss["high"], "seeds": seeds("test_loss")} if alive else None,
        "rates": {"values": [float(r) for r in arm.rates], **columns},
        "diverged": {"tune": [sum(r.outcome.diverged for r in tuned), len(tuned)],
                     "final": [sum(r.outcome.diverged for r in final), len(final)]},
        "findings": [],
    }  # fmt: skip


def _estimate(seeds: Sequence[float | None]) -> dict[str, float | None]:
    if any(seed is None for seed in seeds):
        return {"score": None, "low": None, "high": None}
    values = np.array(seeds, dtype=float)
    half = 2.26 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.01
    return {
        "score": float(values.mean()),
        "low": float(values.mean() - half),
        "high": float(values.mean() + half),
    }


def _pair(measure: str, unit: str, a: str, b: str, difference: np.ndarray) -> dict[str, Any]:
    estimate = _estimate([float(d) if np.isfinite(d) else None for d in difference])
    signs = np.array(list(product((-1, 1), repeat=min(len(difference), 10))))
    p = float(np.mean(np.abs(signs @ difference[:10]) >= abs(difference[:10].sum()) - 1e-12))
    finite = np.isfinite(difference).all()
    return {
        "measure": measure, "unit": unit, "a": a, "b": b, "difference": estimate["score"], "low": estimate["low"],
        "high": estimate["high"], "p": p if finite else None, "p_holm": min(1.0, 10 * p) if finite else None,
        "significant": bool(finite and 10 * p < 0.05),
    }  # fmt: skip


PROVENANCE = {
    "command": [
        "fallline",
        "compare",
        "digits",
        "--rules",
        "adam,rmsprop,adagrad,momentum,sgd",
        "--out",
        "my study",
    ],
    "code": {"fallline": "0.1.0", "commit": "4f1c2d9", "changed files": 0},
    "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.0"},
    "hardware": {"cpu": "Example CPU, 2 cores", "threads": 2},
    "seeds": {"first": 0, "per replicate": 1000},
    "plan": {"executor": "compiled", "runs in a block": 32},
    "began": "2026-01-01T12:00:00+00:00",
}


def study(made: Sequence[Made], replicates: int) -> Study:
    """The question."""
    arms = tuple({"arm": arm.label, "rule": Rule(arm.label, {"lr": arm.best})} for arm in made)
    planned = len(made) * replicates * (9 * SEEDS + SEEDS)
    protocol = {
        "replicates": replicates,
        "rates": 9,
        "seeds": SEEDS,
        "steps": STEPS,
        "batch": 32,
        "metric": "accuracy",
        "runs": planned,
    }
    return Study("compare", ("digits",), arms, protocol)


def write(path: Path, made: Sequence[Made] = FIVE, replicates: int = 10, *, finished: bool = True) -> Path:
    """A store of a made-up comparison; one that is not finished holds a part of its runs."""
    every = list(runs(made, replicates))
    with Store.create(path, study(made, replicates), PROVENANCE) as store:
        store.add(every if finished else every[: len(every) * 2 // 3])
        if finished:
            store.finish(result(every, made, replicates))
    return path
