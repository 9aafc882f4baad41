"""Figures: how much the learning rate matters, and over how many decades of it each arm reaches the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...figure import Figure, Mark, Panel, Scale
from .. import words
from .ends import bulk, padded
from .ranking import ROW
from .view import Arm, Rates, View, Working

_SMALL = (272, 196)


def rates(view: View) -> list[Figure]:
    """The working range of every arm, one row each, and the score at every value searched, one panel each."""
    arms = [arm for arm in view.arms if arm.rates is not None]
    if not arms:
        return []
    found = [_panels(view, arms, _axis(arms))]
    if any(arm.working for arm in arms) and np.isfinite(view.target):
        found.insert(0, _working(view, arms, _axis(arms)))
    return found


def searched_name(arms: Sequence[Arm]) -> str:
    """What was searched, in words: the learning rate where that is it."""
    names = {arm.rates.name.split(".")[-1] for arm in arms if arm.rates}
    return "learning rate" if names == {"lr"} else names.pop() if len(names) == 1 else "value searched"


def _axis(arms: Sequence[Arm]) -> Scale:
    every = np.concatenate([arm.rates.values for arm in arms if arm.rates])
    name = searched_name(arms)
    if every.min() <= 0:
        low, high = padded(every)
        return Scale(name, low=low, high=high)
    return Scale(f"{name}, log scale", log=True, low=float(every.min()) / 1.6, high=float(every.max()) * 1.6)


# --- the working range ------------------------------------------------------------------------------------


def _working(view: View, arms: Sequence[Arm], x: Scale) -> Figure:
    where = tuple(mark for i, arm in enumerate(arms) for mark in _row(i, arm))
    said = [f"{arm.label}: {spoken(arm.working)}" for arm in arms]
    alt = f"{words.first_up(searched_name(arms))} at which the target is reached. {'; '.join(said)}."
    rows, size = tuple(arm.label for arm in arms), (424, ROW * len(arms) + 56)
    panels = Panel(x, None, where, alt=alt, rows=rows, size=size), _widths(arms)
    caption = (
        f"First: where the mean validation {view.metric} reaches the target, {words.trim(view.target, 4)}; sign: the setting "
        "that was chosen; gray: what was searched. An arrow marks a range that is still open where the search ended, so "
        f"its width is a lower bound. Second: the width, mean and {view.level:.0%} interval over replicates."
    )
    return Figure("working", _range_conclusion(view, arms), panels, caption)


def _widths(arms: Sequence[Arm]) -> Panel:
    marks: list[Mark] = []
    found = [arm.working for arm in arms]
    ends = np.array([[w.decades, w.decades_low, w.decades_high] for w in found if w])
    for i, arm in enumerate(arms):
        at, width = np.array([float(i)]), arm.working
        if width is None:
            marks.append(Mark("text", np.zeros(1), at, text=("does not reach the target",), role="context"))
            continue
        value = np.array([width.decades])
        marks.append(
            Mark(
                "whiskers",
                value,
                at,
                np.array([width.decades_low]),
                np.array([width.decades_high]),
                style=arm.style,
            )
        )
        marks.append(Mark("points", value, at, style=arm.style))
        right = np.array([np.fmax(width.decades, width.decades_high)])
        marks.append(Mark("text", right, at, text=(_over(width, "≥ "),), role="context"))
    said = [f"{arm.label} {_over(arm.working) if arm.working else 'none'}" for arm in arms]
    return Panel(
        Scale("width of the working range (decades)", low=0.0, high=float(np.nanmax(ends)) * 1.2), None, tuple(marks),
        alt=f"Width of the working range in decades: {'; '.join(said)}.", rows=tuple(arm.label for arm in arms),
        size=(424, ROW * len(arms) + 56),
    )  # fmt: skip


def _row(i: int, arm: Arm) -> list[Mark]:
    searched = arm.rates.values if arm.rates is not None else np.empty(0)
    at = np.array([float(i)])
    marks = [Mark("whiskers", searched[:1], at, searched[:1], searched[-1:], role="context")]
    chosen = _chosen(arm)
    if arm.working is None:
        return marks
    low, high = np.array([arm.working.low]), np.array([arm.working.high])
    marks.append(Mark("whiskers", low, at, low, high, style=arm.style))
    for end, is_open, shape in ((low, arm.working.open_low, "left"), (high, arm.working.open_high, "right")):
        if is_open:
            marks.append(Mark(shape, end, at, style=arm.style))
    if chosen is not None:
        marks.append(Mark("points", np.array([chosen]), at, style=arm.style))
    return marks


def spoken(working: Working | None) -> str:
    """A working range in a sentence."""
    if working is None:
        return "no setting reaches the target"
    ends = f"{words.trim(working.low, 2)} to {words.trim(working.high, 2)}"
    return f"{'at least ' if working.open else ''}{working.decades:.1f} decades, {ends}"


def _range_conclusion(view: View, arms: Sequence[Arm]) -> str:
    wide = sorted(
        ((arm.label, arm.working) for arm in arms if arm.working), key=lambda pair: -pair[1].decades
    )
    never = [arm.label for arm in arms if not arm.working]
    (first, widest), (last, narrowest) = wide[0], wide[-1]
    sentence = f"{first} works over {_over(widest)} decades of {searched_name(arms)}"
    if last != first:
        sentence += f", {last} over {_over(narrowest)}"
        sentence += ": no difference is significant" if view.ties("working range") else ""
    if never:
        sentence += f"; {words.listing(never)} {'reaches' if len(never) == 1 else 'reach'} the target nowhere"
    return sentence


def _over(working: Working, at_least: str = "at least ") -> str:
    return f"{at_least if working.open else ''}{working.decades:.1f}"


# --- the score at every rate ------------------------------------------------------------------------------


def _panels(view: View, arms: Sequence[Arm], x: Scale) -> Figure:
    scores = np.concatenate(
        [np.concatenate((a.rates.scores, a.rates.low, a.rates.high)) for a in arms if a.rates]
    )
    low, high = bulk(np.append(scores, view.target))
    y = Scale(f"validation {view.metric}", low=low, high=high)
    context = [Mark("line", a.rates.values, a.rates.scores, role="context") for a in arms if a.rates]
    panels = tuple(_one_arm(view, arm, arm.rates, x, y, context) for arm in arms if arm.rates)
    return Figure("rates", _score_conclusion(view, arms), panels, _caption(view), columns=3)


def _one_arm(view: View, arm: Arm, found: Rates, x: Scale, y: Scale, context: Sequence[Mark]) -> Panel:
    marks = list(context)
    if arm.working is not None:
        span = np.array([arm.working.low]), np.array([arm.working.high])
        marks.append(Mark("vspan", low=span[0], high=span[1], style=arm.style))
    if np.isfinite(view.target):
        marks.append(Mark("hline", y=np.array([view.target])))
    marks += [
        Mark("band", found.values, found.scores, found.low, found.high, style=arm.style),
        Mark("line", found.values, found.scores, style=arm.style),
        Mark("points", found.values, found.scores, style=arm.style),
        *_crosses(found, arm.style),
    ]
    return Panel(x, y, tuple(marks), title=arm.label, alt=_alt(arm, found), style=arm.style, size=_SMALL)


def _crosses(found: Rates, style: int) -> list[Mark]:
    """Crosses on the x axis: bold where all runs diverged, thin where some did."""
    some, every = _diverged(found)
    thin = np.flatnonzero(some & ~every)
    bold = np.flatnonzero(every)
    return [
        Mark("crosses", found.values[at], np.full(len(at), 0.0), style=style, role=role)
        for at, role in ((thin, "faint"), (bold, "main"))
        if len(at)
    ]


def _diverged(found: Rates) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    some = found.diverged > 0
    return some, some & (found.diverged >= found.of)


def _alt(arm: Arm, found: Rates) -> str:
    points = []
    for rate, score, diverged, of in zip(found.values, found.scores, found.diverged, found.of, strict=True):
        lost = f" ({diverged:.0f} of {of:.0f} diverged)" if diverged > 0 else ""
        points.append(f"{words.trim(rate, 2)}: {words.number(score)}{lost}")
    return f"{arm.label}, mean validation score at each value of {found.name}. {'; '.join(points)}."


def _score_conclusion(view: View, arms: Sequence[Arm]) -> str:
    """What a wrong guess costs: the score that is lost one factor of ten away from the best rate."""
    costs = {arm.label: cost for arm in arms if arm.rates and not np.isnan(cost := _cost(view, arm.rates))}
    order = sorted((label for label in costs if np.isfinite(costs[label])), key=lambda label: costs[label])
    lost = [label for label in costs if np.isinf(costs[label])]
    if not costs:
        return f"Validation {view.metric} at each {searched_name(arms)} that was searched"
    parts = [f"costs {order[0]} {words.number(costs[order[0]], 2)} of {view.metric}"] if order else []
    if len(order) > 1:
        parts[0] += f" and {order[-1]} {words.number(costs[order[-1]], 2)}"
    if lost:
        parts.append(f"makes {words.listing(lost)} diverge")
    return f"A {searched_name(arms)} ten times off {' and '.join(parts)}"


def _cost(view: View, found: Rates) -> float:
    """The larger loss of score a decade below or above the best rate.

    Infinite where every run diverges there, NaN where neither side was searched.
    """
    sign = 1.0 if view.better == "higher" else -1.0
    known = np.isfinite(found.scores)
    if not known.any() or found.values.min() <= 0:
        return np.nan
    searched, logs, scores = np.log10(found.values), np.log10(found.values[known]), sign * found.scores[known]
    best = int(np.argmax(scores))
    sides = [logs[best] + shift for shift in (-1, 1)]
    sides = [side for side in sides if searched[0] - 0.01 <= side <= searched[-1] + 0.01]
    costs = [scores[best] - np.interp(side, logs, scores, left=-np.inf, right=-np.inf) for side in sides]
    return max(map(float, costs), default=np.nan)


def _caption(view: View) -> str:
    center = "mean over replicates" if view.finished else "mean over the runs so far"
    spread = f"{view.level:.0%} interval" if view.finished else "their range"
    target = " Dashed: the target; shaded: the working range." if np.isfinite(view.target) else ""
    return (
        f"Each panel: one arm before the others in gray; line: {center}; band: {spread}.{target} A cross marks a value "
        "at which runs diverged, bold where all of them did."
    )


def _chosen(arm: Arm) -> float | None:
    value = arm.settings.get(arm.rates.name) if arm.rates else None
    return float(value) if isinstance(value, (int, float)) else None
