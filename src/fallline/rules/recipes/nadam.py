from __future__ import annotations

from ...specs import Number, Rule
from ..base import EPSILON, RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..moments import SLOWER, scale_by_nadam
from ..scaling import descend


@recipe(
    search={"lr": (0.0003, 0.3)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    momentum_decay=SLOWER,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    limits={
        "nadam(lr=0.1, beta1=0, beta2=0, eps=0, momentum_decay=0.1)": "chain(scale_by_sign(), descend(0.1))",
        "nadam(lr=0.1, beta1=0, beta2=0.9, eps=0.1, momentum_decay=0)": "adam(lr=0.1, beta1=0, beta2=0.9, eps=0.1)",
    },
    huge="diverges",
    budget=200,
)
def nadam(
    lr: Number = 2e-3,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    momentum_decay: Number = 4e-3,
) -> Rule:
    """Adam with Nesterov's momentum: w ← w − lr · (μ' · m / (1 − Π · μ') + (1 − μ) · g / (1 − Π)) / (√v̂ + eps).

        m ← β₁ · m + (1 − β₁) · g      v ← β₂ · v + (1 − β₂) · g²      v̂ = v / (1 − β₂ᵗ)
        μ = β₁ · (1 − ½ · 0.96^(t · ψ)), μ' the same at t + 1, Π the product of all μ so far, t from 1

    Args:
        lr: the learning rate, about the size of a step of each weight; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.
        momentum_decay: ψ, how fast μ comes up from β₁/2 to β₁, per step; at least 0.

    >>> nadam(lr=0.01)
    nadam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08, momentum_decay=0.004)

    Source: Dozat, Incorporating Nesterov momentum into Adam, 2016. Equals ``torch.optim.NAdam``.
    """
    return chain(scale_by_nadam(beta1, beta2, eps, momentum_decay), descend(lr))
