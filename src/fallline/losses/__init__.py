"""Losses: values that say what a model should make small."""

from . import curiosity
from .base import check, define, examples, needs, per_example, start, value
from .classification import cross_entropy
from .constraints import augmented_lagrangian, quadratic_penalty
from .fisher import fisher_diagonal
from .regression import mae, mse
from .retention import distillation, elastic, l2_sp

__all__ = [
    "augmented_lagrangian",
    "check",
    "cross_entropy",
    "curiosity",
    "define",
    "distillation",
    "elastic",
    "examples",
    "fisher_diagonal",
    "l2_sp",
    "mae",
    "mse",
    "needs",
    "per_example",
    "quadratic_penalty",
    "start",
    "value",
]
