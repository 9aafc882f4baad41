"""``fallline resume STORE``: go on with a comparison or a study that was stopped or killed."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from .compare import finish, stopped_cleanly


def resume(
    store: Annotated[Path, typer.Argument(help="A store (study.db), or the folder that holds it.")],
    workers: Annotated[int | None, typer.Option(help="Processes; 0 trains in this one.", show_default="as before")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1.", show_default="as before")] = None,
    every: Annotated[float | None, typer.Option("--checkpoint-every", help="Seconds between two checkpoints of a block of runs.", show_default="as before")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for report.html.", show_default="beside the store")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:  # fmt: skip
    """Go on with a comparison or a study that was stopped or killed, to the same numbers."""
    from ..verbs.resume import finished, store_in
    from ..verbs.resume import resume as run
    from ..verbs.study import Studied
    from .study import show

    path = store_in(store)
    if finished(path):
        print(
            f"fallline: {path} is finished, nothing is left to train: its report is written again",
            file=sys.stderr,
        )
    with stopped_cleanly(), redirect_stdout(sys.stderr if as_json else sys.stdout):
        found = run(path, workers=workers, device=device, every=every, out=out)
    (show if isinstance(found, Studied) else finish)(found, as_json=as_json)
