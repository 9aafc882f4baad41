"""What was measured of runs that compete, rung after rung, as plain arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import BadValue

METRICS = ("score", "loss")
STOPPED = -1
"""In a decision: this run does not go on."""


@dataclass(frozen=True, eq=False)
class Board:
    """What all runs that were asked for had come to at each rung so far; lower is better.

    Args:
        steps: the steps done at each rung, [rungs].
        costs: what runs compete by, [runs, rungs]: infinite where it was not finite, NaN where a run was not in
            training any more.
        losses: validation losses in the same form; between equal costs, they decide.
        going: which runs are in training and have not diverged, [runs].
        end: the last step of the training.
    """

    steps: NDArray[np.int64]
    costs: NDArray[np.float64]
    losses: NDArray[np.float64]
    going: NDArray[np.bool_]
    end: int

    @property
    def step(self) -> int:
        """The steps done at the last rung."""
        return int(self.steps[-1])

    def finite(self, i: int) -> bool:
        """Whether a run is in training, and what it competes by is a finite number."""
        return bool(self.going[i]) and math.isfinite(self.costs[i, -1])

    def ranked(self, members: Iterable[int]) -> list[int]:
        """Those of some runs that can go on, best first: by cost, then by loss, then by position."""
        able = [i for i in members if self.finite(i)]
        return sorted(able, key=lambda i: (self.costs[i, -1], self.losses[i, -1], i))

    def only(self, kept: Iterable[int]) -> list[int]:
        """The decision by which these runs go on, and no others."""
        chosen = set(kept)
        return [i if i in chosen else STOPPED for i in range(len(self.going))]


class Policy(Protocol):
    """Which runs go on, and from where: a pure function of a board."""

    @property
    def metric(self) -> str:
        """What runs compete by: score, in the direction of the task's metric, or loss."""

    def rungs(self, steps: int, evaluations: Sequence[int]) -> list[int]:
        """The steps after which to decide, before the last one, in a training with these evaluations."""

    def decide(self, board: Board) -> list[int]:
        """For each run the one from whose state it goes on, itself as a rule; -1 where it does not."""

    def reason(self, board: Board, i: int) -> str:
        """Why a run with finite numbers does not go on."""


def check_metric(metric: str) -> None:
    """Refuse what runs cannot compete by."""
    if metric not in METRICS:
        raise BadValue(f"runs compete by metric='score' or metric='loss', both on validation, got {metric!r}")


def check_whole(owner: str, least: int, /, **given: Any) -> None:
    """Refuse numbers that are not whole, or too small."""
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadValue(f"{owner}({name}={value!r}): {name} must be a whole number of at least {least}")


def check_number(owner: str, least: float, most: float, /, **given: Any) -> None:
    """Refuse what is no number in a range, both ends included."""
    for name, value in given.items():
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not known or not least <= value <= most:
            raise BadValue(f"{owner}({name}={value!r}): {name} must be a number from {least:g} to {most:g}")
