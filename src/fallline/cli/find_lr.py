"""``fallline find-lr TASK``."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer


def find_lr(
    task: Annotated[str, typer.Argument(help="A task: a built-in name, or path/file.py:function.", metavar="TASK")],
    rule: Annotated[str, typer.Option(help="A rule: adam, or 'momentum(lr=0.1, beta=0.95)'; its learning rate is what is found.")] = "adam",
    steps: Annotated[int, typer.Option(help="Steps of each run.")] = 100,
    points: Annotated[int, typer.Option(help="Learning rates on the ladder.")] = 64,
    seeds: Annotated[int, typer.Option(help="Runs for each rate.")] = 4,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    low: Annotated[float | None, typer.Option(help="The smallest rate.", show_default="below the rule's own range")] = None,
    high: Annotated[float | None, typer.Option(help="The largest rate.", show_default="above the rule's own range")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples in a training batch.", show_default="the task's")] = None,
    level: Annotated[float, typer.Option(help="Confidence level of the intervals over seeds.")] = 0.95,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 trains in this one.", show_default="one per core")] = None,
    executor: Annotated[str, typer.Option(help="auto, traced, compiled or alone.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:  # fmt: skip
    """Which learning rates train, and from which on it is unstable?"""
    from ..verbs.find_lr import find_lr as run
    from .compare import stopped_cleanly

    with stopped_cleanly(), redirect_stdout(sys.stderr if as_json else sys.stdout):
        found = run(
            task, rule, steps=steps, points=points, seeds=seeds, seed=seed, low=low, high=high, batch=batch, level=level,
            workers=workers, executor=executor,
        )  # fmt: skip
    print(json.dumps(found.document, allow_nan=False) if as_json else found)
