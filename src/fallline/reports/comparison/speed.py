"""Figure: how soon each arm reaches the target, in steps and in seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...figure import Array, Figure, Mark, Panel, Scale
from .. import words
from .ranking import ROW
from .view import Arm, View


def speed(view: View) -> Figure | None:
    """Steps and seconds to the target, one row for each arm."""
    steps = np.array([arm.steps for arm in view.arms])
    if not np.isfinite(steps).any():
        return None
    panels = [_panel(view, "steps to target", steps, [_steps(arm) for arm in view.arms])]
    seconds = np.array([arm.seconds for arm in view.arms])
    if np.isfinite(seconds).any():
        unit, scale = ("ms", 1e3) if np.nanmax(seconds) < 1 else ("s", 1.0)
        said = [
            words.seconds(arm.seconds) if np.isfinite(arm.seconds) else "not reached" for arm in view.arms
        ]
        panels.append(_panel(view, f"time to target ({unit})", seconds * scale, said))
    caption = (
        f"{view.target_words} In parentheses: the final runs that reached it. "
        "Time is a run's share of the time of the block of runs it trained in."
    )
    return Figure("speed", _conclusion(view), tuple(panels), caption)


def _conclusion(view: View) -> str:
    """Who reaches the target first and last, and who never does."""
    order = sorted((arm for arm in view.arms if np.isfinite(arm.steps)), key=lambda arm: arm.steps)
    never = [arm.label for arm in view.arms if not np.isfinite(arm.steps)]
    first, last = order[0], order[-1]
    if len(order) > 1 and view.ties("steps to target"):
        spread = f"{words.number(first.steps)} ({first.label}) to {words.number(last.steps)} ({last.label})"
        sentence = f"The steps to target tie, from {spread}: no difference is significant"
    else:
        sentence = f"{first.label} reaches {_target(view)} in {words.number(first.steps)} steps"
        sentence += f", {last.label} in {words.number(last.steps)}" if last is not first else ""
    verb = "does" if len(never) == 1 else "do"
    return sentence + (f"; {words.listing(never)} {verb} not reach it" if never else "")


def _target(view: View) -> str:
    known = np.isfinite(view.target)
    return f"a validation {view.metric} of {words.trim(view.target, 4)}" if known else "the target"


def _panel(view: View, label: str, values: Array, texts: Sequence[str]) -> Panel:
    said = [f"{arm.label} {text}" for arm, text in zip(view.arms, texts, strict=True)]
    rows = zip(view.arms, values, texts, strict=True)
    return Panel(
        Scale(label, low=0.0, high=float(np.nanmax(values)) * 1.45 or 1.0), None,
        tuple(mark for i, row in enumerate(rows) for mark in _row(i, *row)),
        alt=f"{label}: {'; '.join(said)}.", rows=tuple(arm.label for arm in view.arms),
        size=(424, ROW * len(view.arms) + 56),
    )  # fmt: skip


def _row(i: int, arm: Arm, value: float, text: str) -> Sequence[Mark]:
    at, end = np.array([float(i)]), np.array([value])
    if not np.isfinite(value):
        return [Mark("text", np.zeros(1), at, text=(text,), role="context")]
    return [
        Mark("whiskers", end, at, np.zeros(1), end, style=arm.style),
        Mark("points", end, at, style=arm.style),
        Mark("text", end, at, text=(text,), role="context"),
    ]


def _steps(arm: Arm) -> str:
    reached = f" ({arm.reached[0]} of {arm.reached[1]})" if arm.reached else ""
    return f"{words.number(arm.steps) if np.isfinite(arm.steps) else 'not reached'}{reached}"
