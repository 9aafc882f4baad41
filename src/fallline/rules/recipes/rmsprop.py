from __future__ import annotations

from ...specs import Number, Rule
from ..base import EPSILON, RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..scaling import descend, scale_by_rms


@recipe(
    search={"lr": (0.0001, 0.1)},
    lr=RATE,
    gamma=UNIT,
    eps=EPSILON,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    limits={"rmsprop(lr=0.1, gamma=0, eps=0)": "chain(scale_by_sign(), descend(0.1))"},
    huge="diverges",
    budget=300,
)
def rmsprop(lr: Number = 0.01, gamma: Number = 0.9, eps: Number = 1e-8) -> Rule:
    """Root mean square propagation: v ← γ · v + (1 − γ) · g², w ← w − lr · g / (√v + eps).

    Args:
        lr: the learning rate, about the size of a step of each weight; at least 0.
        gamma: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.

    >>> rmsprop(lr=0.001)
    rmsprop(lr=0.001, gamma=0.9, eps=1e-08)

    Source: Tieleman and Hinton, Lecture 6.5 of Neural networks for machine learning, 2012, whose γ is 0.9. v
    starts at 0 without correction, so the first steps are larger by 1/√(1 − γ). The slide has no eps. Equals
    ``torch.optim.RMSprop`` with alpha = γ (there 0.99 unless said otherwise).
    """
    return chain(scale_by_rms(gamma, eps), descend(lr))
