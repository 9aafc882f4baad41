"""The report of a study of the lecture: a section for each claim, with its verdict, its numbers and its picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from ..figure import Figure
from ..store import Store
from . import words
from .comparison import texts
from .html import Child, Markup, element, join
from .page import Column, Section, description, figure, page, table, with_range

SIGNS = {"holds": "✓", "fails": "✗", "undecided": "?"}
CRITERIA = (
    Column("What decides", class_="long"),
    Column("Measured", numeric=True),
    Column("n", numeric=True),
    Column("Verdict"),
)


def report(store: Store) -> str:
    """The report of a study as HTML."""
    result = store.result or {}
    asked, claims = store.study.protocol, result.get("claims", [])
    title = f"{words.first_up(str(asked['name']))}: {asked['about']}"
    return page(
        title,
        _top(result, store),
        _sections(claims, result, store),
        f"{store.path.name} · written by fallline · this page loads nothing from elsewhere",
    )


def verdict(claims: Sequence[Mapping[str, Any]]) -> str:
    """How many claims hold, in a sentence.

    >>> verdict([{"id": "L1", "verdict": "holds"}, {"id": "L3", "verdict": "undecided"}])
    'L1 holds; L3 is undecided.'
    """
    groups = {
        "holds": ("holds", "hold"),
        "fails": ("fails", "fail"),
        "undecided": ("is undecided", "are undecided"),
    }
    told = []
    for name, (one, many) in groups.items():
        ids = [str(claim["id"]) for claim in claims if claim["verdict"] == name]
        told += [f"{words.listing(ids, most=12)} {one if len(ids) == 1 else many}"] if ids else []
    return "; ".join(told) + "." if told else "Nothing was claimed."


def _top(result: Mapping[str, Any], store: Store) -> Markup:
    if not result:
        told = f"This study is not finished: it holds {store.count():,} runs. Only a whole study is judged."
        return element("p", told, class_="verdict")
    asked = store.study.protocol
    facts: list[tuple[str, str]] = [
        (str(asked["replicates"]), "replicates"), (f"{store.count():,}", "runs"),
        (words.seconds(result["seconds"]), "in all"),
    ]  # fmt: skip
    kind = element(
        "p", "A quick look: fewer replicates and shorter runs than the study's own.", class_="state"
    )
    return join([
        kind if asked.get("quick") else None,
        element("p", verdict(result["claims"]), class_="verdict"),
        element("ul", [element("li", element("b", value), " ", what) for value, what in facts], class_="facts"),
    ])  # fmt: skip


def _sections(claims: list[Mapping[str, Any]], result: Mapping[str, Any], store: Store) -> Iterator[Section]:
    numbers = count(1)
    repeated = {
        slide for slide, times in Counter(str(claim["slide"]) for claim in claims).items() if times > 1
    }
    for claim in claims:
        slide = str(claim["slide"])
        heading = (
            f"{claim['id']} · {slide}"
            if slide not in repeated
            else f"{claim['id']} · {slide} ({claim['id']})"
        )
        yield Section(heading, _claim(claim, numbers))
    yield Section("How it was judged", _judged(store))
    yield Section("Provenance", texts.provenance(store.provenance))
    yield Section(
        "How to reproduce", texts.reproduce(store.provenance, store.path.name) if result else Markup()
    )


def _claim(claim: Mapping[str, Any], numbers: Iterator[int]) -> Markup:
    sign = f"{SIGNS[claim['verdict']]} {words.first_up(claim['verdict'])}"
    notes = [element("li", note) for note in claim["notes"]]
    return join([
        element("p", str(claim["claim"]), class_="verdict small"),
        element("p", sign, class_=f"state {claim['verdict']}"),
        table(f"The criteria of {claim['id']}, written down before the run.", CRITERIA, map(_criterion, claim["criteria"])),
        element("ul", notes, class_="notes") if notes else None,
        [figure(Figure.rebuild(data), next(numbers)) for data in claim["figures"]],
        _sheet(claim.get("pictures", [])),
        [_table(data) for data in claim["tables"]],
    ])  # fmt: skip


def _sheet(pictures: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Pictures side by side, each with its caption."""
    if not pictures:
        return None
    shown = [
        element(
            "figure",
            element("img", src=f"data:image/png;base64,{one['png']}", alt=one["caption"]),
            element("figcaption", one["caption"]),
        )
        for one in pictures
    ]
    return element("div", shown, class_="sheet")


def _criterion(part: Mapping[str, Any]) -> list[Child]:
    exact = part["method"] == "exact"
    low, high = part["low"], part["high"]
    ends = words.UNKNOWN if exact or low is None else f"[{words.number(low)}, {words.number(high)}]"
    return [
        str(part["criterion"]), with_range(words.number(part["value"]), ends),
        "exact" if exact else str(part["n"]), f"{SIGNS[part['verdict']]} {part['verdict']}",
    ]  # fmt: skip


def _table(data: Mapping[str, Any]) -> Markup:
    rows = [[cell(value) for value in row] for row in data["rows"]]
    numeric = [
        any(isinstance(row[i], (int, float)) and not isinstance(row[i], bool) for row in data["rows"])
        for i in range(len(data["heads"]))
    ]
    columns = [
        Column(head, numeric=is_number) for head, is_number in zip(data["heads"], numeric, strict=True)
    ]
    return table(data["title"], columns, rows)


def cell(value: Any) -> str:
    """A table's cell as text.

    >>> cell(0.12345), cell(300), cell("adam"), cell(None)
    ('0.123', '300', 'adam', '–')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return words.number(value)
    return words.UNKNOWN if value is None else str(value)


def _judged(store: Store) -> Markup:
    asked = dict(store.study.protocol)
    told = (
        "A criterion holds where the whole interval of its number lies where it must, fails where all of it lies outside, "
        "and is undecided otherwise. The intervals of a claim hold together at the level (Bonferroni), and are over "
        "replicates. A claim holds where all of its criteria do, and fails where one does."
    )
    shown = {
        name: value for name, value in asked.items() if name not in ("about", "options") and value is not None
    }
    return join([element("p", told), description({**shown, **asked.get("options", {})})])
