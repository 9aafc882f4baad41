"""Losses: values that say what a model should make small."""

from .base import check, define, examples, needs, per_example, start, value
from .classification import cross_entropy
from .regression import mae, mse

__all__ = [
    "check",
    "cross_entropy",
    "define",
    "examples",
    "mae",
    "mse",
    "needs",
    "per_example",
    "start",
    "value",
]
