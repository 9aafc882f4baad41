"""Figure: the ranking, one row for each arm, with intervals and the replicates behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...figure import Array, Figure, Mark, Panel, Scale
from .. import words
from .ends import padded
from .view import Arm, Estimate, View

ROW = 44  # CSS pixels for a row with its name
_STRIP = 0.24  # the replicates lie this far under their interval, in rows


def ranking(view: View) -> Figure | None:
    """The test score of every arm and, where it was measured, its test loss."""
    if not any(arm.score.known for arm in view.arms):
        return None
    panels = [_panel(view, f"test {view.metric} ({view.better} is better)", lambda arm: arm.score)]
    if any(arm.loss.known for arm in view.arms) and "loss" not in view.metric:
        panels.append(_panel(view, "test loss (lower is better)", lambda arm: arm.loss))
    caption = (
        f"Signs and bars: mean and {view.level:.0%} interval; dots: {_replicates(view)}. Intervals are over replicates "
        "and, where all arms share their test examples, over those too."
    )
    if len(view.arms) > 1:
        caption += (
            " Shaded: the interval of the arm on top. Differences are tested in pairs, so two arms may differ although "
            "their intervals overlap: the pairwise differences decide."
        )
    return Figure("ranking", conclusion(view), tuple(panels), caption)


def conclusion(view: View) -> str:
    """Who leads and who ties, in one sentence."""
    ranked = [arm for arm in view.arms if arm.score.known]
    lost = [arm.label for arm in view.arms if not arm.score.known]
    leaders = [arm for arm in ranked if arm.rank == 1] or ranked[:1]
    behind = [arm.label for arm in ranked if arm not in leaders]
    digits = score_decimals(view)
    best = leaders[0]
    value = (
        f"{words.fixed(best.score.value, digits)} {words.interval(best.score.low, best.score.high, digits)}"
    )
    if len(ranked) == 1:
        sentence = f"{best.label} reaches {view.metric} {value}"
    elif not behind:
        sentence = f"{_all(len(ranked), bool(lost))} tie on {view.metric}: {_why_tied(leaders)}"
    elif len(leaders) == 1:
        sentence = f"{best.label} has the best {view.metric}, {value}{_over(best, behind)}"
    else:
        sentence = (
            f"{words.listing([arm.label for arm in leaders])} tie for the best {view.metric}; {_fall(behind)}"
        )
    return sentence + (f"; {words.listing(lost)} diverged" if lost else "")


def score_decimals(view: View) -> int:
    """The decimals that scores are shown with."""
    return words.decimals_for(arm.score.high - arm.score.low for arm in view.arms)


def loss_decimals(view: View) -> int:
    """The decimals that losses are shown with."""
    return words.decimals_for(arm.loss.high - arm.loss.low for arm in view.arms)


def _all(count: int, others: bool) -> str:
    which = "Both" if count == 2 else f"All {words.spelled(count)}"
    return f"{which} arms that finished" if others else f"{which} arms"


def _why_tied(arms: Sequence[Arm]) -> str:
    overlap = max(arm.score.low for arm in arms) <= min(arm.score.high for arm in arms)
    return "every interval overlaps" if overlap else "no difference is significant"


def _over(best: Arm, behind: Sequence[str]) -> str:
    beaten = [label for label in behind if label not in best.tied_with]
    if len(beaten) == len(behind):
        return f", significantly ahead of {words.listing(behind)}"
    return f", significantly ahead of {words.listing(beaten)} only" if beaten else ""


def _fall(labels: Sequence[str]) -> str:
    return f"{words.listing(labels)} {'falls' if len(labels) == 1 else 'fall'} behind"


def _replicates(view: View) -> str:
    return words.count(view.replicates, "replicate") if view.replicates else "replicates"


def _panel(view: View, label: str, measure: Callable[[Arm], Estimate]) -> Panel:
    estimates = [measure(arm) for arm in view.arms]
    everything = np.concatenate([[e.value, e.low, e.high, *e.seeds] for e in estimates])
    low, high = padded(everything)
    marks: list[Mark] = []
    first = next((arm for arm, e in zip(view.arms, estimates, strict=True) if e.known), None)
    if first is not None and len(view.arms) > 1:
        marks.append(
            Mark("vspan", low=_one(measure(first).low), high=_one(measure(first).high), style=first.style)
        )
    for i, (arm, e) in enumerate(zip(view.arms, estimates, strict=True)):
        marks += _row(i, arm, e, low)
    decimals = words.decimals_for(e.high - e.low for e in estimates)
    said = [
        f"{a.label} {words.fixed(e.value, decimals)} {words.interval(e.low, e.high, decimals)}"
        for a, e in zip(view.arms, estimates, strict=True)
    ]
    return Panel(
        Scale(label, low=low, high=high), None, tuple(marks), alt=f"{label}: {'; '.join(said)}.",
        rows=tuple(arm.label for arm in view.arms), size=(424, ROW * len(view.arms) + 56),
    )  # fmt: skip


def _row(i: int, arm: Arm, estimate: Estimate, left: float) -> list[Mark]:
    if not estimate.known:
        return [Mark("text", _one(left), _one(i), text=(_missing(arm),), role="context")]
    seeds = np.array(estimate.seeds, dtype=np.float64)
    seeds = seeds[np.isfinite(seeds)]
    return [
        Mark("points", seeds, np.full(len(seeds), i + _STRIP), style=arm.style, role="faint"),
        Mark(
            "whiskers",
            _one(estimate.value),
            _one(i),
            _one(estimate.low),
            _one(estimate.high),
            style=arm.style,
        ),
        Mark("points", _one(estimate.value), _one(i), style=arm.style),
    ]


def _missing(arm: Arm) -> str:
    diverged, of = arm.diverged.get("final", (0, 0))
    return f"diverged in {diverged} of {of} final runs" if diverged else "not measured"


def _one(value: float) -> Array:
    return np.array([value], dtype=np.float64)
