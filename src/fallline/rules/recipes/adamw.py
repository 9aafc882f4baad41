from __future__ import annotations

from ...specs import Number, Rule
from ..base import DECAY, EPSILON, RATE, UNIT
from ..compose import chain
from ..decay import shrink
from ..making import recipe
from ..scaling import descend, scale_by_adam


@recipe(
    search={"lr": (0.0003, 0.3)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    weight_decay=DECAY,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    limits={
        "adamw(lr=0.1, beta1=0.9, beta2=0.99, eps=0.1, weight_decay=0)": "adam(lr=0.1, beta1=0.9, beta2=0.99, eps=0.1)"
    },
    huge="diverges",
    budget=200,
)
def adamw(
    lr: Number = 1e-3,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.01,
) -> Rule:
    """Adam with decoupled weight decay: w ← w − lr · m̂ / (√v̂ + eps) − lr · weight_decay · w.

    Args:
        lr: the learning rate, about the size of a step of each weight; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.
        weight_decay: the share of each weight that is taken off per step for a rate of 1; at least 0.

    >>> adamw(lr=0.01).numbers["weight_decay"]
    0.01

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, 2019. As in ``torch.optim.AdamW``,
    which it equals while β is constant (see :func:`adam`), the decay is multiplied by the learning rate; in the
    paper by the schedule alone.
    """
    return chain(scale_by_adam(beta1, beta2, eps), descend(lr), shrink(lr, weight_decay))
