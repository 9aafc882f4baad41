"""The battery of every way to prune."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallline import rules
from fallline.fleet.pruning import POLICIES, Board, halving
from fallline.specs import Run
from fleet.cases import classification

from .policy_checks import (
    boards,
    check_data,
    check_decision,
    check_leader,
    check_prefix,
    check_rungs,
    check_shift,
    policies,
    small,
)


@pytest.mark.parametrize("name", POLICIES)
def test_its_decisions(name: str):
    @settings(deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        policy = data.draw(policies(POLICIES[name]))
        check_rungs(policy)
        check_data(policy)
        board = data.draw(boards(policy))
        if board.steps.size:
            check_decision(policy, board)
            check_leader(policy, board)
            check_shift(policy, board)

    check()


def runs() -> list[Run]:
    """Two structures, two batch sizes, and one that diverges."""
    some = [Run(rules.adam(lr=10 ** (-3 + i / 4)), seed=i % 3) for i in range(9)]
    others = [Run(rules.momentum(lr=lr), seed=1, batch=5) for lr in (0.01, 0.1, 1e30)]
    return some + others


@pytest.mark.parametrize("name", POLICIES)
def test_runs_are_what_they_are_without_it(name: str):
    check_prefix(classification(), runs(), small(POLICIES[name]))


# --- broken members are found -----------------------------------------------------------------------------


class _Broken(halving):
    """Takes the worst."""

    def decide(self, board: Board) -> list[int]:
        return board.only(board.ranked(range(len(board.going)))[-1:])


class _KeepsTheLost(halving):
    def decide(self, board: Board) -> list[int]:
        return list(range(len(board.going)))


@dataclass(frozen=True, kw_only=True)
class _Forgetful(halving):
    """Decides by chance."""

    drawn: Any = None

    def decide(self, board: Board) -> list[int]:
        self.drawn.append(0)
        return board.only([len(self.drawn) % len(board.going)])


def board(*costs: float, going: Any = None) -> Board:
    import numpy as np

    column = np.array(costs)[:, None]
    return Board(np.array([3]), column, column, np.array(going or [True] * len(costs)), 24)


def test_a_policy_that_drops_the_best_is_found():
    with pytest.raises(AssertionError):
        check_leader(_Broken(first=3), board(0.0, 1.0, 2.0))
    check_leader(halving(first=3), board(0.0, 1.0, 2.0))


def test_a_policy_that_keeps_the_lost_is_found():
    with pytest.raises(AssertionError, match="a lost run went on"):
        check_decision(_KeepsTheLost(first=3), board(0.0, float("inf"), going=[True, False]))


def test_a_policy_that_is_not_the_same_twice_is_found():
    with pytest.raises(AssertionError):
        check_decision(_Forgetful(first=3, drawn=[]), board(0.0, 1.0, 2.0))
