from __future__ import annotations

from ...specs import Number, Rule
from ..base import DECAY, EPSILON, RATE, UNIT
from ..compose import chain
from ..decay import add_decay
from ..making import recipe
from ..scaling import descend, scale_by_adam
from ..sizes import scale_by_trust


@recipe(
    search={"lr": (0.0003, 0.3)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    weight_decay=DECAY,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    huge="diverges",
    budget=300,
)
def lamb(
    lr: Number = 1e-3,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-6,
    weight_decay: Number = 0.01,
) -> Rule:
    """Adam in steps relative to each tensor: w ← w − lr · ‖w‖ / ‖u‖ · u, u = m̂ / (√v̂ + eps) + weight_decay · w.

    m̂ and v̂ are those of :func:`adam`; where ‖w‖ or ‖u‖ is 0, w ← w − lr · u.

    Args:
        lr: the learning rate, the size of a step relative to the norm of its tensor of weights; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.
        weight_decay: the share of w in u; at least 0.

    >>> lamb(lr=0.01)
    lamb(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-06, weight_decay=0.01)

    Source: You et al., Large batch optimization for deep learning: training BERT in 76 minutes, 2020, algorithm 2
    with φ(x) = x. Many implementations bound ‖w‖ by 10 and leave out the corrections; the paper does neither.
    """
    return chain(scale_by_adam(beta1, beta2, eps), add_decay(weight_decay), scale_by_trust(), descend(lr))
