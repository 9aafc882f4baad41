"""Write the report of a store, whatever kind of study it holds."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import BadStore
from ..store import Store
from . import compare, study
from .page import write


def write_report(store_path: str | os.PathLike[str], out_path: str | os.PathLike[str]) -> Path:
    """Write the report of a study.

    Args:
        store_path: the store that the study wrote; one that is unfinished, or that still grows, is reported as such.
        out_path: the HTML file to write; what is there is replaced once the new one is whole.

    Returns:
        The path of the report.

    Raises:
        BadStore: the store cannot be read, or the report cannot be written.
        NotFound: there is no such store.
    """
    with Store.open(store_path) as store:
        text = (compare if store.study.kind == "compare" else study).report(store)
    try:
        return write(text, Path(out_path))
    except OSError as cause:
        raise BadStore(
            f"the report {out_path} cannot be written ({cause.strerror}): check that its folder exists"
        ) from None


def folder_for(report: Path) -> Path:
    """Make the folder of a report, and give back the report's path."""
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadStore(
            f"the folder {report.parent} cannot be made ({error.strerror}): choose another with --out"
        ) from error
    return report
