"""Intervals over replicates: what a mean score may be, given that seeds and test examples are a sample.

A *replicate* is one repetition of the whole protocol, tuning included; intervals are over replicates, never over
the runs inside one. Where all replicates were judged on one test set, its examples are a second sample, crossed
with the first: :func:`interval` then widens for both. Pure numpy and scipy; the tests of differences are in
:mod:`fallline.studies.signs`, the comparison of many arms in :mod:`fallline.studies.ranking`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from ..errors import BadValue

Floats: TypeAlias = NDArray[np.float64]
Values: TypeAlias = "Sequence[float | None] | NDArray[Any]"

FEW = 30  # below this many replicates Student's t covers better than the bootstrap
DRAWS = 9999  # bootstrap resamples: an end moves by about 2 % of the half-width from one seed to another


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Args:
        value: the mean over the replicates that finished, in the unit of the score; None where none did.
        low: the lower end, None where it is not known (one replicate, or numbers too large to add up).
        high: the upper end, as ``low``.
        n: how many replicates it is over.
        level: the share of such intervals that contain the true mean.
        method: ``none``, ``t``, ``bca``, ``crossed t``, ``crossed bca`` or ``sign-flip``.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    level: float
    method: str


@dataclass(frozen=True)
class Spread:
    """How far a mean may be off.

    Args:
        value: the mean.
        variance: the squared standard error of the mean.
        freedom: the degrees of freedom of ``variance``.
        parts: for each source of variation, what each of its units adds to the mean: replicates [n], and
            test examples [m] where they were given. Each part sums to zero.
    """

    value: float
    variance: float
    freedom: float
    parts: tuple[Floats, ...]


def interval(values: Values, *, level: float = 0.95, outcomes: ArrayLike | None = None) -> Interval:
    """The mean of replicate scores and its confidence interval.

    Below 30 replicates it is Student's t, mean ± t(level, n − 1) · s / √n; from 30 on the BCa bootstrap
    (9999 resamples, seeded, so that equal values give equal intervals). With ``outcomes`` the test examples
    count as a second sample, crossed with the replicates (:func:`spread`).

    Args:
        values: [n] scores, one for each replicate; None, NaN and infinities are replicates that did not
            finish, and are left out of the mean and of ``n``.
        level: the confidence level, between 0 and 1.
        outcomes: [n, m] the score of each test example in each replicate; its row means are ``values``.

    Raises:
        BadValue: if the level is not between 0 and 1, or the outcomes do not fit the values.

    One replicate has no interval (``method`` is ``none``); replicates that are all equal have themselves.
    No field is ever NaN or infinite.

    >>> found = interval([0.90, 0.92, 0.94])
    >>> f"{found.value:.3f} in {found.low:.3f} to {found.high:.3f}, n = {found.n}, {found.method}"
    '0.920 in 0.870 to 0.970, n = 3, t'

    Sources: Student, "The probable error of a mean" (1908); Efron, "Better bootstrap confidence intervals"
    (1987), which covers too little at n = 10, hence the switch at 30.
    """
    check_level(level)
    scores = finished(values)
    kept = np.isfinite(scores)
    n = int(kept.sum())
    table = None if outcomes is None else check_outcomes(scores, outcomes)[kept]
    if n < 2:
        return Interval(float(scores[kept][0]) if n else None, None, None, n, level, "none")
    with np.errstate(all="ignore"):
        known = spread(scores[kept], table)
        low, high = student(known, level) if n < FEW else bca(known, level)
    kind = ("" if table is None else "crossed ") + ("t" if n < FEW else "bca")
    return Interval(finite(known.value), finite(low), finite(high), n, level, kind)


def spread(values: Floats, outcomes: Floats | None = None) -> Spread:
    """The standard error of a mean over replicates, and over test examples where ``outcomes`` are given.

    Without outcomes, s² / n with n − 1 degrees of freedom. With them, Y[i, j] = μ + aᵢ + bⱼ + eᵢⱼ, where the
    replicates and the examples are samples both, and the mean of all has the variance

        σa²/n + σb²/m + σe²/(nm),   estimated by   (A + max(B − E, 0)) / (nm),

    with A, B and E the mean squares of rows, columns and rest. Its degrees of freedom are Satterthwaite's, at
    least those of the smaller sample. It is never below s² / n, and equal to it where the examples add nothing: a part that the data put below
    zero counts as zero.

    Args:
        values: [n] finite scores, n ≥ 2.
        outcomes: [n, m] finite outcomes whose row means are ``values``, m ≥ 2.

    >>> plain = spread(np.array([0.5, 1.0]))
    >>> both = spread(np.array([0.5, 1.0]), np.array([[0.0, 1.0], [1.0, 1.0]]))
    >>> plain.variance, both.variance, both.freedom
    (0.0625, 0.0625, 1)

    Sources: Owen, "The pigeonhole bootstrap" (2007), for the model; Satterthwaite, "An approximate
    distribution of estimates of variance components" (1946).
    """
    n = len(values)
    value = float(values[0]) if np.all(values == values[0]) else float(values.mean())
    rows = values - value
    own = float(rows @ rows) / (n - 1)
    if outcomes is None:
        return Spread(value, own / n, n - 1, (rows / n,))
    m = outcomes.shape[1]
    columns = outcomes.mean(axis=0)
    columns = columns - columns.mean()
    rest = outcomes - outcomes.mean(axis=1, keepdims=True) - columns
    a, b = m * own, n * float(columns @ columns) / (m - 1)
    e = float(np.sum(rest * rest)) / ((n - 1) * (m - 1))
    if not b > e:
        return Spread(value, own / n, n - 1, (rows / n, np.zeros(m)))
    total = a + b - e
    freedom = total**2 / (a**2 / (n - 1) + b**2 / (m - 1) + e**2 / ((n - 1) * (m - 1)))
    freedom = max(freedom, min(n, m) - 1)  # the difference B − E can put it far below either source's own
    return Spread(value, total / (n * m), freedom, (rows / n, columns / m * math.sqrt((b - e) / b)))


def student(known: Spread, level: float) -> tuple[float, float]:
    """Student's interval: value ± t(level, freedom) · √variance."""
    half = float(stdtrit(known.freedom, (1 + level) / 2)) * math.sqrt(known.variance)
    return known.value - half, known.value + half


