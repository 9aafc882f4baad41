"""Which weights of a training are kept: the best that were judged, or the last."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...errors import BadValue
from ...tasks.base import Variables

KEEPS = ("best", "loss", "last")


@dataclass(frozen=True, eq=False)
class Kept:
    """Weights, and what they were worth on validation.

    Args:
        step: steps done before.
        loss, score: on the validation part.
        variables: copies of parameters and buffers.
    """

    step: int
    loss: float
    score: float
    variables: Variables


class Best:
    """Keeps weights, and counts the evaluations since the last improvement.

    Args:
        better: whether a higher or a lower score is better.
        keep: "best" keeps the weights with the best score, among equals with the lowest loss; "loss" those with the
            lowest loss; "last" the last that were judged.
    """

    def __init__(self, better: str, keep: str) -> None:
        if keep not in KEEPS:
            raise BadValue(f"keep must be best, loss or last, got {keep!r}")
        self.sign, self.keep = (-1.0 if better == "higher" else 1.0), keep
        self.kept: Kept | None = None
        self.waited = 0
        self.record = (math.inf, math.inf)
        """The best so far, as numbers of which lower ones are better."""

    def offer(self, step: int, loss: float, score: float, variables: Variables) -> None:
        """Weights that have just been judged."""
        fit = math.isfinite(score) and math.isfinite(loss)
        value, cost = (self.sign * score, loss) if fit else (math.inf, math.inf)
        found = (cost, value) if self.keep == "loss" else (value, cost)
        better = found < self.record
        self.waited = 0 if better or self.kept is None else self.waited + 1
        if better:
            self.record = found
        if better or self.keep == "last" or self.kept is None:
            self.kept = Kept(step, loss, score, self._copied(variables))

    def _copied(self, variables: Variables) -> Variables:
        """Copies, in the place of those that were kept before: new memory costs twice the time of the copy."""
        if self.kept is None:
            return Variables(*({k: t.detach().clone() for k, t in tree.items()} for tree in variables))
        for held, tree in zip(self.kept.variables, variables, strict=True):
            for k, t in tree.items():
                held[k].copy_(t.detach())
        return self.kept.variables
