"""The report of a comparison: from its store to one HTML file, verdict first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from ..errors import BadStore
from ..store import Store
from . import words
from .comparison import differences, tables, texts
from .comparison.curves import curves
from .comparison.measured import bands, divergences, partial
from .comparison.ranking import ranking
from .comparison.rates import rates
from .comparison.speed import speed
from .comparison.view import View, read
from .figure import Figure
from .html import Markup, join
from .page import Section, figure, page, write


def write_report(store_path: str | os.PathLike[str], out_path: str | os.PathLike[str]) -> Path:
    """Write the report of a comparison.

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
        text = report(store)
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


def report(store: Store) -> str:
    """The report of a comparison as HTML."""
    view = _view(store)
    title = f"Comparison of {words.count(len(view.arms), 'arm')} on {words.listing(view.tasks) or 'a task'}"
    foot = f"{store.path.name} · written by fallline · this page loads nothing from elsewhere"
    return page(title, texts.top(view, store.count()), _sections(view, store), foot)


def figures(store: Store) -> list[Figure]:
    """The report's figures, as data."""
    return [made for _, group in _figures(_view(store), store) for made in group]


def _view(store: Store) -> View:
    result = store.result
    return partial(store) if result is None else read(result)


def _figures(view: View, store: Store) -> Iterator[tuple[str, list[Figure]]]:
    """The figures of each section."""
    yield "Ranking", _some(ranking(view))
    found = {arm.label: made for arm in view.arms if (made := bands(store, arm.label))}
    yield "Learning curves", curves(view, found)
    yield "Sensitivity", rates(view)
    yield "Time to target", _some(speed(view))


def _some(made: Figure | None) -> list[Figure]:
    return [] if made is None else [made]


def _sections(view: View, store: Store) -> Iterator[Section]:
    numbers = count(1)
    before = {"Ranking": join([tables.ranking_table(view), texts.notes(view)])}
    for heading, group in _figures(view, store):
        drawn = [figure(made, next(numbers)) for made in group]
        yield Section(heading, join([before.get(heading), drawn]))
    yield Section("What diverged", tables.diverged(view, divergences(store)))
    yield Section("Findings", tables.findings(view))
    yield Section("Pairwise differences", differences.pairwise(view))
    yield Section("Against the baseline", differences.baseline(view))
    yield Section("How it was judged", texts.protocol(view))
    yield Section("Provenance", texts.provenance(store.provenance))
    yield Section(
        "How to reproduce", texts.reproduce(store.provenance, store.path.name) if view.arms else Markup()
    )
