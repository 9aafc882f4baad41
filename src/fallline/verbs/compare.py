"""Compare rules, models, losses or data options: the main question."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..errors import BadStore, BadValue
from ..fleet import Fleet
from ..reports.compare import write_report
from ..reports.table import legend, ranking_table
from ..specs import Study
from ..store import Store
from ..studies.arms import Arm, arms
from ..studies.compare import Compared, Protocol, check_tasks, study_of
from ..studies.compare import compare as run_comparison
from ..studies.judge import judge
from ..tasks.base import Task
from ..tasks.find import find
from . import baseline as baselines
from . import budget
from .progress import Meter, meter
from .provenance import provenance

RULES = ("sgd", "momentum", "adagrad", "rmsprop", "adam")


@dataclass(frozen=True)
class Comparison:
    """The answer of :func:`compare`: it prints as a table with its verdict, and shows itself in a notebook.

    Args:
        document: the whole answer as plain data, as ``fallline compare --json`` prints it.
    """

    document: dict[str, Any]

    @property
    def verdict(self) -> str:
        """One sentence: which arm is best, by how much, how sure."""
        return str(self.document["verdict"])

    @property
    def ranking(self) -> list[dict[str, Any]]:
        """The arms, best first."""
        return list(self.document["ranking"])

    @property
    def store(self) -> Path:
        """Where all runs are kept."""
        return Path(self.document["store"])

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return Path(self.document["report"])

    @property
    def worse(self) -> bool:
        """Whether an arm is worse than the baseline that was given."""
        return bool(self.document.get("baseline", {}).get("worse", False))

    def __str__(self) -> str:
        return f"{ranking_table(self.document).text()}\n{legend(self.document)}\n\n{self.verdict}"

    def _repr_html_(self) -> str:
        import html

        where = html.escape(str(self.report))
        return (
            f"<p><strong>{html.escape(self.verdict)}</strong></p>{ranking_table(self.document).html()}"
            f'<p>Report: <a href="{where}">{where}</a></p>'
        )


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
    progress: bool | None = None,
) -> Comparison:
    """Which arm is best, by how much, how sure? Arms are tasks × rules; all are scored by one metric.

    In each replicate every arm is tuned over its learning rates, chosen on validation, trained again on fresh seeds
    and judged on test; intervals and tests are over replicates, paired across arms. A difference that is not
    significant is called a tie.

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
        executor: auto, traced, compiled or alone.
        progress: whether to show a progress bar; left out, where someone is watching.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = compare("digits", ["sgd", "adam"], steps=20, replicates=2, rates=2, seeds=1, out=folder, workers=0)
    >>> [row["arm"] for row in found.ranking]
    ['adam', 'sgd']
    """
    named = _several(tasks)
    found = _tasks(named)
    given = _several((RULES if len(found) == 1 else RULES[-1]) if rules is None else rules)
    asked = {"replicates": replicates, "rates": rates, "seeds": seeds, "retune": retune}
    set_by_user = {name: value for name, value in asked.items() if value is not None}
    protocol = Protocol(
        steps=steps, batch=found[0].batch if batch is None else batch, level=level, seed=seed, target=target,
        **set_by_user,  # type: ignore[arg-type]
    )  # fmt: skip
    if minutes is not None and not 0 < minutes < math.inf:
        raise BadValue(f"minutes must be a number above 0, got {minutes!r}")
    compared = arms(found, given, protocol.rates)
    if baseline is not None:
        baselines.check(baseline, found[0].metric, [arm.label for arm in compared])
    folder = _folder(out, found)
    began = time.perf_counter()
    with Fleet(found, workers=workers, executor=executor) as fleet:
        note, speed = "", None
        if minutes is not None:
            speed = budget.measure(fleet, compared, protocol.batch)
            protocol, note = budget.fit(
                speed, protocol, lambda points: arms(found, given, points), minutes, set(set_by_user)
            )  # fmt: skip
            compared = arms(found, given, protocol.rates)
        facts = provenance(found, named, fleet.plan()) | ({"budget": note} if note else {})
        deadline = None if minutes is None else began + 60 * minutes
        with _new_store(folder, study_of(found, compared, protocol), facts) as store:
            with meter(_title(found, compared), shown=progress) as bar:
                result = _run(fleet, compared, protocol, store, bar, speed, deadline)
            document = judge(result, time.perf_counter() - began, store.count())
            document["notes"] = [*document["notes"], *([note] if note else [])]
            document |= {"store": str(store.path), "report": str(folder / "report.html")}
            if baseline is not None:
                document["baseline"] = baselines.against(baseline, document)
            store.finish(document)
    write_report(folder / "study.db", folder / "report.html")
    return Comparison(document)


def _several(given: Any) -> list[Any]:
    """One or several: a text is one, a sequence is several."""
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def _tasks(named: Sequence[Task | str]) -> list[Task]:
    found = [find(name) if isinstance(name, str) else name for name in named]
    names = [task.name if isinstance(task, Task) else "" for task in found]
    labels = [
        replace(task, name=name) if isinstance(name, str) and names.count(task.name) > 1 else task
        for task, name in zip(found, named, strict=True)
    ]
    check_tasks(labels)
    return labels


def _title(tasks: Sequence[Task], compared: Sequence[Arm]) -> str:
    return f"comparing {len(compared)} arms on {' and '.join(task.name for task in tasks)}"


def _run(
    fleet: Fleet, compared: Sequence[Arm], protocol: Protocol, store: Store, bar: Meter, speed: budget.Speed | None,
    deadline: float | None,
) -> Compared:  # fmt: skip
    bar.expect(sum(protocol.runs(arm) for arm in compared) * protocol.steps)

    def more(runs: int) -> bool:
        finals = len(compared) * protocol.replicates * protocol.seeds
        need = 0.0 if speed is None else speed.seconds((runs + finals) * protocol.steps)
        allowed = deadline is None or time.perf_counter() + need <= deadline
        bar.expect(runs * protocol.steps if allowed else 0)
        return allowed

    return run_comparison(fleet, compared, protocol, store.add, bar, more)


def _folder(out: str | Path | None, tasks: Sequence[Task]) -> Path:
    """The folder for store and report, checked before anything is trained."""
    if out is None:
        stamp = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        name = "".join(c if c.isalnum() else "-" for c in tasks[0].name)
        path = Path("fallline-out") / f"compare-{name}-{stamp}"
        others = (path.with_name(f"{path.name}-{n}") for n in count(2))
        return next(free for free in chain([path], others) if not free.exists())
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise BadStore(f"{folder} is a file: --out needs a folder, for the store and the report")
    if (folder / "study.db").exists():
        raise BadStore(
            f"{folder} already holds a study (study.db): choose another folder, or remove it first"
        )
    return folder


@contextmanager
def _new_store(folder: Path, study: Study, facts: dict[str, Any]) -> Iterator[Store]:
    """A store in a folder that is made for it; where nothing was obtained, nothing is left."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path, created, runs = folder / "study.db", False, 0
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadStore(
                f"the folder {folder} cannot be made ({error.strerror}): choose another with --out"
            ) from error
        with Store.create(path, study, facts) as store:
            created = True
            try:
                yield store
            finally:
                runs = store.count()
    except BaseException as stopped:
        if runs and isinstance(stopped, KeyboardInterrupt):
            raise KeyboardInterrupt(str(path)) from None  # the command line tells where the runs are
        if not runs:
            for remove in [path.unlink] * created + [one.rmdir for one in made]:
                with suppress(OSError):
                    remove()
        raise
