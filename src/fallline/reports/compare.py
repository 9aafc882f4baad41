"""The report of a comparison: from its store to one HTML file, verdict first."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import BadStore
from ..store import Store
from . import words
from .comparison import tables
from .comparison.curves import curves
from .comparison.measured import bands, divergences, partial
from .comparison.ranking import ranking
from .comparison.rates import rates
from .comparison.speed import speed
from .comparison.view import View, read
from .figure import Figure
from .html import Markup, element, join
from .page import Section, description, figure, page, write

_FIRST = (
    "command",
    "code",
    "versions",
    "hardware",
    "seeds",
    "plan",
)  # provenance that readers look for first


def write_report(store_path: str | os.PathLike[str], out_path: str | os.PathLike[str]) -> Path:
    """Write the report of a comparison.

    Args:
        store_path: the store that the study wrote; one that is unfinished, or that still grows, is reported as such.
        out_path: the HTML file to write; what is there is replaced once the new one is whole.

    Returns:
        The path of the report.

    Raises:
        BadStore: the store cannot be read, or the report cannot be written.
    """
    with Store.open(store_path) as store:
        text = report(store)
    try:
        return write(text, Path(out_path))
    except OSError as cause:
        raise BadStore(
            f"the report {out_path} cannot be written ({cause.strerror}): check that its folder exists"
        ) from None


def report(store: Store) -> str:
    """The report of a comparison as HTML."""
    result = store.result
    view = partial(store) if result is None else read(result)
    title = f"Comparison of {words.count(len(view.arms), 'arm')} on {words.listing(view.tasks) or 'a task'}"
    foot = f"{store.path.name} · written by fallline · this page loads nothing from elsewhere"
    return page(title, _top(view, store), _sections(view, store), foot)


def figures(store: Store) -> list[Figure]:
    """The report's figures, as data."""
    result = store.result
    view = partial(store) if result is None else read(result)
    return [made for group in _figures(view, store).values() for made in group]


def _figures(view: View, store: Store) -> dict[str, list[Figure]]:
    first, pace = ranking(view), speed(view)
    found = {arm.label: made for arm in view.arms if (made := bands(store, arm.label))}
    return {
        "Ranking": [first] if first else [],
        "Learning curves": curves(view, found),
        "Sensitivity to the learning rate": rates(view),
        "Time to target": [pace] if pace else [],
    }


# --- parts ------------------------------------------------------------------------------------------------


def _top(view: View, store: Store) -> Markup:
    if not view.finished:
        return element("p", _unfinished(view, store), class_="verdict")
    verdict = view.verdict or "The study has no verdict."
    return join([element("p", verdict, class_="verdict"), _facts(view)])


def _unfinished(view: View, store: Store) -> str:
    planned = view.protocol.get("runs")
    of = f" of {planned:,}" if isinstance(planned, int) else ""
    return (
        f"This study is not finished: it holds {store.count():,}{of} runs. What they show so far is below; a ranking is made "
        "of whole studies only."
    )


def _facts(view: View) -> Markup:
    facts = [
        (view.metric, f"{view.better} is better"),
        (str(view.replicates), "replicates of the whole protocol") if view.replicates else None,
        (f"{view.runs:,}", "runs") if isinstance(view.runs, int) else None,
        (words.seconds(view.seconds), "of training and judging") if words.known(view.seconds) else None,
    ]
    return element("ul", [element("li", element("b", f[0]), " ", f[1]) for f in facts if f], class_="facts")


def _sections(view: View, store: Store) -> Iterator[Section]:
    numbers = count(1)
    drawn = {
        name: join(figure(made, next(numbers)) for made in group)
        for name, group in _figures(view, store).items()
    }
    lost = divergences(store)
    table = tables.ranking_table(view) if view.finished and view.arms else Markup()
    yield Section("Ranking", join([table, _notes(view), drawn["Ranking"]]))
    for name in ("Learning curves", "Sensitivity to the learning rate", "Time to target"):
        yield Section(name, drawn[name])
    yield Section("What diverged", _diverged(view, lost))
    yield Section("Findings", tables.findings(view))
    yield Section("Pairwise differences", _differences(view))
    yield Section("How it was judged", _protocol(view))
    yield Section("Provenance", _provenance(store.provenance))
    yield Section("How to reproduce", _reproduce(view, store))


def _notes(view: View) -> Markup | None:
    return element("ul", [element("li", note) for note in view.notes], class_="notes") if view.notes else None


def _diverged(view: View, found: Mapping[str, Any]) -> Markup:
    return join([element("h3", tables.diverged_conclusion(view, found)), tables.diverged_table(view, found)])


def _differences(view: View) -> Markup:
    if not view.differences:
        return Markup()
    return join([element("h3", tables.differences_conclusion(view)), *tables.difference_tables(view)])


def _protocol(view: View) -> Markup:
    return (
        join([element("p", protocol_words(view)), description(view.protocol)]) if view.protocol else Markup()
    )


def protocol_words(view: View) -> str:
    """The protocol in sentences, as far as it is known."""
    given = view.protocol
    parts = []
    if "replicates" in given:
        parts.append(
            f"The whole protocol, tuning included, was repeated {given['replicates']} times on seeds of its own."
        )
    if "rates" in given and "seeds" in given:
        tuned = f"Each time, every arm was tuned over {given['rates']} learning rates with {given['seeds']} seeds each"
        parts.append(
            f"{tuned}, its setting was chosen on validation, and it was trained again on fresh seeds and judged on test."
        )
    if "steps" in given:
        batch = f" on batches of {given['batch']}" if "batch" in given else ""
        parts.append(f"A run takes {given['steps']:,} steps{batch}.")
    parts.append(f"Intervals ({view.level:.0%}) and tests are over replicates, which are paired across arms.")
    return " ".join(parts)


def _provenance(given: Mapping[str, Any]) -> Markup:
    order = [name for name in _FIRST if name in given] + [name for name in given if name not in _FIRST]
    shown = {name: _command(given[name]) if name == "command" else given[name] for name in order}
    return description(shown) if shown else Markup()


def _reproduce(view: View, store: Store) -> Markup:
    command = store.provenance.get("command")
    lines = []
    if not view.finished:
        lines += [
            element("p", "Finish this study:"),
            _code(f"fallline resume {shlex.quote(store.path.name)}"),
        ]
    if command:
        lines += [
            element(
                "p",
                "Run the study again; the same versions on the same kind of machine give the same numbers:",
            )
        ]
        lines += [_code(_command(command))]
    lines += [
        element("p", "Draw this report again:"),
        _code(f"fallline report {shlex.quote(store.path.name)}"),
    ]
    return join(lines)


def _command(command: Any) -> str:
    return shlex.join(str(part) for part in command) if isinstance(command, (list, tuple)) else str(command)


def _code(text: str) -> Markup:
    return element("pre", element("code", text))
