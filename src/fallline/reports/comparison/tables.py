"""The tables of a comparison's report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from .. import words
from ..draw_svg import swatch
from ..html import Child, Markup, breakable, element, join
from ..page import Column, description, table, value_of, with_range
from .measured import Divergence
from .ranking import loss_decimals, score_decimals
from .view import Arm, Difference, View

_OPEN = 15  # a longer table of differences is folded


# --- ranking ----------------------------------------------------------------------------------------------


def ranking_table(view: View) -> Markup:
    """Rank, score, loss, speed, working range and settings of every arm."""
    scores, losses = score_decimals(view), loss_decimals(view)
    columns = [
        Column("rank", numeric=True), Column("arm"), Column(f"test {view.metric}", numeric=True),
        Column("test loss", numeric=True), Column("steps to target", numeric=True),
        Column("time to target", numeric=True), Column("working range (decades)", numeric=True),
        Column("settings", class_="words"), Column("tied with", class_="words"),
    ]  # fmt: skip
    rows = [_ranking_row(view, arm, scores, losses) for arm in view.arms]
    caption = (
        f"Means with {view.level:.0%} intervals over replicates. Rank: 1 + the number of arms that are significantly "
        f"better; arms of one rank are a tie unless told otherwise. {view.target_sentence}"
    )
    return _without_empty(caption, columns, rows, head=1)


def _ranking_row(view: View, arm: Arm, scores: int, losses: int) -> list[Child]:
    return [
        str(arm.rank) if arm.rank is not None else words.UNKNOWN,
        named(arm),
        with_range(
            words.fixed(arm.score.value, scores), words.interval(arm.score.low, arm.score.high, scores)
        ),
        with_range(words.fixed(arm.loss.value, losses), words.interval(arm.loss.low, arm.loss.high, losses)),
        with_range(words.number(arm.steps), _reached(arm)),
        words.seconds(arm.seconds),
        _working(arm),
        _settings(arm),
        _tied(view, arm),
    ]


def named(arm: Arm) -> Markup:
    """An arm's sign and name, that stay together."""
    return element("span", swatch(arm.style, line=False), element("span", breakable(arm.label)), class_="arm")


def _reached(arm: Arm) -> str:
    return f"{arm.reached[0]} of {arm.reached[1]}" if arm.reached else words.UNKNOWN


def _working(arm: Arm) -> Child:
    if arm.working is None:
        return words.UNKNOWN
    value = f"{'≥ ' if arm.working.open else ''}{arm.working.decades:.1f}"
    return with_range(value, f"{words.trim(arm.working.low, 2)} to {words.trim(arm.working.high, 2)}")


def _settings(arm: Arm) -> Child:
    shown = ", ".join(f"{name} {value_of(value)}" for name, value in arm.settings.items()) or words.UNKNOWN
    return with_range(shown, "at the edge of the search") if arm.boundary else shown


def _tied(view: View, arm: Arm) -> str:
    others = len(view.arms) - 1
    if len(arm.tied_with) == others and others > 1:
        return "all others"
    return words.listing(arm.tied_with) or words.UNKNOWN


def _without_empty(
    caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Child]], head: int
) -> Markup:
    """A table without the columns in which nothing is known."""
    keep = [i for i in range(len(columns)) if i == head or any(row[i] != words.UNKNOWN for row in rows)]
    return table(
        caption, [columns[i] for i in keep], [[row[i] for i in keep] for row in rows], head=keep.index(head)
    )


# --- divergence -------------------------------------------------------------------------------------------


def diverged_table(view: View, found: Mapping[str, Divergence]) -> Markup | None:
    """Which runs left the finite numbers, when, and what happened."""
    shown = [
        (arm, found[arm.label])
        for arm in view.arms
        if arm.label in found and found[arm.label].first_step is not None
    ]
    if not shown:
        return None
    columns = [
        Column("arm"), Column("tuning runs", numeric=True), Column("final runs", numeric=True),
        Column("at learning rates"), Column("first at step", numeric=True), Column("what happened first", class_="long"),
    ]  # fmt: skip
    rows = [
        [named(arm), _share(d, "tune"), _share(d, "final"), _rates(d.rates), f"{d.first_step:,}", d.sentence or words.UNKNOWN]
        for arm, d in shown
    ]  # fmt: skip
    return table(
        "Runs that left the finite numbers; each was frozen there, and the others went on.", columns, rows
    )


def diverged_conclusion(view: View, found: Mapping[str, Divergence]) -> str:
    """How many runs diverged, and whose."""
    counts = {arm.label: _totals(found[arm.label]) for arm in view.arms if arm.label in found}
    lost = {label: (k, n) for label, (k, n) in counts.items() if k}
    runs = sum(n for _, n in counts.values())
    if not lost:
        return f"None of {words.count(runs, 'run')} diverged"
    parts = [f"{k:,} of {n:,} of {label}" for label, (k, n) in lost.items()]
    return (
        f"{sum(k for k, _ in lost.values()):,} of {words.count(runs, 'run')} diverged: {words.listing(parts)}"
    )


def _totals(divergence: Divergence) -> tuple[int, int]:
    return sum(k for k, _ in divergence.counts.values()), sum(n for _, n in divergence.counts.values())


def _share(divergence: Divergence, stage: str) -> str:
    k, n = divergence.counts.get(stage, (0, 0))
    return f"{k:,} of {n:,}" if n else words.UNKNOWN


def _rates(rates: Iterable[float]) -> str:
    every = sorted(set(rates))
    if len(every) <= 2:
        return " and ".join(words.trim(rate, 2) for rate in every) or words.UNKNOWN
    return f"{words.trim(every[0], 2)} to {words.trim(every[-1], 2)}"


# --- differences ------------------------------------------------------------------------------------------


def difference_tables(view: View) -> list[Markup]:
    """The pairwise differences, a table for each measure; long ones are folded."""
    groups = [(m, list(rows)) for m, rows in groupby(view.differences, key=lambda d: (d.measure, d.unit))]
    made = []
    for at, ((measure, unit), rows) in enumerate(groups):
        inner = _differences(view, unit, rows)
        opened = at == 0 and len(rows) <= _OPEN
        made.append(element("details", element("summary", _summary(measure, rows)), inner, open=opened))
    return made


def differences_conclusion(view: View) -> str:
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


# --- findings ---------------------------------------------------------------------------------------------


def findings(view: View) -> Markup:
    """What the doctor found, arm by arm."""
    return join(
        element("div", element("p", named(arm)), [_finding(one) for one in arm.findings])
        for arm in view.arms
        if arm.findings
    )


def _finding(one: Any) -> Markup:
    return description(one) if isinstance(one, Mapping) else element("p", str(one))
