"""The tables of a comparison's report: the ranking, what diverged, what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .. import words
from ..html import Child, Markup, breakable, element, join
from ..inline import swatch
from ..page import Column, description, table, value_of, with_range
from .measured import Divergence
from .ranking import loss_decimals, score_decimals
from .view import Arm, View

# --- ranking ----------------------------------------------------------------------------------------------


def ranking_table(view: View) -> Markup:
    """Rank, score, loss, speed, working range and settings of every arm; nothing for an unfinished study."""
    if not view.finished or not view.arms:
        return Markup()
    scores, losses = score_decimals(view), loss_decimals(view)
    columns = [
        Column("rank", numeric=True), Column("arm"), Column(f"test {view.metric}", numeric=True),
        Column("test loss", numeric=True), Column("steps to target", numeric=True),
        Column("time to target", numeric=True), Column("working range (decades)", numeric=True),
        Column("settings", class_="words"), Column("tied with", class_="words"),
    ]  # fmt: skip
    rows = [_ranking_row(view, arm, scores, losses) for arm in view.arms]
    caption = (
        f"Means with {view.level:.0%} intervals. Rank: 1 + the number of arms that are significantly "
        f"better; the last column names the arms that an arm ties with. {view.target_words}"
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
    shown = ", ".join(f"{name} {_value(value)}" for name, value in arm.settings.items()) or words.UNKNOWN
    return with_range(shown, "at the edge of the search") if arm.boundary else shown


def _value(value: Any) -> Child:
    return words.trim(value) if isinstance(value, float) else value_of(value)


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


def diverged(view: View, found: Mapping[str, Divergence]) -> Markup:
    """Which runs left the finite numbers, when, and what happened."""
    shown = [(arm, found[arm.label]) for arm in view.arms if arm.label in found]
    return join([element("h3", _diverged_conclusion(shown)), _diverged_table(shown)]) if shown else Markup()


def _diverged_table(found: Sequence[tuple[Arm, Divergence]]) -> Markup | None:
    columns = [
        Column("arm"), Column("tuning runs", numeric=True), Column("final runs", numeric=True),
        Column("at settings"), Column("first at step", numeric=True), Column("what happened first", class_="long"),
    ]  # fmt: skip
    rows = [
        [named(arm), _share(d, "tune"), _share(d, "final"), _values(d.values), f"{d.first_step:,}", d.sentence or words.UNKNOWN]
        for arm, d in found
        if d.first_step is not None
    ]  # fmt: skip
    caption = "Runs that left the finite numbers; each was frozen there, and the others went on."
    return table(caption, columns, rows) if rows else None


def _diverged_conclusion(found: Sequence[tuple[Arm, Divergence]]) -> str:
    counts = [(arm.label, *_totals(divergence)) for arm, divergence in found]
    lost, runs = sum(k for _, k, _ in counts), sum(n for _, _, n in counts)
    if not lost:
        return f"None of {words.count(runs, 'run')} diverged"
    parts = [f"{k:,} of {n:,} of {label}" for label, k, n in counts if k]
    return f"{lost:,} of {words.count(runs, 'run')} diverged: {words.listing(parts)}"


def _totals(divergence: Divergence) -> tuple[int, int]:
    return sum(k for k, _ in divergence.counts.values()), sum(n for _, n in divergence.counts.values())


def _share(divergence: Divergence, stage: str) -> str:
    k, n = divergence.counts.get(stage, (0, 0))
    return f"{k:,} of {n:,}" if n else words.UNKNOWN


def _values(values: Iterable[float]) -> str:
    every = sorted(set(values))
    if len(every) <= 2:
        return " and ".join(words.trim(value, 2) for value in every) or words.UNKNOWN
    return f"{words.trim(every[0], 2)} to {words.trim(every[-1], 2)}"


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