def student_p(known: Spread) -> float:
    """The two-sided p of a mean of zero by Student's t: below 1 − level exactly where the interval leaves out 0.

    >>> student_p(Spread(0.0, 0.0, 9, ())), student_p(Spread(1.0, 0.0, 9, ()))
    (1.0, 0.0)
    """
    if known.variance == 0:
        return 1.0 if known.value == 0 else 0.0
    if not math.isfinite(known.variance):
        return 1.0
    return float(2 * stdtr(known.freedom, -abs(known.value) / math.sqrt(known.variance)))


def bca(known: Spread, level: float) -> tuple[float, float]:
    """The bias-corrected and accelerated bootstrap interval of a mean with one or two sources of variation.

    Each source is resampled by itself and the deviations add up. For two sources this is the pigeonhole
    bootstrap without its excess: that one counts the rest σe² three times, and is up to √3 too wide.

    Sources: Efron (1987); Owen (2007) for the excess. The acceleration of two sources is that of
    ``scipy.stats.bootstrap`` for two samples.
    """
    shares = np.concatenate(known.parts)
    square = float(shares @ shares)
    if not 0 < square < math.inf:
        return (known.value, known.value) if square == 0 else (math.nan, math.nan)
    deviations = sum((resampled(part, seed) for seed, part in enumerate(known.parts)), np.zeros(DRAWS))
    near = 1e-12 * float(np.abs(shares).sum())  # sums that differ by rounding alone are ties, and count half
    below = float(np.mean(deviations < -near) + np.mean(np.abs(deviations) <= near) / 2)
    bias = ndtri(min(max(below, 0.5 / DRAWS), 1 - 0.5 / DRAWS))
    acceleration = float(np.sum(shares**3)) / (6 * square**1.5)
    ends = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(deviations, ndtr(bias + ends / (1 - acceleration * ends)))
    return known.value + float(low), known.value + float(high)


def resampled(part: Floats, seed: int) -> Floats:
    """[DRAWS] sums of as many units as there are, drawn with replacement: the bootstrap of one source."""
    n = len(part)
    if not part.any():
        return np.zeros(DRAWS)
    rng = np.random.default_rng(seed)
    rows = max(1, 2_000_000 // n)  # a block of draws stays below 16 MB
    blocks = (min(rows, DRAWS - start) for start in range(0, DRAWS, rows))
    return np.concatenate([part[rng.integers(0, n, (block, n))].sum(axis=1) for block in blocks])


# --- what comes in and goes out ---------------------------------------------------------------------------


def check_level(level: float) -> None:
    """Refuse a confidence level that is not a share."""
    if not 0 < level < 1:
        raise BadValue(
            f"level is the share of intervals that hold the truth, between 0 and 1 as in 0.95; got {level}"
        )


def finished(values: Values) -> Floats:
    """[n] scores as floats, with NaN for each replicate that did not finish.

    >>> finished([0.5, None, float("inf")]).tolist()
    [0.5, nan, nan]
    """
    scores = np.array([math.nan if v is None else v for v in values], dtype=np.float64)
    if scores.ndim != 1:
        raise BadValue(f"values are one score for each replicate, a flat list; got the shape {scores.shape}")
    return np.where(np.isfinite(scores), scores, math.nan)


def check_outcomes(scores: Floats, outcomes: ArrayLike) -> Floats:
    """[n, m] outcomes as floats, after a check that the row means are the scores of the replicates that finished."""
    table = np.asarray(outcomes, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(scores) or table.shape[1] < 2:
        raise BadValue(
            f"outcomes are one row for each of the {len(scores)} replicates and one column for each test example, "
            f"two at least; got the shape {table.shape}"
        )
    for i in np.flatnonzero(np.isfinite(scores)):
        mean = float(table[i].mean())
        if not math.isclose(mean, scores[i], rel_tol=1e-5, abs_tol=1e-6 * float(np.abs(table[i]).max())):
            raise BadValue(
                f"the outcomes of replicate {i} have the mean {mean:.6g}, and its score is {scores[i]:.6g}: they must "
                "agree; leave outcomes out where the score is not a mean over test examples"
            )
    return table


def finite(number: float) -> float | None:
    """A float, or None in place of NaN and infinity, which JSON does not have."""
    return float(number) if math.isfinite(number) else None
