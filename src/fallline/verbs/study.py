"""The studies of the lecture: a question, its runs, its claims and its report."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadStore, FalllineError
from ..fleet import Stopped
from ..fleet.keep import identity
from ..fleet.stopping import listening
from ..records import Record, jsonable
from ..reports.study import SIGNS, cell, verdict
from ..reports.write import write_report
from ..specs import Study
from ..store import Store
from ..studies import lecture
from ..studies.inquiry import Inquiry
from ..studies.lab import Bench, Lab
from ..studies.memory import Memory
from ..studies.stats import check_level
from ..tasks.base import Task
from .carry_out import kept_beside, report_of
from .compare import check_every
from .folder import OUT, new_folder, new_store
from .progress import meter
from .provenance import code_version, provenance
from .stopping import Terminated

LEVEL = 0.95


@dataclass(frozen=True)
class Studied:
    """The answer of :func:`study`: it prints its claims with their verdicts, and shows itself in a notebook.

    Args:
        document: the answer as plain data, as ``fallline study NAME --json`` prints it.
    """

    document: dict[str, Any]

    @staticmethod
    def of(store: Path) -> Studied:
        """The answer that a finished store holds."""
        with Store.open(store) as opened:
            result = opened.result or {}
        claims = [
            {k: v for k, v in claim.items() if k not in ("figures", "tables", "pictures")}
            for claim in result["claims"]
        ]
        tables = [table for claim in result["claims"] for table in claim["tables"]]
        return Studied({**result, "claims": claims, "tables": tables})

    @property
    def claims(self) -> list[dict[str, Any]]:
        """What was claimed, what was measured, and the verdicts."""
        return list(self.document["claims"])

    @property
    def store(self) -> Path:
        """Where all runs are kept."""
        return Path(self.document["store"])

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return Path(self.document["report"])

    def __str__(self) -> str:
        return "\n".join([*(line for claim in self.claims for line in _lines(claim)), verdict(self.claims)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre><p>Report: {html.escape(str(self.report))}</p>"


def _lines(claim: Mapping[str, Any]) -> list[str]:
    parts = [
        f"    {SIGNS[part['verdict']]} {part['criterion']}; measured {cell(part['value'])}"
        + (
            ""
            if part["method"] == "exact" or part["low"] is None
            else f" [{cell(part['low'])}, {cell(part['high'])}], n = {part['n']}"
        )
        for part in claim["criteria"]
    ]
    notes = [f"    note: {note}" for note in claim["notes"]]
    return [
        f"{SIGNS[claim['verdict']]} {claim['id']} {claim['verdict']}: {claim['claim']}",
        *parts,
        *notes,
        "",
    ]


def study(
    name: str,
    *,
    quick: bool = False,
    replicates: int | None = None,
    seed: int = 0,
    level: float = LEVEL,
    out: str | Path | None = None,
    workers: int | None = None,
    executor: str = "auto",
    device: str = "auto",
    every: float = 60.0,
    progress: bool | None = None,
    **options: Any,
) -> Studied:
    """Run a study of the lecture: its claims are measured and judged by criteria that were written down before.

    Ctrl-C or SIGTERM stop it; :func:`fl.resume` goes on from there.

    Args:
        name: of the study, as ``fallline study list`` prints it.
        quick: fewer replicates and shorter runs: a look, whose verdicts may stay undecided.
        replicates: repetitions that intervals are over; left out, the study's own.
        seed: the first seed.
        level: the confidence level, at which all intervals of a claim hold together.
        out: a folder for the store and the report; left out, a new one under ``fallline-out``.
        workers: processes, 0 for this one; one per core where left out.
        executor: auto, traced, compiled or alone; on a GPU auto, graphed, traced or alone.
        device: cpu, cuda, cuda:1; auto takes a GPU where that pays.
        every: seconds between two checkpoints of a block of runs.
        progress: whether to show a progress bar; left out, where someone is watching.
        **options: what the study itself lets one choose, such as ``data``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = study("losses", quick=True, replicates=2, out=folder, workers=0)
    >>> [claim["id"] for claim in found.claims]
    ['L1', 'L2', 'L3']
    """
    asked = lecture.study(name)
    check_level(level)
    check_every(every)
    lab = Lab(quick=quick, replicates=replicates, seed=seed)
    asked.answers(lab, **options)  # refuses what it does not know, before anything is made
    protocol = {
        "name": name, "about": asked.about, "quick": quick, "replicates": lab.replicates, "seed": seed, "level": level,
        "options": options,
    }  # fmt: skip
    path = new_folder(out, f"study-{name}") / "study.db"
    how = {"workers": workers, "executor": executor, "device": device}
    facts = provenance([], [], {}) | {
        "asked": {**how, "every": every}, "code": code_version(),
        "resume": "fallline resume goes on with this study where it stopped",
    }  # fmt: skip
    with new_store(path, Study("study", (), (), protocol), facts) as store:
        _carry_out(asked, lab, store, Memory(), how, every, progress)
    write_report(path, report_of(path))
    return Studied.of(path)


def go_on(
    store: Store, *, workers: int | None, device: str | None, every: float | None, progress: bool | None
) -> None:
    """Finish a study that was stopped or killed: what is in its store is not trained again."""
    protocol, facts = store.study.protocol, store.provenance
    if facts["code"] != code_version():
        raise BadStore(
            f"{store.path} was begun by another version of fallline, whose study may ask for other runs: run the study again"
        )
    asked = lecture.study(protocol["name"])
    lab = Lab(quick=protocol["quick"], replicates=protocol["replicates"], seed=protocol["seed"])
    how = {name: facts["asked"][name] for name in ("workers", "executor", "device")}
    how |= {name: value for name, value in (("workers", workers), ("device", device)) if value is not None}
    how["plan"] = facts["plan"] if device is None else None
    every = facts["asked"]["every"] if every is None else every
    records = {identity(record.run): record for record in store.records()}
    standing, told = kept_beside(store.path, every).standing()
    store.note({"resumed": [*facts.get("resumed", []), {"told": told}]})
    _carry_out(asked, lab, store, Memory(records, standing), how, every, progress)


def _carry_out(
    asked: Inquiry,
    lab: Lab,
    store: Store,
    memory: Memory,
    how: Mapping[str, Any],
    every: float,
    progress: bool | None,
) -> None:
    began, keep = time.perf_counter(), kept_beside(store.path, every)
    protocol = store.study.protocol
    level, options = protocol["level"], protocol.get("options", {})

    def sink(records: list[Record]) -> None:
        store.add(records)
        keep.forget([record.run for record in records])

    with meter(f"study {asked.name}", shown=progress) as bar, _heeding(lab):
        lab.bench = Bench(sink, _noting(store), bar.expect, bar, memory, keep, how)
        answers = [answer.plain(level) for answer in asked.answers(lab, **options)]
    store.finish(jsonable({
        "study": asked.name, "claims": answers, "quick": protocol["quick"], "seconds": time.perf_counter() - began,
        "runs": store.count(), "store": str(store.path), "report": str(report_of(store.path)),
    }))  # fmt: skip
    keep.clear()


def _noting(store: Store) -> Callable[[Mapping[str, Any], Sequence[Task]], None]:
    """What writes the plans of all fleets of a study, and the facts of their tasks, into its provenance."""

    def note(plan: Mapping[str, Any], tasks: Sequence[Task]) -> None:
        before = store.provenance
        whole = {**before["plan"], **plan}
        whole["tasks"] = {**before["plan"].get("tasks", {}), **plan["tasks"]}
        whole["events"] = list(dict.fromkeys([*before["plan"].get("events", []), *plan["events"]]))
        facts = {**before["tasks"], **{task.name: dict(task.facts) for task in tasks}}
        store.note({"plan": whole, "tasks": facts})

    return note


@contextmanager
def _heeding(lab: Lab) -> Iterator[None]:
    """Answer Ctrl-C and SIGTERM by a stop at the next step, once all blocks are saved."""
    with listening(to_term=True, then=lab.stop) as asked:
        try:
            yield
        except Stopped:
            if not asked.by:
                raise
    if asked.by:
        raise KeyboardInterrupt if asked.by == "SIGINT" else Terminated


def listed(folder: Path = OUT) -> list[dict[str, Any]]:
    """Every claim with its study, its slide, its criterion, and what the last study in a folder found."""
    last = _last(folder)
    return [
        {
            "study": name, "id": claim.id, "slide": claim.slide, "claim": claim.sentence, "criterion": claim.criterion,
            "criteria": list(map(str, claim.criteria.values())), "minutes": asked.minutes[0], "quick_minutes": asked.minutes[1], **last.get((name, claim.id), _NOT_RUN),
        }
        for name in lecture.NAMES
        for asked in [lecture.study(name)]
        for claim in asked.claims
    ]  # fmt: skip


_NOT_RUN = {"state": "not run", "value": None, "low": None, "high": None, "n": None, "store": None}


def _last(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """By study and claim, the verdict of the youngest finished store."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    paths = sorted(folder.glob("study-*/study.db"), key=lambda path: path.stat().st_mtime)
    for path in paths:
        with suppress(FalllineError), Store.open(path) as store:
            result = (store.study.kind == "study" and store.result) or {"claims": []}
            for claim in result["claims"]:
                numbers = {name: claim[name] for name in ("value", "low", "high", "n")}
                found[result["study"], claim["id"]] = {
                    "state": claim["verdict"],
                    **numbers,
                    "store": str(path),
                }
    return found
