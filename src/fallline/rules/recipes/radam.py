from __future__ import annotations

from ...specs import Number, Rule
from ..base import EPSILON, RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..moments import scale_by_radam
from ..scaling import descend


@recipe(
    search={"lr": (0.0003, 0.3)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    invariances={"sign": {}, "permutation": {}},
    limits={"radam(lr=0.1, beta1=0, beta2=0.5, eps=0.1)": "sgd(lr=0.1)"},
    huge="diverges",
    budget=600,
)
def radam(lr: Number = 1e-3, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-8) -> Rule:
    """Rectified Adam: w ← w − lr · r · m̂ · √(1 − β₂ᵗ) / (√v + eps), and w ← w − lr · m̂ while ρ ≤ 5.

        m ← β₁ · m + (1 − β₁) · g      v ← β₂ · v + (1 − β₂) · g²      m̂ = m / (1 − β₁ᵗ)
        ρ∞ = 2 / (1 − β₂) − 1          ρ = ρ∞ − 2 · t · β₂ᵗ / (1 − β₂ᵗ)      t from 1
        r = √((ρ − 4)(ρ − 2) · ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) · ρ))

    Args:
        lr: the learning rate; at first the step for a gradient of size 1 (as long as ρ ≤ 5, five steps for
            β₂ = 0.999), then about the size of a step of each weight; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.

    >>> radam(lr=0.01)
    radam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08)

    Source: Liu et al., On the variance of the adaptive learning rate and beyond, 2020, whose bound is ρ > 4 and who
    have no eps. Equals ``torch.optim.RAdam``, which has 5 as the authors' code does.
    """
    return chain(scale_by_radam(beta1, beta2, eps), descend(lr))
