"""Tasks on pictures."""

from __future__ import annotations

from .. import layers, losses
from .base import Task


def digits() -> Task:
    """Handwritten digits, 8 × 8 pixels in 17 shades of gray, to be told apart: 1,797 examples, 10 classes.

    The model is an MLP 64-32-10 (2,410 parameters), the loss cross-entropy, the score accuracy; pixels are scaled
    to [0, 1]. 1,079 examples train, 359 validate and 359 test, stratified, by a fixed seed.

    >>> digits()
    Task('digits', 1079 + 359 + 359 examples, by accuracy)

    Source: Alpaydin and Kaynak, Optical recognition of handwritten digits, 1998 (its test set, as scikit-learn
    ships it).
    """
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return Task.supervised(
        model=lambda: layers.mlp(64, 32, 10), train=(X / 16.0, y), loss=losses.cross_entropy, score="accuracy",
        name="digits",
    )  # fmt: skip
