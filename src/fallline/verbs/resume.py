"""Go on with a comparison, or with a study of the lecture, that was stopped or killed."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import rules
from ..errors import BadStore, BadTask
from ..fleet import Fleet, Keep
from ..fleet.keep import identity
from ..records import json_text
from ..reports.write import folder_for, write_report
from ..store import Store
from ..studies.arms import Arm
from ..studies.compare import Protocol
from ..studies.memory import Memory
from ..tasks.base import Task
from . import study
from .carry_out import CHECKPOINTS, Limit, Question, carry_out, kept_beside, report_of
from .compare import check_every, named_tasks
from .comparison import Comparison
from .provenance import provenance, source, sources
from .stopping import telling


def resume(
    store: str | Path,
    tasks: Sequence[Task | str] | Task | str | None = None,
    *,
    workers: int | None = None,
    device: str | None = None,
    every: float | None = None,
    progress: bool | None = None,
    out: str | Path | None = None,
) -> Comparison | study.Studied:
    """Go on with a comparison, or a study of the lecture, that was stopped or killed, to the same numbers, bit for bit, that it would have had.

    Runs whose records are in the store are not trained again; runs that were in training go on from their last
    checkpoint. Where torch, fallline or the processor are others than at the beginning, the answer says so: the last
    bits may differ then. Of a study that is finished, the report is written again.

    Args:
        store: the store (``study.db``), or the folder that holds it.
        tasks: the same tasks again, where they were given as Python objects; else they are found by their names.
        workers: processes, 0 for this one; as before where left out.
        device: cpu, cuda, cuda:1; as before where left out. On another, runs agree with those of before within rounding.
        every: seconds between two checkpoints of a block of runs; as before where left out.
        progress: whether to show a progress bar; left out, where someone is watching.
        out: a folder for ``report.html``; beside the store where left out.

    Raises:
        BadStore: where another process writes the store, where it holds another kind of study, or where data or code of
            a task are others than at the beginning.
        BadTask: where the tasks cannot be found by name, or other ones are given.

    >>> import tempfile
    >>> from fallline.verbs.compare import compare
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     small = {"steps": 20, "replicates": 2, "rates": 2, "seeds": 1, "workers": 0}
    ...     found = compare("digits", ["sgd", "adam"], out=folder, **small)
    ...     again = resume(folder)  # which is finished: nothing is trained
    >>> again.document == found.document
    True
    """
    path = store_in(store)
    done = finished(path)
    written = report_of(path) if out is None else folder_for(Path(out) / "report.html")
    if not done or _left_over(path):
        with Store.resume(path) as held, telling(path.parent, resumable=tasks is None):
            if not held.finished:
                if held.study.kind == "study":
                    study.go_on(held, workers=workers, device=device, every=every, progress=progress)
                else:
                    _go_on(held, tasks, workers, device, every, progress)
            kept_beside(path, 0.0).clear()
    write_report(path, written)
    answer = _answer(path)
    moved = not Path(answer.document["store"]).exists()  # since then, or seen from another folder
    here = {"store": str(path), "report": str(written)} if moved else {}
    asked = {} if out is None else {"report": str(written)}
    return type(answer)({**answer.document, **here, **asked})


def _answer(path: Path) -> Comparison | study.Studied:
    with Store.open(path) as held:
        kind = held.study.kind
    return study.Studied.of(path) if kind == "study" else Comparison.of(path)


def store_in(store: str | Path) -> Path:
    """The file of a study, given itself or by its folder."""
    path = Path(store)
    return path / "study.db" if path.is_dir() else path


def finished(path: Path) -> bool:
    """Whether a study is finished.

    Raises:
        BadStore: where it is one of a kind that cannot be gone on with.
    """
    with Store.open(path) as held:
        if held.study.kind not in ("compare", "study"):
            raise BadStore(
                f"{path} holds a study of the kind {held.study.kind!r}, and only comparisons and studies of the lecture can "
                "be gone on with: run it again"
            )
        return held.finished


def _left_over(path: Path) -> bool:
    """Whether a process was killed after the study was finished and before it had cleared up."""
    return any(
        (path.parent / name).exists() for name in (CHECKPOINTS, f"{path.name}-wal", f"{path.name}.lock")
    )


def _go_on(
    store: Store,
    tasks: Any,
    workers: int | None,
    device: str | None,
    every: float | None,
    progress: bool | None,
) -> None:
    began, facts = time.perf_counter(), store.provenance
    asked = facts.get("asked", {})
    named = _named(store, asked, tasks)
    question = _question(store, asked, named)
    _check_data(facts, question.tasks, store.path)
    _check_code(facts, named, store.path)
    every = asked.get("every", 60.0) if every is None else every
    check_every(every)
    as_before = asked.get("workers") if asked.get("workers") is not None else facts["plan"]["workers"]
    workers = as_before if workers is None else workers
    keep = kept_beside(store.path, every)
    executor = asked.get("executor", "auto") if device is None else "auto"
    with Fleet(
        question.tasks,
        workers=workers,
        executor=executor,
        device=device or "auto",
        batch=question.protocol.batch,
        keep=keep,
        plan=facts["plan"],
    ) as fleet:
        now = json.loads(json_text(provenance(question.tasks, named, fleet.plan())))
        memory, told = _memory(store, keep, same_code=facts["code"] == now["code"])
        changed = _changed(facts, now)
        fleet.pool.events += told
        store.note({"resumed": [*facts.get("resumed", []), {"at": _now(), "changed": changed, "told": told}]})
        carry_out(
            replace(question, notes=(*question.notes, *changed)), fleet, store, began, memory, progress
        )  # fmt: skip


def _named(store: Store, asked: Mapping[str, Any], tasks: Any) -> list[Any]:
    """The tasks, as objects or as names that lead to them from here."""
    if tasks is not None:
        return list(tasks) if isinstance(tasks, Sequence) and not isinstance(tasks, str) else [tasks]
    if not asked.get("tasks"):
        raise BadTask(
            f"the tasks of {store.path} were given as Python objects, which no store can hold: go on with it from Python, "
            f"by fl.resume({str(store.path)!r}, tasks=[…])"
        )
    return [_from(name, _begun_in(store, asked)) for name in asked["tasks"]]


def _begun_in(store: Store, asked: Mapping[str, Any]) -> Path:
    """The folder in which the study was begun, from which its names lead."""
    return (store.path.parent / asked.get("from", ".")).resolve()


def _from(name: str, folder: Path) -> str:
    """A name that begins with a path, as it leads there from another folder."""
    if folder == Path.cwd():
        return name
    path, colon, rest = name.rpartition(":")
    if (folder / name).exists():
        return str(folder / name)
    return f"{folder / path}{colon}{rest}" if path and (folder / path).exists() else name


def _question(store: Store, asked: Mapping[str, Any], named: Sequence[Any]) -> Question:
    study, limit = store.study, asked.get("limit")
    found = named_tasks(named)
    if len(found) == len(study.tasks):  # by the names that they had: those of clashing tasks are their paths
        found = [
            replace(task, name=then) if isinstance(name, str) else task
            for task, name, then in zip(found, named, study.tasks, strict=True)
        ]
    if [task.name for task in found] != list(study.tasks):
        raise BadTask(
            f"{store.path} compares {', '.join(study.tasks)}, but {', '.join(task.name for task in found)} was given: give "
            "the same tasks in the same order"
        )
    arms = [Arm(arm["label"], arm["task"], arm["rule"], arm.get("given", {})) for arm in study.arms]
    for arm in arms:
        rules.check_trains(arm.rule)
    baseline = asked.get("baseline")
    return Question(
        found, arms, Protocol(**study.protocol), limit and Limit.rebuild(limit),
        baseline and _from(baseline, _begun_in(store, asked)), tuple(asked.get("notes", ())),
    )  # fmt: skip


def _check_data(facts: Mapping[str, Any], tasks: Sequence[Task], path: Path) -> None:
    """Refuse data, models and losses that are not those with which the study began: its runs would be of two tasks."""
    for task in tasks:
        then, now = facts["tasks"].get(task.name, {}), json.loads(json_text(dict(task.facts)))
        differ = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
        if differ:
            raise BadStore(
                f"{task.name} is not as it was when {path} began: its {differ[0]} was {then.get(differ[0])}, and is "
                f"{now.get(differ[0])}; bring back what it was, or begin a new comparison"
            )


def _check_code(facts: Mapping[str, Any], named: Sequence[Any], path: Path) -> None:
    """Refuse files of code that have changed; tasks that are given as Python objects are their giver's affair."""
    for then, now in zip(facts.get("asked", {}).get("tasks", []), named, strict=False):
        before = facts["sources"].get(str(source(then)))
        for file, text in sources([now]).items():
            if before not in (None, text):
                raise BadStore(
                    f"{file} has changed since {path} began, so that its runs would be of two tasks: bring back its text, "
                    "which the store's provenance holds under 'sources', or begin a new comparison"
                )


