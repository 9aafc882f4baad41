"""The tables of differences: arm against arm, and now against then."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from .. import words
from ..html import Markup, breakable, element, join
from ..page import Column, table
from .view import Baseline, Difference, View

_OPEN = 15  # a longer table is folded


def pairwise(view: View) -> Markup:
    """The differences of all pairs, a table for each measure; long ones are folded."""
    return join([element("h3", _conclusion(view)), _tables(view)]) if view.differences else Markup()


def _tables(view: View) -> list[Markup]:
    groups = [(m, list(rows)) for m, rows in groupby(view.differences, key=lambda d: (d.measure, d.unit))]
    made = []
    for at, ((measure, unit), rows) in enumerate(groups):
        inner = _differences(view, unit, rows)
        opened = at == 0 and len(rows) <= _OPEN
        made.append(element("details", element("summary", _summary(measure, rows)), inner, open=opened))
    return made


def _conclusion(view: View) -> str:
    """How many differences of the first measure are significant."""
    first = [d for d in view.differences if d.measure == view.differences[0].measure]
    found = sum(d.significant for d in first)
    if len(first) == 1:
        return f"The difference in {first[0].measure} is {'' if found else 'not '}significant"
    return f"{found} of {len(first)} differences in {first[0].measure} {'is' if found == 1 else 'are'} significant"


def _summary(measure: str, rows: Sequence[Difference]) -> str:
    return f"{words.first_up(measure)}: {sum(d.significant for d in rows)} of {len(rows)} significant"


def _differences(view: View, unit: str, rows: Sequence[Difference]) -> Markup:
    decimals = words.decimals_for(d.high - d.low for d in rows)
    columns = [
        Column("pair"), Column(f"difference{f' ({unit})' if unit else ''}", numeric=True),
        Column(f"{view.level:.0%} interval", numeric=True), Column("p", numeric=True), Column("p (Holm)", numeric=True),
        Column("significant"),
    ]  # fmt: skip
    cells = [
        [[breakable(d.a), " − ", breakable(d.b)], _signed(d.value, decimals), words.interval(d.low, d.high, decimals), words.p_value(d.p),
         words.p_value(d.p_holm), "yes" if d.significant else "no"]
        for d in rows
    ]  # fmt: skip
    quiet = [i for i, d in enumerate(rows) if not d.significant]
    caption = (
        "Differences between arms, paired by replicate; p (Holm) is corrected for all pairs of this measure."
    )
    return table(caption, columns, cells, quiet=quiet)


def _signed(value: float, decimals: int) -> str:
    return (
        f"+{words.fixed(value, decimals)}"
        if np.isfinite(value) and value > 0
        else words.fixed(value, decimals)
    )


def baseline(view: View) -> Markup:
    """Each arm against what it was in an earlier study."""
    given = view.baseline
    if given is None:
        return Markup()
    return join(
        [element("h3", words.first_up(given.sentence)), _against(view, given) if given.pairs else None]
    )


def _against(view: View, given: Baseline) -> Markup:
    pairs = given.pairs
    decimals = words.decimals_for(d.high - d.low for d in pairs)
    columns = [
        Column("arm"), Column(f"{view.metric}, now − then", numeric=True), Column(f"{view.level:.0%} interval", numeric=True),
        Column("p", numeric=True),
    ]  # fmt: skip
    rows = [
        [
            breakable(d.a),
            _signed(d.value, decimals),
            words.interval(d.low, d.high, decimals),
            words.p_value(d.p),
        ]
        for d in pairs
    ]
    return table(f"Against {given.store}, paired by replicate.", columns, rows)
