from __future__ import annotations

from ...specs import Number, Rule
from ..base import DECAY, EPSILON, RATE, UNIT
from ..distance import DISTANCE, descend_by_distance
from ..making import recipe


@recipe(
    search={"lr": (0.1, 10.0)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    weight_decay=DECAY,
    distance=DISTANCE,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    huge="diverges",
    budget=500,
)
def prodigy(
    lr: Number = 1.0,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    distance: Number = 1e-6,
) -> Rule:
    """Adam that finds its rate: w ← w − lr · D · m / (√v + D · eps) − lr · D · weight_decay · w, D ← max(D, r / ‖s‖₁).

        m ← β₁ · m + (1 − β₁) · D · g        v ← β₂ · v + (1 − β₂) · D² · g²        (D before it grows)
        r ← √β₂ · r + (1 − √β₂) · lr · D² · ⟨g, w₀ − w⟩        s ← √β₂ · s + (1 − √β₂) · lr · D² · g

    Args:
        lr: a factor on the estimated rate, where a schedule goes; 1 is meant; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v / D, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.
        weight_decay: the share of each weight that is taken off per step for a rate of 1; at least 0.
        distance: D before the first step, in the unit of the weights, well below the truth; above 0.

    >>> prodigy().numbers["lr"]
    1.0

    Source: Mishchenko and Defazio, Prodigy: an expeditiously adaptive parameter-free learner, 2024, algorithm 4. The
    authors' code takes the step at the new D in √v + D · eps. All parameters share one D, so in an optimizer all
    groups share their numbers. torch has none.
    """
    return descend_by_distance(lr, beta1, beta2, eps, weight_decay, distance)
