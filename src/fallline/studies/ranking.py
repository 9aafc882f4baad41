"""Many arms compared: all paired differences, Holm's correction over all pairs, and ranks that respect ties."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import BadValue, NotFound, nearest
from .signs import holm, hopeless, sign_flip
from .stats import (
    Floats,
    Interval,
    Values,
    check_level,
    check_outcomes,
    finished,
    interval,
    spread,
    student_p,
)


@dataclass(frozen=True)
class Difference:
    """What separates two arms.

    Args:
        a: one arm.
        b: the other.
        value: mean score of ``a`` less that of ``b``, over replicates; None where only signs are known.
        low: the lower end of its interval (:func:`~.stats.interval`), or None.
        high: the upper end, or None.
        p: two-sided p of the sign-flip test; where outcomes were given, of that test or of the crossed t over
            replicates and test examples, whichever is larger.
        p_holm: ``p`` after Holm's correction over all pairs of the comparison.
        n: replicates.
        missing: replicates in which one of the two finished and the other did not.
        significant: whether ``p_holm`` is below 1 − level and the interval leaves out zero.
        winner: the better arm if ``significant``, else None.
    """

    a: str
    b: str
    value: float | None
    low: float | None
    high: float | None
    p: float
    p_holm: float
    n: int
    missing: int
    significant: bool
    winner: str | None

    def reversed(self) -> Difference:
        """The same difference, taken the other way round."""
        value, low, high = (None if x is None else 0.0 - x for x in (self.value, self.high, self.low))
        fixed = (self.p, self.p_holm, self.n, self.missing, self.significant, self.winner)
        return Difference(self.b, self.a, value, low, high, *fixed)


@dataclass(frozen=True)
class Standing:
    """Where one arm stands.

    Args:
        arm: its name.
        rank: 1 + the number of arms that are significantly better; None where no arm finished a replicate.
        score: its mean over the replicates that finished, with an interval.
        tied_with: the arms that it does not differ from significantly.
        diverged: replicates in which it did not finish.
    """

    arm: str
    rank: int | None
    score: Interval
    tied_with: tuple[str, ...]
    diverged: int


@dataclass(frozen=True)
class Ranking:
    """Arms in order of their means, with all that is known about their differences.

    Args:
        standings: best mean first. An arm that diverged counts, for this order alone, as the worst score of the
            comparison in the replicates that it did not finish.
        differences: one for each pair of arms that finished at least once, in the order of the standings.
        better: ``higher`` or ``lower``: which scores are good.
        level: of all intervals; 1 − level bounds the chance of calling any two equal arms different.
        n: replicates.
        note: a sentence, where no difference could have been significant with so few replicates; else None.
    """

    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]
    better: str
    level: float
    n: int
    note: str | None

    @property
    def order(self) -> tuple[str, ...]:
        """The names of the arms, best mean first."""
        return tuple(standing.arm for standing in self.standings)

    def __getitem__(self, arm: str) -> Standing:
        for standing in self.standings:
            if standing.arm == arm:
                return standing
        raise NotFound(f"no arm is called {arm!r}; {nearest(arm, self.order)}")

    def difference(self, a: str, b: str) -> Difference:
        """The difference of two arms, as a less b."""
        for found in self.differences:
            if {found.a, found.b} == {self[a].arm, self[b].arm} and a != b:
                return found if found.a == a else found.reversed()
        raise NotFound(
            f"{a!r} and {b!r} were not tested against each other: one finished no replicate, or they are one"
        )


def compare_all(
    scores: Mapping[str, Values],
    *,
    better: str = "higher",
    level: float = 0.95,
    outcomes: Mapping[str, ArrayLike] | None = None,
) -> Ranking:
    """Rank arms by paired replicates, and decline to rank those that the data do not separate.

    Two arms differ *significantly* if p after Holm's correction over all pairs is below 1 − level, and the
    interval of their paired difference leaves out zero.

    Args:
        scores: for each arm [n] scores, one a replicate; replicate i of all arms is one pair, with one set of
            seeds. None or NaN where the arm diverged or had no eligible setting.
        better: ``higher`` or ``lower``.
        level: the confidence level, between 0 and 1.
        outcomes: for each arm [n, m] scores of the same m test examples, whose row means are ``scores``. With
            them a difference must hold over other test examples too, not just over other seeds: p is then the
            larger of the sign-flip p and that of the crossed t, before Holm's correction.

    Raises:
        BadValue: if there is no arm, the arms have different numbers of replicates, the outcomes do not fit the
            scores, or ``better`` or ``level`` is not what it may be.

    Divergence counts. In a replicate that one arm finished and the other did not, the other is worse by the
    largest difference between the two that was seen in any replicate. (More would say less: one huge difference
    widens the interval until nothing is significant.) Where no such difference was seen, only the signs are
    compared and ``value`` is None. A replicate that neither finished is a difference of zero. An arm that
    finished no replicate is last, and not tested.

    >>> found = compare_all({"adam": [.97, .98, .97, .96, .97, .98], "sgd": [.91, .93, .92, .90, .92, .91]})
    >>> found.order, [standing.rank for standing in found.standings]
    (('adam', 'sgd'), [1, 2])
    >>> difference = found.difference("adam", "sgd")
    >>> difference.p_holm, difference.winner
    (0.03125, 'adam')
    """
    check_level(level)
    if better not in ("higher", "lower"):
        raise BadValue(f"better says which scores are good, 'higher' or 'lower'; got {better!r}")
    table = _table(scores)
    tables = _outcomes(table, outcomes)
    n = len(next(iter(table.values())))
    order = _order(table, better)
    tested = [arm for arm in order if np.isfinite(table[arm]).any()]
    pairs = list(combinations(tested, 2))
    raw = [_differ(a, b, table, tables, better=better, level=level) for a, b in pairs]
    adjusted = holm([pair.p for pair in raw])
    differences = tuple(
        pair.judged(p, 1 - level, better) for pair, p in zip(raw, adjusted.tolist(), strict=True)
    )
    standings = tuple(
        _standing(arm, tested, differences, interval(table[arm], level=level, outcomes=tables.get(arm)), n)
        for arm in order
    )
    return Ranking(standings, differences, better, level, n, hopeless(n, len(pairs), level=level))


# --- one pair ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """A difference before the correction for many pairs; ``sized`` says whether its size means anything."""

    a: str
    b: str
    found: Interval
    p: float
    missing: int
    sized: bool

    def judged(self, p_holm: float, alpha: float, better: str) -> Difference:
        value, low, high = self.found.value, self.found.low, self.found.high
        apart = low is not None and high is not None and (low > 0 or high < 0)
        significant = bool(p_holm < alpha and apart)
        ahead = self.a if ((value or 0.0) > 0) == (better == "higher") else self.b
        shown = (value, low, high) if self.sized else (None, None, None)
        winner = ahead if significant else None
        return Difference(
            self.a, self.b, *shown, self.p, p_holm, self.found.n, self.missing, significant, winner
        )


def _differ(
    a: str, b: str, table: Mapping[str, Floats], tables: Mapping[str, Floats], *, better: str, level: float
) -> _Pair:
    has_a, has_b = np.isfinite(table[a]), np.isfinite(table[b])
    d = _paired(table[a], table[b])
    largest = float(np.abs(d).max())
    penalty = (largest or 1.0) * (1 if better == "higher" else -1)
    d[has_a & ~has_b], d[has_b & ~has_a] = penalty, -penalty
    missing = int((has_a ^ has_b).sum())
    rows = None
    if a in tables and b in tables:
        rows = np.where((has_a & has_b)[:, None], tables[a] - tables[b], 0.0)
        rows += (d - rows.mean(axis=1))[
            :, None
        ]  # rows that were filled in are constant: no example stands out
    p = sign_flip(d)
    if rows is not None and len(d) > 1:
        with np.errstate(all="ignore"):
            p = max(p, student_p(spread(d, rows)))
    found = interval(d, level=level, outcomes=rows)
    return _Pair(a, b, found, p, missing, sized=missing == 0 or largest > 0)


def _paired(a: Floats, b: Floats) -> Floats:
    """[n] differences, zero where one of the two is missing or they differ by rounding alone."""
    largest = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        d = np.clip(a - b, -largest, largest)
    apart = np.abs(d) > 1e-12 * np.maximum(np.abs(a), np.abs(b))  # False where one is NaN
    return np.where(apart, d, 0.0)


# --- all arms ---------------------------------------------------------------------------------------------


def _table(scores: Mapping[str, Values]) -> dict[str, Floats]:
    if not scores:
        raise BadValue("a comparison needs at least one arm, got none")
    table = {arm: finished(values) for arm, values in scores.items()}
    lengths = {arm: len(values) for arm, values in table.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise BadValue(
            f"arms are compared replicate by replicate, so each needs equally many scores, at least one; got {lengths}. "
            "Write None for a replicate that an arm did not finish."
        )
    return table


def _outcomes(table: Mapping[str, Floats], outcomes: Mapping[str, ArrayLike] | None) -> dict[str, Floats]:
    """The outcomes of every arm that finished a replicate, checked."""
    if outcomes is None:
        return {}
    tested = [arm for arm, values in table.items() if np.isfinite(values).any()]
    lacking = [arm for arm in tested if arm not in outcomes]
    tables = {} if lacking else {arm: check_outcomes(table[arm], outcomes[arm]) for arm in tested}
    if lacking or len({rows.shape for rows in tables.values()}) > 1:
        got = {arm: np.shape(outcomes[arm]) for arm in outcomes}
        raise BadValue(
            f"outcomes need one table for each arm, all over the same test examples; got the shapes {got}"
        )
    return tables


def _order(table: Mapping[str, Floats], better: str) -> list[str]:
    """Arms by mean, best first; a missing replicate counts as the worst score of all, all missing as last."""
    sign = -1.0 if better == "higher" else 1.0
    known = [sign * v for values in table.values() for v in values[np.isfinite(values)].tolist()]
    worst = max(known, default=0.0)

    def place(arm: str) -> tuple[bool, float]:
        values = np.where(np.isfinite(table[arm]), sign * table[arm], worst)
        return not np.isfinite(table[arm]).any(), math.fsum(values / len(values))

    return sorted(table, key=place)


def _standing(
    arm: str, tested: list[str], differences: tuple[Difference, ...], score: Interval, n: int
) -> Standing:
    if arm not in tested:
        return Standing(arm, len(tested) + 1 if tested else None, score, (), n)
    own = [pair for pair in differences if arm in (pair.a, pair.b)]
    better = sum(pair.winner not in (None, arm) for pair in own)
    tied = tuple(pair.b if pair.a == arm else pair.a for pair in own if not pair.significant)
    return Standing(arm, 1 + better, score, tied, n - score.n)
