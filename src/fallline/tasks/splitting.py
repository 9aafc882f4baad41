"""Two shares of rows by chance, each class in proportion: the split of scikit-learn's ``train_test_split``, row by row.

Importing scikit-learn takes longer than most tasks need to start. NumPy's ``RandomState`` gives the same numbers in
all versions, so recorded studies keep their parts; the tests compare with scikit-learn itself.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Rows: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def apart(n: int, size: int, seed: int, labels: np.ndarray[Any, Any] | None = None) -> tuple[Rows, Rows]:
    """The rows 0 … n − 1 as those left and those taken, both in rising order.

    Each class gives its share, rounded so that the sizes fit, to the larger remainder first and among equal ones by
    chance. Where there are fewer places than classes, or a class has one row only, classes are not looked at.

    Args:
        n: how many rows there are.
        size: how many are taken.
        seed: of the draw.
        labels: the class of each row; None to take any rows.

    >>> apart(6, 2, seed=0, labels=np.array([0, 0, 0, 1, 1, 1]))
    (array([1, 2, 3, 5]), array([0, 4]))
    """
    random = np.random.RandomState(seed)  # its stream never changes
    if labels is not None:
        _, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
        if counts.min() > 1 and len(counts) <= min(size, n - size):
            return _by_class(of, counts, size, random)
    order = random.permutation(n)
    return np.sort(order[size:]), np.sort(order[:size])


def _by_class(of: Rows, counts: Rows, size: int, random: np.random.RandomState) -> tuple[Rows, Rows]:
    left = _shares(counts, len(of) - size, random)
    taken = _shares(
        counts - left, size, random
    )  # all that is left over, but the stream must go on as it does there
    members = np.split(np.argsort(of, kind="stable"), np.cumsum(counts)[:-1])
    drawn = [own[random.permutation(len(own))] for own in members]
    first = [own[:k] for own, k in zip(drawn, left, strict=True)]
    second = [own[k : k + m] for own, k, m in zip(drawn, left, taken, strict=True)]
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def _shares(counts: Rows, size: int, random: np.random.RandomState) -> Rows:
    """How many of each class make up ``size``, in proportion to ``counts``."""
    exact = counts / counts.sum() * size
    whole = np.floor(exact)
    lacking = int(size - whole.sum())
    for remainder in np.unique(exact - whole)[::-1]:
        equal = np.flatnonzero(exact - np.floor(exact) == remainder)
        more = min(len(equal), lacking)
        if more <= 0:
            break
        whole[random.choice(equal, size=more, replace=False)] += 1
        lacking -= more
    return whole.astype(np.int64)
