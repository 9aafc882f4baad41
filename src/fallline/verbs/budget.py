"""Fit a comparison into a time budget: measure a few steps, then choose the richest protocol that fits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..errors import BadValue
from ..fleet import Fleet, settings_for
from ..specs import Run
from ..studies.arms import Arm
from ..studies.compare import Protocol

SHARE = 0.8
"""Of the budget that is planned for; the rest is for evaluation, the report and a noisy machine."""
PILOT = (10, 40)


@dataclass(frozen=True)
class Speed:
    """What a fleet was measured to do.

    Args:
        per_run_step: seconds of all workers together for one step of one run.
        start: seconds before the first step (programs are made).
    """

    per_run_step: float
    start: float

    def seconds(self, run_steps: float) -> float:
        """The time for so many run-steps."""
        return self.start + self.per_run_step * run_steps


def measure(fleet: Fleet, arms: Sequence[Arm], batch: int) -> Speed:
    """Time every arm for a few steps, and for a few more: the difference is the cost of a step."""
    asked = [
        (arm.task, Run(arm.at(setting), seed)) for arm in arms for setting in arm.settings() for seed in range(6)
    ]  # fmt: skip
    times = []
    for steps in PILOT:
        began = time.perf_counter()
        for _ in fleet.train(asked, settings_for(fleet.tasks, steps, batch, judge=False)):
            pass
        times.append(time.perf_counter() - began)
    per_step = max((times[1] - times[0]) / (PILOT[1] - PILOT[0]), times[1] / PILOT[1] / 10)
    return Speed(per_step / len(asked), max(times[0] - PILOT[0] * per_step, 0.0))


def fit(
    speed: Speed,
    protocol: Protocol,
    arms_for: Callable[[int], Sequence[Arm]],
    minutes: float,
    asked: set[str],
) -> tuple[Protocol, str]:
    """The richest protocol that fits into the time, and a sentence that says what it is.

    Args:
        speed: what was measured.
        protocol: what would be run without a budget.
        arms_for: the arms for a number of rates.
        minutes: the budget.
        asked: the fields of the protocol that the user set: they stay.
    """
    least = float("inf")
    for candidate in _ladder(protocol, asked):
        runs = sum(candidate.runs(arm) for arm in arms_for(candidate.rates))
        seconds = speed.seconds(runs * candidate.steps)
        if seconds <= SHARE * 60 * minutes:
            return candidate, (
                f"within {minutes:g} minutes: {candidate.replicates} replicates, {candidate.rates} rates × "
                f"{candidate.seeds} seeds{'' if candidate.retune else ', tuned once'}, {runs:,} runs of "
                f"{candidate.steps} steps, estimated {seconds:.0f} s"
            )
        least = min(least, seconds)
    raise BadValue(
        f"{minutes:g} minutes are too few: the smallest comparison that can be believed takes about "
        f"{least / SHARE / 60:.2g} minutes here; allow that, ask for fewer steps (--steps), or compare fewer arms"
    )


def _ladder(protocol: Protocol, asked: set[str]) -> Iterator[Protocol]:
    """Protocols from the richest to the poorest, none of them with less than ten replicates unless asked for."""
    rungs: list[dict[str, object]] = [{"replicates": n} for n in (40, 30, 20, 15)]
    rungs += [{}, {"rates": 7}, {"rates": 7, "seeds": 2}, {"rates": 5, "seeds": 2}, {"rates": 5, "seeds": 1}]
    rungs += [
        {"retune": False},
        {"retune": False, "rates": 5, "seeds": 2},
        {"retune": False, "rates": 5, "seeds": 1},
    ]
    for rung in rungs:
        own = {name: value for name, value in rung.items() if name not in asked}
        yield replace(protocol, **own)  # type: ignore[arg-type]
