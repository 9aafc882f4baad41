from __future__ import annotations

from ...specs import Number, Rule
from ..base import DECAY, RATE, UNIT
from ..compose import chain
from ..decay import shrink
from ..making import recipe
from ..moments import scale_by_lion
from ..scaling import descend


@recipe(
    search={"lr": (0.00003, 0.03)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    weight_decay=DECAY,
    invariances={"scale": {}, "sign": {}, "permutation": {}},
    limits={"lion(lr=0.1, beta1=0, beta2=0, weight_decay=0)": "chain(scale_by_sign(), descend(0.1))"},
    huge="bounded",
    budget=600,
)
def lion(lr: Number = 1e-4, beta1: Number = 0.9, beta2: Number = 0.99, weight_decay: Number = 0.0) -> Rule:
    """Evolved sign momentum: w ← w − lr · (sign(β₁ · m + (1 − β₁) · g) + weight_decay · w), m ← β₂ · m + (1 − β₂) · g.

    Args:
        lr: the learning rate, the size of a step of each weight; at least 0. A third to a tenth of Adam's.
        beta1: the share of the memory in the mixture whose sign is taken, in [0, 1).
        beta2: the share of the memory that is kept, in [0, 1).
        weight_decay: the share of each weight that is taken off per step for a rate of 1; at least 0. Three to ten
            times that of AdamW.

    >>> lion(lr=0.001)
    lion(lr=0.001, beta1=0.9, beta2=0.99, weight_decay=0)

    Source: Chen et al., Symbolic discovery of optimization algorithms, 2023, algorithm 2. torch has none.
    """
    return chain(scale_by_lion(beta1, beta2), descend(lr), shrink(lr, weight_decay))
