from __future__ import annotations

from ...specs import Number, Rule
from ..base import EPSILON, RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..moments import scale_by_belief
from ..scaling import descend


@recipe(
    search={"lr": (0.0003, 0.3)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    huge="diverges",
    budget=200,
)
def adabelief(lr: Number = 1e-3, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-16) -> Rule:
    """Adam by the belief in gradients: w ← w − lr · m̂ / (√ŝ + eps), s ← β₂ · s + (1 − β₂) · (g − m)² + eps.

        m ← β₁ · m + (1 − β₁) · g, before s      m̂ = m / (1 − β₁ᵗ)      ŝ = s / (1 − β₂ᵗ)      t from 1

    Args:
        lr: the learning rate, about the size of a step of each weight where gradients are noise; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running square deviation that is kept, in [0, 1).
        eps: added to s at each step and to √ŝ; at least 0. With eps = 0, x/0 counts as 0.

    >>> adabelief(lr=0.01)
    adabelief(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-16)

    Source: Zhuang et al., AdaBelief optimizer: adapting stepsizes by the belief in observed gradients, 2020. eps
    is 1e-16 as in the authors' code; the paper's tables have 1e-8 on small images. torch has none.
    """
    return chain(scale_by_belief(beta1, beta2, eps), descend(lr))
