"""What a comparison would be, before anything is trained: programs, blocks, memory, time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BadValue
from ..fleet import Fleet, settings_for
from ..reports.table import Table
from ..specs import Run
from ..studies.arms import Arm, arms
from ..studies.compare import Protocol
from ..tasks.base import Task
from . import budget
from .compare import RULES, named_tasks, several


@dataclass(frozen=True)
class Plan:
    """What :func:`plan` found: it prints as a table with its sentence, and shows itself in a notebook.

    Args:
        document: the plan as plain data, as ``fallline compare --plan --json`` prints it.
    """

    document: dict[str, Any]

    @property
    def table(self) -> Table:
        """A row for each kind of run."""
        rows = tuple(
            (
                f"{row['runs']:,}", row["task"], ", ".join(row["arms"]), f"{row['blocks']} × {row['largest_block']}",
                row["executor"] if row["device"] == "cpu" else f"{row['executor']}, {row['device']}", _size(row["bytes"]),
            )
            for row in self.document["rows"]
        )  # fmt: skip
        return Table(
            ("runs", "task", "arms", "blocks", "executor", "memory"), rows, (True, *[False] * 4, True)
        )

    @property
    def sentence(self) -> str:
        """How long it would take, and what it would hold in memory."""
        told = self.document
        where = f"in {_count(told['workers'], 'process', 'processes')}"
        if told["device"] != "cpu":
            where = f"on {told['device']}"
        return (
            f"{told['runs']:,} runs of {told['steps']:,} steps {where}: "
            f"about {_time(told['seconds'])}, and {_size(told['bytes'])} of memory for runs in training, of "
            f"{_size(told['free'])} that are free. {told['advice']}"
        )

    def __str__(self) -> str:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in self.document["reasons"].items())
        return f"{self.table.text()}\n{reasons}\n\n{self.sentence}"

    def _repr_html_(self) -> str:
        import html

        return f"<p><strong>{html.escape(self.sentence)}</strong></p>{self.table.html()}"


def plan(
    tasks: Task | str | Sequence[Task | str],
    rules: Sequence[Any] | None = None,
    *,
    steps: int = 600,
    batch: int | None = None,
    workers: int | None = None,
    executor: str = "auto",
    device: str = "auto",
    minutes: float | None = None,
    **protocol: Any,
) -> Plan:
    """What :func:`compare` with these arguments would train, how, and for how long; a few steps are tried.

    Args:
        tasks, rules, steps, batch, workers, executor, device: as for :func:`compare`.
        minutes: a time budget: whether it would fit is told, with what would make it.
        **protocol: replicates, rates, seeds, retune, level and seed, as for :func:`compare`.

    >>> found = plan("digits", ["sgd", "adam"], replicates=2, rates=2, seeds=1, workers=0)
    >>> [(row["arms"], row["runs"]) for row in found.document["rows"]]
    [(['sgd'], 6), (['adam'], 6)]
    """
    if minutes is not None and not 0 < minutes < math.inf:
        raise BadValue(f"minutes must be a number above 0, got {minutes!r}")
    found = named_tasks(several(tasks))
    given = several((RULES if len(found) == 1 else RULES[-1]) if rules is None else rules)
    set_by_user = {name: value for name, value in protocol.items() if value is not None}
    asked = Protocol(steps=steps, batch=found[0].batch if batch is None else batch, **set_by_user)
    compared = arms(found, given, asked.rates)
    runs = [run for arm in compared for run in _runs(arm, asked)]
    how: dict[str, Any] = {"workers": workers, "executor": executor, "device": device}
    with Fleet(found, **how, steps=steps, batch=asked.batch) as fleet:
        settings = settings_for(found, steps, asked.batch, judge=True)
        rows = fleet.forecast([(arm.task, run) for arm, run in runs], settings)
        speed = budget.measure(fleet, compared, asked.batch)
        told, free = fleet.plan(), fleet.free()
    for row in rows:
        row["arms"] = list(dict.fromkeys(runs[i][0].label for i in row.pop("positions")))
    seconds = speed.seconds(len(runs) * steps)
    largest = sorted((row["bytes"] for row in rows), reverse=True)[: told["workers"]]
    document = {
        "workers": told["workers"], "runs": len(runs), "steps": steps, "seconds": seconds, "bytes": sum(largest),
        "free": free, "device": told["device"], "rows": rows, "reasons": {n: t["reason"] for n, t in told["tasks"].items()},
        "advice": _advice(speed, asked, seconds, len(runs), minutes),
    }  # fmt: skip
    return Plan(document)


def _runs(arm: Arm, protocol: Protocol) -> list[tuple[Arm, Run]]:
    """The runs of an arm, with its first setting in place of those that will be chosen."""
    settings = arm.settings()
    tuned = [
        (setting, seed)
        for replicate in range(protocol.tunings if arm.path else 0)
        for setting in settings
        for seed in protocol.tuning_seeds(replicate)
    ]
    final = [(settings[0], seed) for r in range(protocol.replicates) for seed in protocol.fresh_seeds(r)]
    return [(arm, Run(arm.at(setting), seed)) for setting, seed in (*tuned, *final)]


def _advice(speed: budget.Speed, protocol: Protocol, seconds: float, runs: int, minutes: float | None) -> str:
    """What to do where it takes too long."""
    if minutes is None:
        return "A time budget (--minutes) runs the richest protocol that fits into it."
    if seconds <= 60 * minutes:
        return f"That is within {minutes:g} minutes."
    fewer = max(1, int((60 * minutes - speed.start) / speed.per_run_step / runs))
    return (
        f"That is more than {minutes:g} minutes. What would fit: --minutes {minutes:g} (fewer replicates, rates and "
        f"seeds, ten replicates where that can be); or --steps {fewer}, with the warning that ranks after {fewer} "
        f"steps need not be those after {protocol.steps}; or two arms at a time, whose paired difference takes the "
        "fewest runs."
    )


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
