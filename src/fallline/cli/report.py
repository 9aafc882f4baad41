"""``fallline report STORE``: rebuild the report without training anything and without loading torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..store import Store


def report(
    store: Annotated[Path, typer.Argument(help="A store (study.db), or the folder that holds it.")],
    out: Annotated[Path | None, typer.Option(help="A folder for report.html.", show_default="beside the store")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result document on standard output.")] = False,
) -> None:  # fmt: skip
    """Rebuild the report of a store."""
    from ..reports.write import folder_for, write_report
    from ..store import Store

    path = store / "study.db" if store.is_dir() else store
    written = write_report(path, folder_for(out / "report.html") if out else path.parent / "report.html")
    if as_json:
        with Store.open(path) as opened:
            print(json.dumps(opened.result or _so_far(opened, written), allow_nan=False))
    else:
        print(f"report: {written}")


def _so_far(store: Store, written: Path) -> dict[str, Any]:
    """What there is of a study that is not finished: how many runs of each arm, and how many of them diverged."""
    from ..reports.comparison.measured import divergences

    arms = {str(arm.get("label")): {"runs": 0, "diverged": 0} for arm in store.study.arms}
    for label, found in divergences(store).items():
        diverged, runs = map(sum, zip(*found.counts.values(), strict=True))
        arms[label] = {"runs": runs, "diverged": diverged}
    told = [{"arm": label, **counted} for label, counted in arms.items()]
    return {
        "finished": False, "tasks": list(store.study.tasks), "arms": told, "runs": store.count(),
        "store": str(store.path), "report": str(written),
    }  # fmt: skip
