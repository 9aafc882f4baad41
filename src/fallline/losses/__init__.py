"""Losses: values that say what a model should make small."""

from . import curiosity
from .base import check, define, examples, needs, per_example, start, takes_logits, value
from .classification import binary_cross_entropy, cross_entropy, focal, hinge, smoothed_cross_entropy
from .constraints import augmented_lagrangian, quadratic_penalty
from .costs import bayes_threshold, confidence_penalty, cost_matrix, costs, expected_cost
from .fisher import fisher_diagonal
from .regression import cosine, huber, mae, mse, quantile
from .retention import distillation, elastic, l2_sp

__all__ = [
    "augmented_lagrangian", "bayes_threshold", "binary_cross_entropy", "check", "confidence_penalty", "cosine",
    "cost_matrix", "costs", "cross_entropy", "curiosity", "define", "distillation", "elastic", "examples",
    "expected_cost", "fisher_diagonal", "focal", "hinge", "huber", "l2_sp", "mae", "mse", "needs", "per_example",
    "quadratic_penalty", "quantile", "smoothed_cross_entropy", "start", "takes_logits", "value",
]  # fmt: skip
