from __future__ import annotations

from ...specs import Number, Rule
from ..base import DECAY, EPSILON, RATE, UNIT
from ..compose import chain
from ..decay import shrink
from ..making import recipe
from ..matrices import scale_by_soap
from ..scaling import descend


@recipe(
    search={"lr": (0.0003, 0.3)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    decay=UNIT,
    eps=EPSILON,
    weight_decay=DECAY,
    invariances={"turning": {}},
    huge="bounded",
)
def soap(
    lr: Number = 3e-3,
    beta1: Number = 0.95,
    beta2: Number = 0.95,
    decay: Number = 0.95,
    eps: Number = 1e-8,
    weight_decay: Number = 0.01,
    *,
    largest: int = 10_000,
) -> Rule:
    """Adam in the eigenbasis of Shampoo: w ← w − lr · P·(m̂' / (√v̂ + eps))·Qᵀ − lr · weight_decay · w.

    P and Q are the eigenvectors of the running means of G·Gᵀ and Gᵀ·G, m' = Pᵀ·m·Q, and v is that of Pᵀ·G·Q.

    Args:
        lr: the learning rate, about the size of a step of each weight; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        decay: the share of the statistics of the basis that is kept, in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.
        weight_decay: the share of each weight that is taken off per step for a rate of 1; at least 0.
        largest: a side that is longer is not turned.

    >>> soap(lr=0.001, largest=256).options
    {'largest': 256}

    Source: Vyas and others, SOAP: improving and stabilizing Shampoo using Adam, 2024. The basis is exact at every
    step; see :func:`scale_by_soap` for what differs.
    """
    return chain(scale_by_soap(beta1, beta2, decay, eps, largest), descend(lr), shrink(lr, weight_decay))
