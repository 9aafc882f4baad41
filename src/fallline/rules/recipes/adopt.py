from __future__ import annotations

from ...specs import Number, Rule
from ..base import EPSILON, RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..moments import scale_by_adopt
from ..scaling import descend


@recipe(
    search={"lr": (0.0003, 0.3)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    huge="diverges",
    budget=700,
)
def adopt(lr: Number = 1e-3, beta1: Number = 0.9, beta2: Number = 0.9999, eps: Number = 1e-6) -> Rule:
    """Adam whose v does not know the gradient that it divides: w ← w − lr · m.

        m ← β₁ · m + (1 − β₁) · clip(g / max(√v, eps), −t^¼, t^¼)      then v ← β₂ · v + (1 − β₂) · g²

    t counts from 0, where v = g² and no step is taken.

    Args:
        lr: the learning rate, about the size of a step of each weight; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: the least √v that is divided by, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.

    >>> adopt(lr=0.01)
    adopt(lr=0.01, beta1=0.9, beta2=0.9999, eps=1e-06)

    Source: Taniguchi et al., ADOPT: modified Adam can converge with any β₂ with the optimal rate, 2024, algorithm 2
    with its clipping, as in the authors' code. torch has none.
    """
    return chain(scale_by_adopt(beta1, beta2, eps), descend(lr))
