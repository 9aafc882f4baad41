"""Tests of paired differences: sign flips for one pair, Holm's correction for many.

If two arms are alike, then in each replicate it is chance which of them came out ahead, so every difference was
as likely to have the other sign. The test flips all signs in all ways and asks how often the mean comes out as
far from zero as it did. It assumes nothing else: no normal distribution, no equal variances.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import BadValue
from .stats import Floats, Interval, check_level, finite

EXACT = 14  # up to here all 2**n sign patterns are counted
DRAWS = 2**14 - 1  # above, this many random ones: the smallest p stays where n = 15 would have it


def sign_flip(differences: ArrayLike) -> float:
    """The two-sided p of a mean difference under random signs.

    p = share of the sign patterns ε in {−1, 1}ⁿ with |Σ εᵢ dᵢ| ≥ |Σ dᵢ|. Up to n = 14 all 2ⁿ patterns are
    counted and p is exact; above, p = (k + 1) / (N + 1) with k of N = 16383 seeded random ones.

    Args:
        differences: [n] paired differences, one for each replicate, n ≥ 1.

    Raises:
        BadValue: if there is no difference or one is not finite.

    Differences that are all zero are a tie: p = 1. The p depends neither on the order of the replicates nor on
    which arm is taken from which. :func:`smallest_p` says what it can be at best.

    >>> sign_flip([0.1, 0.2, 0.3, 0.2, 0.1, 0.4])
    0.03125
    >>> sign_flip([0.0, 0.0, 0.0])
    1.0

    Sources: Fisher, "The design of experiments" (1935), section 21; Phipson and Smyth, "Permutation p-values
    should never be zero" (2010), for the + 1.
    """
    sizes, total = _sizes(differences)
    with np.errstate(all="ignore"):
        sums = np.abs(_patterns(len(sizes)) @ sizes)
        reached = sums >= total - 1e-12 * float(sizes.sum())  # equal up to rounding is equal
    if len(sizes) <= EXACT:
        return float(reached.mean())
    return (int(reached.sum()) + 1) / (DRAWS + 1)


def sign_flip_interval(differences: ArrayLike, *, level: float = 0.95) -> Interval:
    """All mean differences that the sign-flip test does not reject: its confidence interval by inversion.

    The ends are the K-th smallest and K-th largest of the means of all subsets of the differences, with
    K = ⌈(1 − level) / 2 · 2ⁿ⌉ − 1. It covers exactly where the differences are symmetric about their mean.

    Args:
        differences: [n] paired differences.
        level: the confidence level, between 0 and 1.

    Raises:
        BadValue: as :func:`sign_flip`, and if the level is not between 0 and 1.

    Below six differences no interval at 95 % has ends, so ``low`` and ``high`` are None. :func:`~.stats.interval`
    uses Student's t instead: ``docs/decisions/statistics.md`` has the coverages of both.

    >>> found = sign_flip_interval([1, 2, 3, 4, 5, 6])
    >>> found.low, found.high
    (1.0, 6.0)
    >>> sign_flip_interval([1, 2, 3]).low is None
    True

    Source: Hartigan, "Using subsample values as typical values" (1969).
    """
    check_level(level)
    _sizes(differences)
    values = np.sort(np.asarray(differences, dtype=np.float64))
    n = len(values)
    flipped = _patterns(n) < 0
    subsets = np.concatenate([flipped, ~flipped])
    members = subsets.sum(axis=1)
    means = np.sort((subsets[members > 0] @ values) / members[members > 0])
    unseen = 0 if n <= EXACT else 2  # random patterns leave out the one that was observed, and its mirror
    total = len(subsets) + unseen
    rank = math.ceil((1 - level) / 2 * total - 1e-9) - (total - len(means) - unseen // 2)
    if rank < 1:
        return Interval(finite(values.mean()), None, None, n, level, "none")
    return Interval(
        finite(values.mean()), finite(means[rank - 1]), finite(means[-rank]), n, level, "sign-flip"
    )


def holm(p_values: ArrayLike) -> Floats:
    """Holm's adjusted p-values: all those below α together are wrong in at most a share α of all studies.

    In increasing order, adjusted p₍ᵢ₎ = max over j ≤ i of min(1, (k − j + 1) p₍ⱼ₎).

    Args:
        p_values: [k] p-values, of tests that may depend on each other in any way.

    Raises:
        BadValue: if one is not between 0 and 1.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]

    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    p = np.asarray(p_values, dtype=np.float64).ravel()
    if not np.all((p >= 0) & (p <= 1)):
        raise BadValue(f"a p-value is between 0 and 1; got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    scaled = np.minimum(1.0, np.arange(len(p), 0, -1) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(scaled) if len(p) else scaled
    return adjusted


def smallest_p(n: int) -> float:
    """The smallest p that :func:`sign_flip` can give with n replicates: 2 of 2ⁿ patterns, and 2⁻¹⁴ from n = 15.

    >>> smallest_p(5), smallest_p(10)
    (0.0625, 0.001953125)
    """
    return 2.0 ** (1 - min(n, EXACT + 1))


def hopeless(n: int, pairs: int, *, level: float = 0.95) -> str | None:
    """A sentence where no pair can be significant, however large the differences; None where one can.

    Args:
        n: replicates.
        pairs: pairs of arms that are tested together.
        level: a pair is significant if its p after Holm's correction is below 1 − level.

    >>> print(hopeless(5, 1))
    No difference can be significant: with 5 replicates the smallest possible p of 1 pair is 0.0625 after Holm's \
correction, and it must be below 0.05. Use at least 6 replicates.
    >>> hopeless(6, 1) is None
    True
    """
    alpha = 1 - level
    if pairs < 1 or pairs * smallest_p(n) < alpha:
        return None
    needed = next((k for k in range(n + 1, EXACT + 2) if pairs * smallest_p(k) < alpha), None)
    remedy = f"Use at least {needed} replicates." if needed else "Compare fewer arms at a time."
    noun = "pair" if pairs == 1 else "pairs"
    return (
        f"No difference can be significant: with {n} replicate{'s' * (n != 1)} the smallest possible p of {pairs} {noun} "
        f"is {min(1.0, pairs * smallest_p(n)):.3g} after Holm's correction, and it must be below {alpha:.3g}. {remedy}"
    )


def _sizes(differences: ArrayLike) -> tuple[Floats, float]:
    """The sizes of the differences in order, and the size of their sum; the test depends on nothing else."""
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not len(d) or not np.all(np.isfinite(d)):
        raise BadValue(
            "sign flips need one finite difference for each replicate, and at least one; got "
            f"{d.tolist() if d.size <= 20 else d.shape}"
        )
    largest = float(np.abs(d).max())
    d = d / largest if largest > 0 else d  # so that no sum overflows
    return np.sort(np.abs(d)), abs(float(np.sum(np.sort(d))))


@lru_cache(maxsize=8)
def _patterns(n: int) -> NDArray[np.float64]:
    """Sign patterns, one a row: all of them up to mirror images (2ⁿ⁻¹), or the seeded random ones."""
    if n <= EXACT:
        bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    else:
        bits = np.random.default_rng(n).integers(0, 2, (DRAWS, n))
    return np.where(bits == 1, -1.0, 1.0)
