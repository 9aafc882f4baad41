"""Rules by which runs are given up before their end: successive halving, Hyperband, the median rule, patience.

Their classes have the names by which they are made, as all values here have; they print as what makes them.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .board import Board, check_metric, check_number, check_whole


@dataclass(frozen=True, kw_only=True)
class halving:
    """Successive halving: after first · ηᵏ steps, k = 0, 1, …, the best ⌊n / ηᵏ⁺¹⌋ of n runs go on, one at least.

    Runs that diverged count among the n, and never go on. Equal scores are decided by the validation loss, then by
    position.

    Args:
        eta: η, of how many runs one goes on; a whole number of at least 2.
        first: the steps before the first rung.
        metric: what runs compete by on validation: ``score``, in the direction of the task's metric, or ``loss``.

    >>> halving(eta=3, first=10).rungs(100, ())
    [10, 30, 90]

    Source: Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, 2016, in
    the form of Li et al., Hyperband, 2018. There, no run is left where n < η; here, one is.
    """

    eta: int = 3
    first: int
    metric: str = "score"

    def __post_init__(self) -> None:
        check_whole("halving", 2, eta=self.eta)
        check_whole("halving", 1, first=self.first)
        check_metric(self.metric)

    def rungs(self, steps: int, evaluations: Sequence[int]) -> list[int]:
        """first · ηᵏ, below the last step."""
        return _ladder(self.eta, self.first, steps)

    def decide(self, board: Board) -> list[int]:
        """The best go on."""
        everyone = range(len(board.going))
        return board.only(board.ranked(everyone)[: _room(everyone, self.eta, len(board.steps))])

    def reason(self, board: Board, i: int) -> str:
        """Its rank, and how many went on."""
        everyone = range(len(board.going))
        room = _room(everyone, self.eta, len(board.steps))
        return _outranked(board, everyone, i, f"by validation {self.metric}, and {room} went on")


@dataclass(frozen=True, kw_only=True)
class hyperband:
    """Hyperband: successive halving in brackets, from one that begins to drop at once to one that never drops.

    With K rungs, after first · ηᵏ steps, bracket s = K, …, 0 leaves out the first K − s of them, and is given runs in
    proportion to ⌈ηˢ (K + 1) / (s + 1)⌉, so that all brackets take about the same number of steps. Runs are dealt out
    by position: each goes to the bracket that is furthest behind its share, among equals to the one that drops
    earlier.

    Args:
        eta: η, of how many runs in a bracket one goes on; a whole number of at least 2.
        first: the steps before the first rung.
        metric: what runs compete by on validation: ``score``, in the direction of the task's metric, or ``loss``.

    >>> hyperband(eta=3, first=1).dealt(17, 9)
    [[0, 2, 4, 6, 8, 10, 12, 14, 16], [1, 5, 9, 11, 15], [3, 7, 13]]

    Source: Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, Hyperband, 2018. There, a bracket draws new settings;
    here, it is given some of the runs that were asked for.
    """

    eta: int = 3
    first: int
    metric: str = "score"

    def __post_init__(self) -> None:
        check_whole("hyperband", 2, eta=self.eta)
        check_whole("hyperband", 1, first=self.first)
        check_metric(self.metric)

    def rungs(self, steps: int, evaluations: Sequence[int]) -> list[int]:
        """first · ηᵏ, below the last step."""
        return _ladder(self.eta, self.first, steps)

    def dealt(self, runs: int, steps: int) -> list[list[int]]:
        """The positions of the runs in each bracket, of a training with so many steps."""
        last = len(self.rungs(steps, ()))
        shares = [-(-(self.eta**s) * (last + 1) // (s + 1)) for s in range(last, -1, -1)]
        brackets: list[list[int]] = [[] for _ in shares]
        for i in range(runs):
            behind = [
                share * (i + 1) - len(own) * sum(shares) for share, own in zip(shares, brackets, strict=True)
            ]
            brackets[behind.index(max(behind))].append(i)
        return brackets

    def decide(self, board: Board) -> list[int]:
        """The best of each bracket go on, and all of one that does not drop yet."""
        kept: list[int] = []
        for skipped, own in enumerate(self.dealt(len(board.going), board.end)):
            rung = len(board.steps) - skipped
            best = board.ranked(own)[: _room(own, self.eta, rung)] if rung > 0 else own
            kept += [i for i in best if board.going[i]]
        return board.only(kept)

    def reason(self, board: Board, i: int) -> str:
        """Its rank in its bracket, and how many went on."""
        brackets = self.dealt(len(board.going), board.end)
        skipped, own = next((k, own) for k, own in enumerate(brackets) if i in own)
        room = _room(own, self.eta, len(board.steps) - skipped)
        return _outranked(board, own, i, f"by validation {self.metric} in its bracket, and {room} went on")


@dataclass(frozen=True, kw_only=True)
class median_rule:
    """The median rule: a run is given up whose best cost so far is worse than the median of the others' averages.

    Costs are taken every so many steps, and the others are all other runs that are in training then and have not
    diverged; of each, all costs up to then are averaged. A run without others goes on.

    Args:
        grace: the steps before which no run is given up.
        every: the steps between costs, and between decisions.
        metric: what runs compete by on validation: ``score``, in the direction of the task's metric, or ``loss``.

    >>> median_rule(grace=20, every=10).rungs(50, ())
    [10, 20, 30, 40]

    Source: Golovin et al., Google Vizier, 2017, section 3.2. There, trials end at different times, and the others
    are those that have ended; in a fleet, all runs are at the same step.
    """

    grace: int
    every: int
    metric: str = "score"

    def __post_init__(self) -> None:
        check_whole("median_rule", 0, grace=self.grace)
        check_whole("median_rule", 1, every=self.every)
        check_metric(self.metric)

    def rungs(self, steps: int, evaluations: Sequence[int]) -> list[int]:
        """Every so many steps."""
        return list(range(self.every, steps, self.every))

    def decide(self, board: Board) -> list[int]:
        """Those go on whose best is at least as good as the median of the others' averages."""
        going = [i for i in range(len(board.going)) if board.going[i]]
        if board.step < self.grace:
            return board.only(going)
        averages = {i: average(board.costs[i].tolist()) for i in going}
        return board.only(i for i in going if self._goes_on(board, i, [averages[j] for j in going if j != i]))

    def reason(self, board: Board, i: int) -> str:
        """What the rule says."""
        return (
            f"its best validation {self.metric} so far was worse than the median of the other runs' averages"
        )

    @staticmethod
    def _goes_on(board: Board, i: int, others: Sequence[float]) -> bool:
        return not others or bool(board.costs[i].min() <= statistics.median(others))


