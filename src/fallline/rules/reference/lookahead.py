from __future__ import annotations

from collections.abc import Iterable, Iterator

from .numbers import Arrays, Number, at


def lookahead(path: Iterable[Arrays], *, every: Number, share: Number) -> Iterator[Arrays]:
    """Algorithm 1 of Zhang et al. along the path of a rule whose steps do not depend on the weights."""
    points = iter(path)
    before = slow = fast = next(points)
    inner = 0
    for t, after in enumerate(points):
        fast = [f + (a - b) for f, a, b in zip(fast, after, before, strict=True)]
        before, inner = after, inner + 1
        if inner >= at(every, t):
            slow = [s + at(share, t) * (f - s) for s, f in zip(slow, fast, strict=True)]
            fast, inner = slow, 0
        yield fast
