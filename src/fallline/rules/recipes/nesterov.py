from __future__ import annotations

from ...specs import Number, Rule
from ..averaging import look_ahead
from ..base import RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..scaling import descend


@recipe(
    search={"lr": (0.001, 1.0)},
    lr=RATE,
    beta=UNIT,
    invariances={"proportion": {}, "rotation": {}, "sign": {}, "permutation": {}},
    limits={"nesterov(lr=0.1, beta=0)": "sgd(lr=0.1)"},
    huge="proportion",
    budget=200,
)
def nesterov(lr: Number = 0.01, beta: Number = 0.9) -> Rule:
    """Nesterov's momentum: d ← β · d − lr · g, w ← w + β · d − lr · g.

    The parameters are those of the point θ + β · d that looks ahead, where the gradient is taken.

    Args:
        lr: the learning rate, the step for a gradient of size 1; at least 0.
        beta: the share of the last displacement that is taken again, in [0, 1).

    >>> nesterov(lr=0.1)
    nesterov(lr=0.1, beta=0.9)

    Source: Nesterov, A method for solving the convex programming problem with convergence rate O(1/k²), 1983,
    in the variables of Bengio, Boulanger-Lewandowski and Pascanu, Advances in optimizing recurrent networks,
    2013, who look ahead with the β of the next step where β follows a schedule.
    ``torch.optim.SGD(nesterov=True)`` is equal while the rate is constant.
    """
    return chain(descend(lr), look_ahead(beta))
