from __future__ import annotations

from ...specs import Number, Rule
from ..base import DECAY, EPSILON, RATE, UNIT
from ..compose import chain
from ..decay import shrink
from ..making import recipe
from ..moments import scale_by_corrected_rms
from ..scaling import descend
from ..views import schedule_free


@recipe(
    search={"lr": (0.0003, 0.3)},
    lr=RATE,
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    weight_decay=DECAY,
    invariances={"scale": {"eps": 0.0}, "sign": {}, "permutation": {}},
    huge="diverges",
    budget=400,
)
def schedule_free_adamw(
    lr: Number = 2.5e-3,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
) -> Rule:
    """AdamW without a schedule: z ← z − γ · g / (√v̂ + eps) − γ · weight_decay · y, x ← (1 − c) · x + c · z.

        v ← β₂ · v + (1 − β₂) · g²      v̂ = v / (1 − β₂ᵗ)      t from 1      c = γ² / Σ γ²
        y ← (1 − β₁) · z + β₁ · x, where the next gradient g is taken

    y is what is trained, x what to evaluate (``optimizer.evaluating()``; a fleet does so by itself).

    Args:
        lr: the learning rate γ, about the size of a step of z; at least 0. A schedule may warm it up.
        beta1: how far y lies from z toward x, in [0, 1), in the place of momentum.
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.
        weight_decay: the share of y that is taken off z per step for a rate of 1; at least 0.

    >>> schedule_free_adamw(lr=0.01)
    schedule_free_adamw(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0)

    Source: Defazio et al., The road less scheduled, 2024. The paper's algorithm 1 takes √(1 − β₂ᵗ) into γ, and so
    into the decay and c; here, as in the authors' code, it corrects v alone. That code weighs by the largest γ so
    far, the same while γ does not fall, and keeps z alone (see :func:`schedule_free`). torch has none.
    """
    inner = chain(scale_by_corrected_rms(beta2, eps), descend(lr), shrink(lr, weight_decay))
    return schedule_free(inner, lr, beta1)
