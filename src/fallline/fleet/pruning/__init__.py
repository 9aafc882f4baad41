"""Pruning inside the fleet: losing runs are given up, or go on from the states of better ones."""

from .board import Board, Policy
from .driver import Pruned, pruned
from .listed import POLICIES, plain, rebuild
from .policies import halving, hyperband, median_rule, patience
from .populations import population

__all__ = [
    "POLICIES", "Board", "Policy", "Pruned", "halving", "hyperband", "median_rule", "patience", "plain", "population",
    "pruned", "rebuild",
]  # fmt: skip
