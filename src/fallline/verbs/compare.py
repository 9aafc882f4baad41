"""Compare rules, models, losses or data options: the main question."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import BadValue
from ..fleet import Fleet
from ..reports.write import write_report
from ..studies.arms import arms, check_tasks
from ..studies.compare import Protocol, study_of
from ..studies.memory import Memory
from ..tasks.base import Task
from ..tasks.find import find
from . import baseline as baselines
from . import budget
from .carry_out import Limit, Question, carry_out, kept_beside, report_of
from .comparison import Comparison
from .folder import new_folder, new_store
from .provenance import asked_for, provenance

RULES = ("sgd", "momentum", "adagrad", "rmsprop", "adam")


def compare(
    tasks: Task | str | Sequence[Task | str],
    rules: Sequence[Any] | None = None,
    *,
    steps: int = 600,
    batch: int | None = None,
    replicates: int | None = None,
    rates: int | None = None,
    seeds: int | None = None,
    retune: bool | None = None,
    target: float | None = None,
    level: float = 0.95,
    seed: int = 0,
    minutes: float | None = None,
    baseline: str | Path | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    executor: str = "auto",
    device: str = "auto",
    every: float = 60.0,
    progress: bool | None = None,
) -> Comparison:
    """Which arm is best, by how much, how sure? Arms are tasks × rules; all are scored by one metric.

    In each replicate every arm is tuned over its learning rates, chosen on validation, trained again on fresh seeds
    and judged on test; intervals and tests are over replicates, paired across arms. A difference that is not
    significant is called a tie. Ctrl-C or SIGTERM stop it at the next step; :func:`fl.resume` goes on from there, and from
    a process that was killed, to the same bits.

    Args:
        tasks: a task, a built-in name, or ``path/file.py:function``; or several, to ask whether a change is better.
        rules: names (``"adam"``: its learning rate is tuned), rules, or texts such as ``"adam(lr=0.01)"``. Left out:
            sgd, momentum, adagrad, rmsprop and adam for one task, adam for several.
        steps: steps of each run.
        batch: examples in a training batch; the first task's where left out.
        replicates: repetitions of the whole protocol; 10 where left out.
        rates: learning rates that each arm tries at first; 9 where left out.
        seeds: seeds per setting, and fresh seeds for the chosen one; 3 where left out.
        retune: False tunes once instead of in every replicate: cheaper, and it holds at these settings only.
        target: the validation score that counts as reached; left out, 95 % of the best arm's gain.
        level: the confidence level.
        seed: the first seed.
        minutes: a time budget: the richest protocol that fits is run.
        baseline: an earlier store to hold the arms against; see ``Comparison.worse``.
        out: a folder for the store and the report; left out, a new one under ``fallline-out``.
        workers: processes, 0 for this one; one per core where left out.
        executor: auto, traced, compiled or alone; on a GPU auto, graphed, traced or alone.
        device: cpu, cuda, cuda:1; auto takes a GPU where there is one, runs are long, and a trial finds it faster.
        every: seconds between two checkpoints of a block of runs; one that is killed loses no more.
        progress: whether to show a progress bar; left out, where someone is watching.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = compare("digits", ["sgd", "adam"], steps=20, replicates=2, rates=2, seeds=1, out=folder, workers=0)
    >>> [row["arm"] for row in found.ranking]
    ['adam', 'sgd']
    """
    named = several(tasks)
    found = named_tasks(named)
    given = several((RULES if len(found) == 1 else RULES[-1]) if rules is None else rules)
    asked = {"replicates": replicates, "rates": rates, "seeds": seeds, "retune": retune}
    set_by_user = {name: value for name, value in asked.items() if value is not None}
    protocol = Protocol(
        steps=steps, batch=found[0].batch if batch is None else batch, level=level, seed=seed, target=target,
        **set_by_user,  # type: ignore[arg-type]
    )  # fmt: skip
    if minutes is not None and not 0 < minutes < math.inf:
        raise BadValue(f"minutes must be a number above 0, got {minutes!r}")
    question = Question(found, arms(found, given, protocol.rates), protocol, None, baseline)
    if baseline is not None:
        baselines.check(baseline, found[0].metric, [arm.label for arm in question.arms])
    store = new_folder(out, f"compare-{found[0].name}") / "study.db"
    check_every(every)
    began, plan = time.perf_counter(), None
    how: dict[str, Any] = {"workers": workers, "executor": executor, "device": device}
    how |= {"steps": steps, "batch": protocol.batch}
    if minutes is not None:
        with Fleet(found, **how) as pilot:
            speed, plan = budget.measure(pilot, question.arms, protocol.batch), pilot.plan()
        question = _fitted(question, Limit(minutes, speed), given, set(set_by_user))
    keep = kept_beside(store, every)
    with Fleet(found, **how, keep=keep, plan=plan) as fleet:
        options = asked_for(
            named, store.parent, question, workers=workers, executor=executor, device=device, every=every
        )  # fmt: skip
        facts = provenance(found, named, fleet.plan()) | options
        with new_store(store, study_of(found, question.arms, question.protocol), facts) as opened:
            carry_out(question, fleet, opened, began, Memory(), progress)
    write_report(store, report_of(store))
    return Comparison.of(store)


def check_every(every: Any) -> None:
    """Refuse what is no time between checkpoints."""
    if isinstance(every, bool) or not isinstance(every, (int, float)) or not every >= 0:
        raise BadValue(f"every is the number of seconds between two checkpoints, at least 0; got {every!r}")


def _fitted(question: Question, limit: Limit, given: Sequence[Any], set_by_user: set[str]) -> Question:
    """The question with the richest protocol that fits into the time."""
    tasks = question.tasks
    protocol, note = budget.fit(
        limit.speed, question.protocol, lambda points: arms(tasks, given, points), limit.minutes, set_by_user
    )  # fmt: skip
    compared = arms(tasks, given, protocol.rates)
    return replace(question, arms=compared, protocol=protocol, limit=limit, notes=(note,))


def several(given: Any) -> list[Any]:
    """One or several: a text is one, a sequence is several."""
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def named_tasks(named: Sequence[Task | str]) -> list[Task]:
    """The tasks that are meant, by names that tell them apart."""
    found = [find(name) if isinstance(name, str) else name for name in named]
    names = [task.name if isinstance(task, Task) else "" for task in found]
    labels = [
        replace(task, name=name) if isinstance(name, str) and names.count(task.name) > 1 else task
        for task, name in zip(found, named, strict=True)
    ]
    check_tasks(labels)
    return labels
