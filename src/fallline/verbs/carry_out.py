"""Carry out a comparison in its store, from the beginning or from where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..fleet import Fleet, Keep
from ..records import Record
from ..store import Store
from ..studies.arms import Arm
from ..studies.compare import Compared, Protocol
from ..studies.compare import compare as run_comparison
from ..studies.judge import judge
from ..studies.memory import Memory
from ..tasks.base import Task
from . import baseline as baselines
from .budget import Speed
from .progress import Meter, meter
from .stopping import stopping

CHECKPOINTS = "checkpoints"
"""The folder beside a store in which blocks in training are kept."""


@dataclass(frozen=True)
class Limit:
    """A time budget.

    Args:
        minutes: of the whole comparison.
        speed: what was measured.
    """

    minutes: float
    speed: Speed

    def plain(self) -> dict[str, float]:
        """For the provenance."""
        return {"minutes": self.minutes, "per_run_step": self.speed.per_run_step, "start": self.speed.start}

    @staticmethod
    def rebuild(data: Mapping[str, float]) -> Limit:
        """The limit that :meth:`plain` wrote down."""
        return Limit(data["minutes"], Speed(data["per_run_step"], data["start"]))


@dataclass(frozen=True)
class Question:
    """A comparison that is asked for, in all that its answer depends on.

    Args:
        tasks: what is trained.
        arms: what is compared.
        protocol: how.
        limit: how long it may take; None where it may take what it takes.
        baseline: an earlier store to hold the arms against.
        notes: what must be said beside the answer.
    """

    tasks: Sequence[Task]
    arms: Sequence[Arm]
    protocol: Protocol
    limit: Limit | None = None
    baseline: str | Path | None = None
    notes: tuple[str, ...] = ()


def carry_out(
    question: Question, fleet: Fleet, store: Store, began: float, memory: Memory, progress: bool | None
) -> None:
    """Train what is still to be trained, judge, and write the result into the store.

    Args:
        question: what is asked.
        fleet: holds the tasks, and keeps its blocks in the folder of checkpoints beside the store.
        store: open to be written.
        began: the time at which this process began with it, by ``time.perf_counter``.
        memory: what earlier processes left.
        progress: whether to show a progress bar; None, where someone is watching.
    """
    keep = fleet.pool.keep
    assert keep is not None
    before = sum(record.outcome.seconds for record in memory.records.values()) / len(fleet.pool)
    title = f"comparing {len(question.arms)} arms on {' and '.join(task.name for task in question.tasks)}"

    def sink(records: list[Record]) -> None:
        store.add(records)
        keep.forget([record.run for record in records])  # only now: at every moment one of the two has them

    with _noted(fleet, store), stopping(fleet), meter(title, shown=progress) as bar:
        found = _run(question, fleet, sink, bar, _growth(question, store, began - before, bar), memory)
    document = judge(found, time.perf_counter() - began + before, store.count())
    document["notes"] = [*document["notes"], *question.notes]
    document |= {"store": str(store.path), "report": str(report_of(store.path))}
    if question.baseline is not None:
        document["baseline"] = baselines.against(question.baseline, document)
    store.finish(document)
    keep.clear()


def kept_beside(store: Path, every: float) -> Keep:
    """Where the blocks of a study are kept."""
    return Keep(store.parent / CHECKPOINTS, every)


def report_of(store: Path) -> Path:
    """Where the report of a study is."""
    return store.parent / "report.html"


def _run(
    question: Question, fleet: Fleet, sink: Callable[[list[Record]], None], bar: Meter, more: Callable[[int], bool],
    memory: Memory,
) -> Compared:  # fmt: skip
    bar.expect(sum(question.protocol.runs(arm) for arm in question.arms) * question.protocol.steps)
    return run_comparison(fleet, question.arms, question.protocol, sink, bar, more, memory)


def _growth(question: Question, store: Store, began: float, bar: Meter) -> Callable[[int], bool]:
    """Whether ranges may grow by so many runs: as was decided before a stop, else while there is time."""
    protocol, limit = question.protocol, question.limit
    decided: list[bool] = list(store.provenance.get("growth", []))
    asked = iter(decided[:])

    def allowed(runs: int) -> bool:
        if limit is None:
            return True
        finals = len(question.arms) * protocol.replicates * protocol.seeds
        need = limit.speed.seconds((runs + finals) * protocol.steps)
        decided.append(time.perf_counter() + need <= began + 60 * limit.minutes)
        store.note({"growth": decided})
        return decided[-1]

    def more(runs: int) -> bool:
        answer = next(asked, None)
        answer = allowed(runs) if answer is None else answer
        bar.expect(runs * protocol.steps if answer else 0)
        return answer

    return more


@contextmanager
def _noted(fleet: Fleet, store: Store) -> Iterator[None]:
    """Write what happened to the fleet into the provenance, however its training ends."""
    try:
        yield
    finally:
        plan: dict[str, Any] = fleet.plan()
        earlier = store.provenance.get("plan", {}).get("events", [])
        plan["events"] = list(dict.fromkeys([*earlier, *plan["events"]]))
        store.note({"plan": plan})
