"""``fallline compare TASK…``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import BadValue


def compare(
    tasks: Annotated[list[str], typer.Argument(help="Tasks: a built-in name, or path/file.py:function. Several: is a change better?", metavar="TASK")],
    rules: Annotated[str | None, typer.Option(help="Rules, separated by commas: sgd,adam or 'adam(lr=0.01),sgd'. A bare name has its learning rate tuned.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of each run.")] = 600,
    batch: Annotated[int | None, typer.Option(help="Examples in a training batch.", show_default="the task's")] = None,
    replicates: Annotated[int | None, typer.Option(help="Repetitions of the whole protocol.", show_default="10")] = None,
    rates: Annotated[int | None, typer.Option(help="Learning rates that each arm tries at first.", show_default="9")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds per setting.", show_default="3")] = None,
    single_tuning: Annotated[bool, typer.Option("--single-tuning", help="Tune once, not in every replicate: cheaper, and it holds at these settings only.")] = False,
    target: Annotated[float | None, typer.Option(help="The validation score that counts as reached.", show_default="95 % of the best arm's gain")] = None,
    level: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    minutes: Annotated[float | None, typer.Option(help="A time budget: the richest protocol that fits is run.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="An earlier store; exit status 1 where an arm is worse than it was.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for store and report.", show_default="a new one under fallline-out")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 trains in this one.", show_default="one per core")] = None,
    executor: Annotated[str, typer.Option(help="auto, traced, compiled or alone; graphed on a GPU.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be trained, how and for how long, and train nothing.")] = False,
    every: Annotated[float, typer.Option("--checkpoint-every", help="Seconds between two checkpoints of a block of runs.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:  # fmt: skip
    """Which rule, model or loss is best, by how much, how sure?"""
    given = None if rules is None else split_rules(rules)
    if plan:
        asked = {
            "replicates": replicates,
            "rates": rates,
            "seeds": seeds,
            "retune": False if single_tuning else None,
        }
        _show_plan(
            tasks, given, as_json, steps=steps, batch=batch, workers=workers, executor=executor, device=device,
            minutes=minutes,            level=level, seed=seed, **asked,
        )  # fmt: skip
        return
    from ..verbs.compare import compare as run

    # what a task's own code prints must not get between the lines of the document
    with stopped_cleanly(), redirect_stdout(sys.stderr if as_json else sys.stdout):
        found = run(
            tasks, given, steps=steps, batch=batch, replicates=replicates, rates=rates, seeds=seeds,
            retune=False if single_tuning else None, target=target, level=level, seed=seed, minutes=minutes,
            baseline=baseline, out=out, workers=workers, executor=executor, device=device,
            every=every,
        )  # fmt: skip
    finish(found, as_json=as_json)


def _show_plan(tasks: list[str], given: list[str] | None, as_json: bool, **asked: Any) -> None:
    from ..verbs.plan import plan

    with stopped_cleanly(), redirect_stdout(sys.stderr if as_json else sys.stdout):
        found = plan(tasks, given, **asked)
    print(json.dumps(found.document, allow_nan=False) if as_json else found)


@contextmanager
def stopped_cleanly() -> Iterator[None]:
    """End with a sentence and the status that shells expect, where what is inside is stopped by Ctrl-C or SIGTERM."""
    from ..verbs.stopping import Terminated

    try:
        yield
    except (KeyboardInterrupt, Terminated) as stopped:
        by, status = ("SIGTERM", 143) if isinstance(stopped, Terminated) else ("Ctrl-C", 130)
        print(f"\nfallline: {stopped.args[0] if stopped.args else f'stopped by {by}'}", file=sys.stderr)
        raise typer.Exit(status) from None


def finish(found: Any, *, as_json: bool) -> None:
    """Print the answer, and end with status 1 where an arm is worse than the baseline."""
    if as_json:
        print(json.dumps(found.document, allow_nan=False))
    else:
        _show(found)
    raise typer.Exit(1 if found.worse else 0)


def split_rules(text: str) -> list[str]:
    """Split at commas outside of parentheses.

    >>> split_rules("sgd, adam(lr=0.1, beta1=0.8)")
    ['sgd', 'adam(lr=0.1, beta1=0.8)']
    """
    parts, depth = [""], 0
    for char in text:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    found = [part.strip() for part in parts]
    if not all(found):
        raise BadValue(f"--rules needs names separated by commas, as in sgd,adam; got {text!r}")
    return found


def _carried_out(path: Path) -> list[str]:
    """What happened on the way, and why a task's runs trained one by one."""
    from ..store import Store

    with Store.open(path) as store:
        plan = store.provenance.get("plan", {})
    alone = {
        name: choice["reason"]
        for name, choice in plan.get("tasks", {}).items()
        if choice["executor"] == "alone" and choice["reason"] != "asked for"
    }
    return [*(f"{name}: {reason}" for name, reason in alone.items()), *plan.get("events", [])]


def _show(found: Any) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ..reports.table import legend, ranking_table

    console = Console(highlight=False)
    plain = ranking_table(found.document)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for head, numeric in zip(plain.heads, plain.numeric, strict=True):
        table.add_column(head, justify="right" if numeric else "left", overflow="fold")
    for row in plain.rows:
        table.add_row(*map(escape, row))
    console.print(table)
    for text in (legend(found.document), "", found.verdict, ""):
        console.print(text, markup=False)
    told = [
        f"note: {note}" for note in [*_carried_out(Path(found.document["store"])), *found.document["notes"]]
    ]
    told += [found.document["baseline"]["sentence"]] if "baseline" in found.document else []
    told += [f"{name + ':':8}{found.document[name]}" for name in ("report", "store")]
    for text in told:
        console.print(f"  {text}", markup=False, soft_wrap=True)
