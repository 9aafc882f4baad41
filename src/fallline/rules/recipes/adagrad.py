from __future__ import annotations

from ...specs import Number, Rule
from ..base import EPSILON, RATE
from ..compose import chain
from ..making import recipe
from ..scaling import descend, scale_by_adagrad


@recipe(
    search={"lr": (0.003, 3.0)},
    lr=RATE,
    eps=EPSILON,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    huge="stalls",
    budget=200,
)
def adagrad(lr: Number = 0.01, eps: Number = 1e-10) -> Rule:
    """The adaptive gradient algorithm: G ← G + g², w ← w − lr · g / (√G + eps).

    Args:
        lr: the learning rate, about the size of the first step of each weight; at least 0.
        eps: added to √G, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.

    >>> adagrad(lr=0.1)
    adagrad(lr=0.1, eps=1e-10)

    Source: Duchi, Hazan and Singer, Adaptive subgradient methods for online learning and stochastic
    optimization, 2011. The lecture's slide has no eps and leaves 0/0 open, which is NaN for inputs that are
    always zero. Equals ``torch.optim.Adagrad``.
    """
    return chain(scale_by_adagrad(eps, 0.0), descend(lr))
