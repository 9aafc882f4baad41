"""The decisions of a comparison, as pure functions of arrays: which setting, which target, how far it holds.

Arrays named ``scores`` hold validation scores. ``better`` says which of them are good: ``higher`` or ``lower``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import BadValue
from ..specs import Axis, Domain


@dataclass(frozen=True)
class Choice:
    """A setting, chosen.

    Args:
        index: its place on the searched axis; None where no setting is eligible.
        boundary: whether it is the first or the last of the axis, so that a better one may lie outside.
    """

    index: int | None
    boundary: bool


@dataclass(frozen=True)
class WorkingRange:
    """The rates that reach a target.

    Args:
        low: the smallest rate, in the unit of the rates.
        high: the largest.
        decades: log₁₀(high / low); at least that much where an end is open.
        open_low: whether the range ends only because the search did.
        open_high: the same at the upper end.
    """

    low: float
    high: float
    decades: float
    open_low: bool
    open_high: bool


def choose(
    scores: ArrayLike,
    losses: ArrayLike | None = None,
    finite: ArrayLike | None = None,
    *,
    better: str = "higher",
) -> Choice:
    """Choose the setting with the best mean validation score over seeds.

    A setting with a diverged seed is not eligible: what fails once in five would fail for one user in five. Ties
    go to the lower mean validation loss, then to the middle of the tied settings, so that nobody wins by standing
    at an edge.

    Args:
        scores: [settings, seeds], the settings in increasing order of the searched axis.
        losses: [settings, seeds] validation losses, or None.
        finite: [settings, seeds] whether the run ended with finite numbers; None if all did. A score that is
            not finite counts as diverged too.
        better: ``higher`` or ``lower``.

    Raises:
        BadValue: if the arrays do not have one shape, or ``better`` is neither.

    >>> choose([[0.1, 0.2], [0.8, 0.9], [0.9, float("nan")]])
    Choice(index=1, boundary=False)
    """
    table = _signed(scores, better)
    if table.ndim != 2 or 0 in table.shape:
        raise BadValue(f"scores have the shape [settings, seeds], one of each at least; got {table.shape}")
    ended = np.isfinite(table) & _like(finite, table, "finite", 1.0).astype(bool)
    eligible = ended.all(axis=1)
    if not eligible.any():
        return Choice(None, boundary=False)
    best = _lowest(np.where(ended, table, 0.0).mean(axis=1), eligible)
    given = _like(losses, table, "losses", 0.0)
    loss = np.where(np.isfinite(given), given, np.inf).mean(axis=1)
    if np.isfinite(loss[best]).any():
        best = _lowest(loss, best)
    index = _middle(np.flatnonzero(best), len(table))
    return Choice(index, boundary=len(table) > 1 and index in (0, len(table) - 1))


def target(
    initial: float | None, best: float | None, *, better: str = "higher", share: float = 0.95
) -> float | None:
    """The score that has gained ``share`` of what the best arm gained: (1 − share) · initial + share · best.

    Args:
        initial: the score of the untrained model.
        best: the score of the best arm.
        better: ``higher`` or ``lower``.
        share: between 0 and 1.

    Raises:
        BadValue: if ``share`` is not above 0 and at most 1, or ``better`` is neither.

    None where nothing was gained or a score is not known.

    >>> target(0.1, 0.9, share=0.5)
    0.5
    >>> target(2.0, 0.0, better="lower", share=0.75)
    0.5
    >>> target(0.1, 0.1) is None
    True
    """
    if not 0 < share <= 1:
        raise BadValue(f"share is the part of the best arm's gain, above 0 and at most 1; got {share}")
    sign = _sign(better)
    if initial is None or best is None or not (math.isfinite(initial) and math.isfinite(best)):
        return None
    if not sign * best < sign * initial:
        return None
    return (1 - share) * initial + share * best


def steps_to_target(
    steps: Sequence[int], scores: Sequence[float | None], goal: float | None, *, better: str = "higher"
) -> int | None:
    """The first evaluated step at which the score is at or beyond the target; nothing is interpolated.

    Args:
        steps: [k] evaluated steps, increasing.
        scores: [k] scores at these steps; None or NaN reaches nothing.
        goal: the target; None is never reached.
        better: ``higher`` or ``lower``.

    Raises:
        BadValue: if the lengths differ, the steps do not increase, or ``better`` is neither.

    >>> steps_to_target([0, 100, 200, 300], [0.1, 0.7, 0.9, 0.8], 0.75)
    200
    """
    if len(steps) != len(scores) or any(a >= b for a, b in pairwise(steps)):
        raise BadValue(
            f"steps must increase, with one score each; got {len(steps)} steps and {len(scores)} scores"
        )
    lacks = _lacks(scores, goal, better)
    return next((int(step) for step, lack in zip(steps, lacks, strict=True) if lack <= 0), None)


def working_range(
    rates: Sequence[float], scores: Sequence[float | None], goal: float | None, *, better: str = "higher"
) -> WorkingRange | None:
    """The widest unbroken stretch of rates that reach the target.

    Between a rate that reaches it and a neighbor that does not, the crossing is interpolated linearly in
    log₁₀(rate). Toward a neighbor that diverged nothing can be interpolated: the stretch ends at the last
    rate that reached.

    Args:
        rates: [settings] above 0 and increasing, such as learning rates.
        scores: [settings] mean validation scores; None or NaN where the setting is not eligible.
        goal: the target; None is never reached.
        better: ``higher`` or ``lower``.

    Raises:
        BadValue: if the lengths differ, the rates do not increase from above 0, or ``better`` is neither.

    None where no rate reaches the target. ``open_low`` and ``open_high`` mark an end of the search: the range is
    then *at least* so wide.

    >>> found = working_range([1e-3, 1e-2, 1e-1, 1.0], [0.5, 0.9, 0.9, None], 0.7)
    >>> f"{found.low:.3g} to {found.high:.3g}: {found.decades:.3g} decades"
    '0.00316 to 0.1: 1.5 decades'
    """
    logs = _log_rates(rates, len(scores))
    lacks = _lacks(scores, goal, better)
    stretches = [_stretch(logs, lacks, run) for run in _unbroken(lacks <= 0)]
    if not stretches:
        return None
    low, high, open_low, open_high = max(stretches, key=lambda s: s[1] - s[0])
    return WorkingRange(10**low, 10**high, high - low, open_low, open_high)


def grow(
    axis: Axis, chosen: Sequence[int | None], points: int, *, within: Domain | None = None
) -> tuple[float, ...]:
    """New values for an axis whose optima sit at its edge.

    The axis goes on with its own mean spacing (a ratio if it is logarithmic) at the end where more optima sit. An
    arm whose optima are all inside grows at the end nearer to them, so that all arms get equally many new points
    and budgets stay equal; with nothing to choose between, at the lower end, where training is calmer.

    Args:
        axis: the searched values, increasing, two at least.
        chosen: the index that each replicate chose; None where none was eligible.
        points: how many values to add, at least one.
        within: what the number may be; what does not fit on one side is added at the other.

    Raises:
        BadValue: if the values do not increase, an index is not on the axis, or the new values fit on neither side.

    Returns the new values alone, in increasing order.

    >>> from fallline.specs import axis
    >>> grow(axis(0.01, 0.1, 1), [2, 2, 1], 2)
    (10.0, 100.0)
    """
    values, last = axis.values, len(axis.values) - 1
    if last < 1 or any(a >= b for a, b in pairwise(values)):
        raise BadValue(f"an axis that grows has two values at least, in increasing order; got {values}")
    places = [index for index in chosen if index is not None]
    if points < 1 or any(not 0 <= index <= last for index in places):
        raise BadValue(
            f"growing needs at least one point, and indices from 0 to {last}; got {points=}, chosen={chosen}"
        )
    upward = places.count(last) - places.count(0) or sum(places) - len(places) * last / 2
    sides = (_beyond(axis, points, upper=True), _beyond(axis, points, upper=False))
    preferred = sides if upward > 0 else sides[::-1]
    allowed = within or Domain("a value of the axis", low=0.0 if axis.log else -math.inf, open_low=axis.log)
    new = [value for side in preferred for value in _leading(side, allowed)][:points]
    if len(new) < points:
        raise BadValue(
            f"{axis!r} cannot grow by {points} values: {allowed.meaning} must be finite and {allowed}"
        )
    return tuple(sorted(new))


# --- steps ------------------------------------------------------------------------------------------------


def _sign(better: str) -> int:
    """What turns a score into something to be made small."""
    if better not in ("higher", "lower"):
        raise BadValue(f"better says which scores are good, 'higher' or 'lower'; got {better!r}")
    return -1 if better == "higher" else 1


def _signed(scores: ArrayLike, better: str) -> NDArray[np.float64]:
    return _sign(better) * np.asarray(scores, dtype=np.float64)


def _lacks(scores: Sequence[float | None], goal: float | None, better: str) -> NDArray[np.float64]:
    """[k] how much each score lacks to the target: at most zero where it is reached, NaN where that is not known."""
    known = np.array([math.nan if v is None or not math.isfinite(v) else v for v in scores], dtype=np.float64)
    lacks = _sign(better) * (known - (math.nan if goal is None else goal))
    rounding = 0.0 if goal is None else 1e-12 * abs(goal)
    return np.where(np.abs(lacks) <= rounding, 0.0, lacks)


def _like(
    given: ArrayLike | None, table: NDArray[np.float64], name: str, default: float
) -> NDArray[np.float64]:
    array = np.full(table.shape, default) if given is None else np.asarray(given, dtype=np.float64)
    if array.shape != table.shape:
        raise BadValue(f"{name} must have the shape of the scores, {table.shape}; got {array.shape}")
    return array


def _lowest(means: NDArray[np.float64], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which are the lowest of those given; sums in another order differ by rounding, and are equal here."""
    least = means[among].min()
    return among & (means <= least + 1e-12 * abs(least))