@dataclass(frozen=True, kw_only=True)
class patience:
    """Patience: a run is given up after so many evaluations in a row that were no better than its best before them.

    It looks at one run alone, and at every evaluation of the training after the first steps.

    Args:
        evaluations: how many a run is given.
        least: by how much an evaluation must be better than the best before it, to count.
        metric: what is looked at on validation: ``score``, in the direction of the task's metric, or ``loss``.

    >>> patience(evaluations=3).rungs(100, (0, 5, 20, 60, 100))
    [5, 20, 60]

    Source: Prechelt, Early stopping: but when?, 1998, whose third criterion counts evaluations in a row that were
    worse than the one before; here, they are held against the best.
    """

    evaluations: int
    least: float = 0.0
    metric: str = "score"

    def __post_init__(self) -> None:
        check_whole("patience", 1, evaluations=self.evaluations)
        check_number("patience", 0.0, math.inf, least=self.least)
        check_metric(self.metric)

    def rungs(self, steps: int, evaluations: Sequence[int]) -> list[int]:
        """All evaluations but those before the first step and after the last."""
        return [e for e in evaluations if 0 < e < steps]

    def decide(self, board: Board) -> list[int]:
        """Those go on that were better within their time."""
        going = [i for i in range(len(board.going)) if board.going[i]]
        return board.only(i for i in going if self._waited(board.costs[i].tolist()) < self.evaluations)

    def reason(self, board: Board, i: int) -> str:
        """How long it was waited for."""
        return f"no better validation {self.metric} in {self.evaluations} evaluations"

    def _waited(self, costs: Sequence[float]) -> int:
        best, since = math.inf, 0
        for cost in costs:
            better = cost < best - self.least
            best, since = (cost, 0) if better else (best, since + 1)
        return since


def average(costs: Sequence[float]) -> float:
    """The mean of some numbers, rounded once: of equal numbers, that number."""
    return statistics.mean(costs) if np.isfinite(costs).all() else math.inf


def _ladder(eta: int, first: int, steps: int) -> list[int]:
    rungs = (first * eta**k for k in itertools.count())
    return list(itertools.takewhile(lambda step: step < steps, rungs))


def _room(members: Sequence[int], eta: int, rung: int) -> int:
    """How many go on at a rung, counted from 1."""
    return max(1, len(members) // eta**rung)


def _outranked(board: Board, members: Sequence[int], i: int, so: str) -> str:
    ranked = board.ranked(members)
    return f"it was number {ranked.index(i) + 1} of {len(ranked)} {so}"