def _memory(store: Store, keep: Keep, *, same_code: bool) -> tuple[Memory, list[str]]:
    """What the store and the checkpoints hold, and what must be said about them."""
    records = {identity(record.run): record for record in store.records()}
    standing, told = keep.standing()
    if standing and not same_code:
        keep.clear()
        return Memory(records), [
            "fallline is another than at the beginning, so blocks in training began anew"
        ]
    return Memory(records, standing), told


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is another than at the beginning and may change the last bits, in a sentence for each."""
    told = [
        (what, then[what]["processor"] if what == "hardware" else then[what].get("torch"), other)
        for what, other in (
            ("versions", now["versions"]["torch"]),
            ("hardware", now["hardware"]["processor"]),
        )
    ]
    told.append(("code", f"{then['fallline']} ({then['code']})", f"{now['fallline']} ({now['code']})"))
    gpus = [facts["plan"].get("gpu") for facts in (then, now)]
    told += [("gpu", *gpus)] if None not in gpus else []
    called = {"versions": "torch", "hardware": "the processor", "code": "fallline", "gpu": "the GPU"}
    return [
        f"{called[what]} was {before} when this study began and is {after} now: runs of both are in it, which agree "
        "within rounding and not to the last bit"
        for what, before, after in told
        if before != after
    ]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