def _middle(tied: NDArray[np.intp], settings: int) -> int:
    """The middle one of the tied settings; of two middle ones, that nearer to the middle of the axis."""
    pair = (int(tied[(len(tied) - 1) // 2]), int(tied[len(tied) // 2]))
    return min(pair, key=lambda index: abs(2 * index - (settings - 1)))


def _log_rates(rates: Sequence[float], scores: int) -> list[float]:
    increasing = all(a < b for a, b in pairwise(rates))
    if len(rates) != scores or not increasing or any(not 0 < rate < math.inf for rate in rates):
        raise BadValue(
            f"rates increase from above 0, with one score each; got {scores} scores and the rates {list(rates)}"
        )
    return [math.log10(rate) for rate in rates]


def _unbroken(reached: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each unbroken run of True."""
    edges = np.diff(np.concatenate([[0], reached.astype(int), [0]]))
    return list(
        zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist(), strict=True)
    )


def _stretch(
    logs: list[float], lacks: NDArray[np.float64], run: tuple[int, int]
) -> tuple[float, float, bool, bool]:
    """(low, high, open_low, open_high) of one run of rates that reach the target, low and high as log₁₀."""
    first, last = run
    low = _crossing(logs, lacks, first, first - 1)
    high = _crossing(logs, lacks, last, last + 1)
    return low, high, first == 0, last == len(logs) - 1


def _crossing(logs: list[float], lacks: NDArray[np.float64], inside: int, outside: int) -> float:
    if not 0 <= outside < len(logs) or not math.isfinite(lacks[outside]):
        return logs[inside]
    share = lacks[inside] / (lacks[inside] - lacks[outside])
    return float(logs[inside] + share * (logs[outside] - logs[inside]))


def _beyond(axis: Axis, points: int, *, upper: bool) -> list[float]:
    """The next values of an axis beyond one end, nearest first, with the mean spacing of the axis."""
    end, start = axis.values[-1 if upper else 0], axis.values[0 if upper else -1]
    steps = np.arange(1, points + 1) / (len(axis.values) - 1)
    with np.errstate(all="ignore"):
        new = end * (end / start) ** steps if axis.log else end + (end - start) * steps
    return [float(f"{value:.6g}") for value in new.tolist()]


def _leading(side: list[float], within: Domain) -> list[float]:
    """The values up to the first that is not allowed."""
    return list(takewhile(lambda value: math.isfinite(value) and value in within, side))
