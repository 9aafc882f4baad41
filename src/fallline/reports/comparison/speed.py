"""Figure: how soon each arm reaches the target, in steps and in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import words
from ..figure import Figure, Mark, Panel, Scale
from .ranking import ROW
from .view import Arm, View


def speed(view: View) -> Figure | None:
    """Steps and seconds to the target, one row for each arm."""
    if not any(np.isfinite(arm.steps) for arm in view.arms):
        return None
    panels = [_panel(view, "steps to target", lambda arm: arm.steps, 1.0, lambda value: words.number(value))]
    times = np.array([arm.seconds for arm in view.arms])
    if np.isfinite(times).any():
        unit, scale = ("ms", 1e3) if np.nanmax(times) < 1 else ("s", 1.0)
        panels.append(
            _panel(
                view,
                f"time to target ({unit})",
                lambda arm: arm.seconds,
                scale,
                lambda value: words.seconds(value),
            )
        )
    caption = (
        f"{words.sentence(view.target_sentence)}In parentheses: the final runs that reached it. "
        "Time is a run's share of the time of the block of runs it trained in."
    )
    return Figure("speed", conclusion(view), tuple(panels), caption)


def conclusion(view: View) -> str:
    """Who reaches the target first and last, and who never does."""
    order = sorted((arm for arm in view.arms if np.isfinite(arm.steps)), key=lambda arm: arm.steps)
    never = [arm.label for arm in view.arms if not np.isfinite(arm.steps)]
    first, last = order[0], order[-1]
    sentence = f"{first.label} reaches {_target(view)} in {words.number(first.steps)} steps"
    if last is not first:
        sentence += f", {last.label} in {words.number(last.steps)}"
    if never:
        sentence += f"; {words.listing(never)} {'does' if len(never) == 1 else 'do'} not reach it"
    return sentence


def _target(view: View) -> str:
    return (
        f"a validation {view.metric} of {words.number(view.target)}"
        if np.isfinite(view.target)
        else "the target"
    )


def _panel(
    view: View, label: str, measure: Callable[[Arm], float], scale: float, say: Callable[[float], str]
) -> Panel:
    values = [measure(arm) * scale for arm in view.arms]
    finite = [value for value in values if np.isfinite(value)]
    marks = [mark for i, arm in enumerate(view.arms) for mark in _row(i, arm, measure(arm), scale, say)]
    said = [f"{arm.label} {_words(arm, measure(arm), say)}" for arm in view.arms]
    return Panel(
        Scale(label, low=0.0, high=max(finite) * 1.45), None, tuple(marks), alt=f"{label}: {'; '.join(said)}.",
        rows=tuple(arm.label for arm in view.arms), size=(424, ROW * len(view.arms) + 56),
    )  # fmt: skip


def _row(i: int, arm: Arm, value: float, scale: float, say: Callable[[float], str]) -> Sequence[Mark]:
    at, end = np.array([float(i)]), np.array([value * scale])
    text = (_words(arm, value, say),)
    if not np.isfinite(value):
        return [Mark("text", np.zeros(1), at, text=text, role="context")]
    return [
        Mark("whiskers", end, at, np.zeros(1), end, style=arm.style),
        Mark("points", end, at, style=arm.style),
        Mark("text", end, at, text=text, role="context"),
    ]


def _words(arm: Arm, value: float, say: Callable[[float], str]) -> str:
    reached = f" ({arm.reached[0]} of {arm.reached[1]})" if arm.reached else ""
    return f"{say(value)}{reached}" if np.isfinite(value) else f"not reached{reached}"
