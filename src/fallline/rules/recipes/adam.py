from __future__ import annotations

from ...specs import Number, Rule
from ..base import EPSILON, RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..scaling import descend, scale_by_adam


@recipe(
    search={"lr": (0.0003, 0.3)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    limits={
        "adam(lr=0.1, beta1=0, beta2=0, eps=0)": "chain(scale_by_sign(), descend(0.1))",
        "adam(lr=0.1, beta1=0, beta2=0.9, eps=0.1)": "chain(scale_by_corrected_rms(0.9, 0.1), descend(0.1))",
    },
    huge="diverges",
    budget=200,
)
def adam(lr: Number = 1e-3, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-8) -> Rule:
    """Adaptive moment estimation: w ← w − lr · m̂ / (√v̂ + eps).

        m ← β₁ · m + (1 − β₁) · g      m̂ = m / (1 − β₁ᵗ)
        v ← β₂ · v + (1 − β₂) · g²     v̂ = v / (1 − β₂ᵗ)      t counts from 1

    Args:
        lr: the learning rate, about the size of a step of each weight; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.

    >>> adam(lr=0.01)
    adam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08)

    Source: Kingma and Ba, Adam: a method for stochastic optimization, 2015. The lecture's slide stops before the
    update. Where β follows a schedule, βᵗ is the product of the β's so far, which is what makes m̂ and v̂ averages.
    ``torch.optim.Adam`` takes the power of the β at this step: equal while β is constant.
    """
    return chain(scale_by_adam(beta1, beta2, eps), descend(lr))
