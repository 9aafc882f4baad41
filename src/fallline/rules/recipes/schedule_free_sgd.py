from __future__ import annotations

from ...specs import Number, Rule
from ..base import DECAY, RATE, UNIT
from ..compose import chain
from ..decay import add_decay
from ..making import recipe
from ..scaling import descend
from ..views import schedule_free


@recipe(
    search={"lr": (0.01, 10.0)},
    lr=RATE,
    beta=UNIT,
    weight_decay=DECAY,
    invariances={"proportion": {"weight_decay": 0.0}, "rotation": {}, "sign": {}, "permutation": {}},
    limits={"schedule_free_sgd(lr=0.1, beta=0, weight_decay=0)": "average_equally(sgd(lr=0.1), first=1, every=1)"},
    huge="proportion",
    budget=800,
)  # fmt: skip
def schedule_free_sgd(lr: Number = 1.0, beta: Number = 0.9, weight_decay: Number = 0.0) -> Rule:
    """Gradient descent without a schedule: z ← z − γ · (g + weight_decay · y), x ← (1 − c) · x + c · z.

        y ← (1 − β) · z + β · x, where the next gradient g is taken      c = γ² / Σ γ²

    y is what is trained, x what to evaluate (``optimizer.evaluating()``; a fleet does so by itself).

    Args:
        lr: the learning rate γ, the step of z for a gradient of size 1; at least 0. Larger than that of sgd.
        beta: how far y lies from z toward x, in [0, 1), in the place of momentum.
        weight_decay: added to the gradient times the weight y; at least 0.

    >>> schedule_free_sgd(lr=0.5)
    schedule_free_sgd(lr=0.5, beta=0.9, weight_decay=0)

    Source: Defazio et al., The road less scheduled, 2024. The authors' code weighs by the largest γ so far, the same
    while γ does not fall, and keeps z alone (see :func:`schedule_free`). torch has none.
    """
    return schedule_free(chain(add_decay(weight_decay), descend(lr)), lr, beta)
