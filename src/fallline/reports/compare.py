"""The report of a comparison: from its store to one HTML file, verdict first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from ..figure import Figure
from ..store import Store
from . import words
from .comparison import differences, tables, texts
from .comparison.curves import curves
from .comparison.measured import bands, divergences, partial
from .comparison.ranking import ranking
from .comparison.rates import rates
from .comparison.speed import speed
from .comparison.view import View, read
from .html import Markup, join
from .page import Section, figure, page


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
