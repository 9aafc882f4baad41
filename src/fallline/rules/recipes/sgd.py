from __future__ import annotations

from ...specs import Number, Rule
from ..base import RATE
from ..making import recipe
from ..scaling import descend


@recipe(
    search={"lr": (0.01, 10.0)},
    lr=RATE,
    invariances={"proportion": {}, "rotation": {}, "sign": {}, "permutation": {}},
    huge="proportion",
    budget=200,
)
def sgd(lr: Number = 0.01) -> Rule:
    """Gradient descent on minibatches: w ← w − lr · g.

    Args:
        lr: the learning rate, the step for a gradient of size 1; at least 0.

    >>> sgd(lr=0.1)
    sgd(lr=0.1)

    Source: Robbins and Monro, A stochastic approximation method, 1951. Equals ``torch.optim.SGD`` without
    momentum.
    """
    return descend(lr)
