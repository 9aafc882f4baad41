"""``fallline train TASK``."""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer


def train(
    task: Annotated[str, typer.Argument(help="A task: a built-in name, or path/file.py:function.", metavar="TASK")],
    rule: Annotated[str, typer.Option(help="A rule: adam, at its default learning rate, or 'adam(lr=0.01)'.")] = "adam",
    steps: Annotated[int | None, typer.Option(help="Steps of the training.", show_default="600")] = None,
    epochs: Annotated[float | None, typer.Option(help="Instead of steps: passes over the training examples.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples in a training batch.", show_default="the task's")] = None,
    seed: Annotated[int, typer.Option(help="Decides initial weights, order of data and noise.")] = 0,
    keep: Annotated[str, typer.Option(help="Which weights: best (by the metric), loss (the lowest) or last.")] = "best",
    patience: Annotated[int | None, typer.Option(help="Stop after so many evaluations without an improvement.")] = None,
    accumulate: Annotated[int, typer.Option(help="Take each batch in so many parts, to save memory.")] = 1,
    precision: Annotated[str, typer.Option(help="full, bf16, or fp16 on a GPU.")] = "full",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.", show_default="a GPU where there is one")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for weights and checkpoint.", show_default="a new one under fallline-out")] = None,
    every: Annotated[float, typer.Option(help="Seconds between two saves.")] = 60.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:  # fmt: skip
    """Train one model and keep its best weights."""
    from ..verbs.train import train as run

    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        found = _told(
            run, task, rule, steps=steps, epochs=epochs, batch=batch, seed=seed, keep=keep, patience=patience,
            accumulate=accumulate, precision=precision, device=device, every=every, resume=resume,
            out=out if out is not None or resume else _new(task),
        )  # fmt: skip
    if first and as_json:
        print(json.dumps(found.document, allow_nan=False))
    elif first:
        print(found)
        print(f"weights: {found.document['weights']}")
    if found.document["stopped"] != "interrupted":
        return
    if first:
        folder = Path(found.document["weights"]).parent
        print(f"\nfallline: {found.document['sentence']}; --out {folder} --resume goes on", file=sys.stderr)
    raise typer.Exit(130)


def _told(run: Callable[..., Any], *args: Any, **given: Any) -> Any:
    """Train; SIGTERM ends it with status 143 once it is saved, and with a sentence."""
    try:
        return run(*args, **given)
    except SystemExit as stopped:
        if stopped.code == 143:
            told = f"stopped by SIGTERM and saved; --out {given['out']} --resume goes on"
            print(f"\nfallline: {told}", file=sys.stderr)
        raise


def _new(task: str) -> Path:
    """A folder that is not there yet."""
    stamp = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")
    name = "".join(c if c.isalnum() else "-" for c in task)
    return Path("fallline-out") / f"train-{name}-{stamp}"
