from __future__ import annotations

from ...specs import Number, Rule
from ..base import EPSILON, RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..scaling import descend, scale_by_amsgrad


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
def amsgrad(lr: Number = 1e-3, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-8) -> Rule:
    """Adam that does not forget large gradients: w ← w − lr · m̂ / (√(L / (1 − β₂ᵗ)) + eps), L ← max(L, v).

        m ← β₁ · m + (1 − β₁) · g      v ← β₂ · v + (1 − β₂) · g²      m̂ = m / (1 − β₁ᵗ)      t from 1

    Args:
        lr: the learning rate, about the size of a step of each weight; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to the root, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.

    >>> amsgrad(lr=0.01)
    amsgrad(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08)

    Source: Reddi, Kale and Kumar, On the convergence of Adam and beyond, 2018, whose algorithm 2 leaves out the
    corrections for the start at 0 and eps. Equals ``torch.optim.Adam(amsgrad=True)``, which has them.
    """
    return chain(scale_by_amsgrad(beta1, beta2, eps), descend(lr))
