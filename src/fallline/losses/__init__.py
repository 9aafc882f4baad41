"""Losses: values that say what a model should make small."""

from .base import check, define, examples, needs, per_example, start, takes_logits, value
from .classification import binary_cross_entropy, cross_entropy, focal, hinge, smoothed_cross_entropy
from .costs import bayes_threshold, confidence_penalty, cost_matrix, costs, expected_cost
from .regression import cosine, huber, mae, mse, quantile

__all__ = [
    "bayes_threshold", "binary_cross_entropy", "check", "confidence_penalty", "cosine", "cost_matrix", "costs",
    "cross_entropy", "define", "examples", "expected_cost", "focal", "hinge", "huber", "mae", "mse", "needs",
    "per_example", "quantile", "smoothed_cross_entropy", "start", "takes_logits", "value",
]  # fmt: skip
