from __future__ import annotations

from collections.abc import Iterable, Iterator

from .numbers import Arrays, Number, at


def schedule_free_sgd(
    weights: Arrays, gradients: Iterable[Arrays], *, lr: Number, beta: Number, weight_decay: Number
) -> Iterator[Arrays]:
    """The three sequences of Defazio et al. as their equations have them; gives x."""
    x = y = z = weights
    squares = 0.0
    for t, gradient in enumerate(gradients):
        rate, b = at(lr, t), at(beta, t)
        z = [z_i - rate * (g + at(weight_decay, t) * y_i) for z_i, y_i, g in zip(z, y, gradient, strict=True)]
        squares += rate**2
        c = rate**2 / squares if squares > 0 else 0.0
        x = [(1 - c) * x_i + c * z_i for x_i, z_i in zip(x, z, strict=True)]
        y = [(1 - b) * z_i + b * x_i for x_i, z_i in zip(x, z, strict=True)]
        yield x
