from __future__ import annotations

from ...specs import Number, Rule
from ..base import EPSILON, RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..moments import scale_by_adamax
from ..scaling import descend


@recipe(
    search={"lr": (0.0003, 0.3)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    limits={"adamax(lr=0.1, beta1=0, beta2=0, eps=0)": "chain(scale_by_sign(), descend(0.1))"},
    huge="bounded",
    budget=600,
)
def adamax(lr: Number = 2e-3, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-8) -> Rule:
    """Adam by the largest gradient: w ← w − lr · m̂ / u, u ← max(β₂ · u, |g| + eps).

        m ← β₁ · m + (1 − β₁) · g      m̂ = m / (1 − β₁ᵗ)      t counts from 1

    Args:
        lr: the learning rate, about the size of a step of each weight; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the maximum that is kept, in [0, 1).
        eps: added to |g|, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.

    >>> adamax(lr=0.01)
    adamax(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08)

    Source: Kingma and Ba, Adam: a method for stochastic optimization, 2015, algorithm 2, which has no eps. Equals
    ``torch.optim.Adamax``. No gradient is squared, so that none overflows.
    """
    return chain(scale_by_adamax(beta1, beta2, eps), descend(lr))
