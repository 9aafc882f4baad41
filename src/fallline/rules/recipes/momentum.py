from __future__ import annotations

from ...specs import Number, Rule
from ..averaging import accumulate
from ..base import RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..scaling import descend


@recipe(
    search={"lr": (0.001, 1.0)},
    lr=RATE,
    beta=UNIT,
    invariances={"proportion": {}, "rotation": {}, "sign": {}, "permutation": {}},
    limits={"momentum(lr=0.1, beta=0)": "sgd(lr=0.1)"},
    huge="proportion",
    budget=200,
)
def momentum(lr: Number = 0.01, beta: Number = 0.9) -> Rule:
    """The heavy ball: w(t+1) = w(t) − lr · g + β · (w(t) − w(t−1)).

    Args:
        lr: the learning rate, the step for a gradient of size 1; at least 0.
        beta: the share of the last displacement that is taken again, in [0, 1).

    >>> momentum(lr=0.1)
    momentum(lr=0.1, beta=0.9)

    Source: Polyak, Some methods of speeding up the convergence of iteration methods, 1964. The memory holds the
    last displacement, so a rate that changes acts on new gradients only. ``torch.optim.SGD(momentum=β)`` holds
    a sum of gradients and multiplies all of it by the current rate: equal while the rate is constant.
    """
    return chain(descend(lr), accumulate(beta))
