"""``fallline report STORE``: rebuild the report without training anything and without loading torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import BadStore


def report(
    store: Annotated[Path, typer.Argument(help="A store (study.db), or the folder that holds it.")],
    out: Annotated[Path | None, typer.Option(help="A folder for report.html.", show_default="beside the store")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result document on standard output.")] = False,
) -> None:  # fmt: skip
    """Rebuild the report of a store."""
    from ..reports.compare import write_report
    from ..store import Store

    path = store / "study.db" if store.is_dir() else store
    target = (out or path.parent) / "report.html"
    if out is not None and not out.is_dir():
        try:
            out.mkdir(parents=True)
        except OSError as error:
            raise BadStore(
                f"the folder {out} cannot be made ({error.strerror}): choose another with --out"
            ) from error
    written = write_report(path, target)
    if as_json:
        with Store.open(path) as opened:
            print(json.dumps(opened.result, allow_nan=False))
    else:
        print(f"report: {written}")
