from __future__ import annotations

from ...specs import Number, Rule
from ..base import DECAY, RATE
from ..compose import chain
from ..decay import shrink
from ..making import recipe
from ..sizes import BOUND, GROWTH, LEAST, SQUARE, clip_rms, descend_slowing, scale_by_factors, scale_by_size


@recipe(
    search={"lr": (0.001, 1.0)},
    lr=RATE,
    growth=GROWTH,
    eps1=SQUARE,
    eps2=LEAST,
    clip=BOUND,
    weight_decay=DECAY,
    invariances={"scale": {"eps1": 0.0}, "sign": {}},
    huge="diverges",
    budget=400,
)
def adafactor(
    lr: Number = 0.01,
    growth: Number = 0.8,
    eps1: Number = 1e-30,
    eps2: Number = 1e-3,
    clip: Number = 1.0,
    weight_decay: Number = 0.0,
) -> Rule:
    """Adam with the memory of rows and columns: w ← w − min(lr, 1/√t) · max(eps2, rms(w)) · û − lr · weight_decay · w.

        r, c: running means of g² + eps1 over columns and over rows, β₂ = 1 − t^(−growth), t from 1
        u = g / √(r · c / mean(r))      û = u / max(1, rms(u) / clip)

    Args:
        lr: the largest relative step, the size of a step relative to that of its tensor; at least 0.
        growth: how fast the memory grows longer; at least 0.
        eps1: added to g², in squared units of the gradient; at least 0. With eps1 = 0, x/0 counts as 0.
        eps2: the least size that a tensor counts as, so that one of zeros can leave; at least 0.
        clip: the largest root mean square of u; above 0.
        weight_decay: the share of each weight that is taken off per step for a rate of 1; at least 0.

    >>> adafactor()
    adafactor(lr=0.01, growth=0.8, eps1=1e-30, eps2=0.001, clip=1, weight_decay=0)

    Source: Shazeer and Stern, Adafactor: adaptive learning rates with sublinear memory cost, 2018, algorithms 4
    to 6. ``torch.optim.Adafactor`` bounds squares from below by its eps[0] where the paper adds: equal but for that.
    """
    return chain(
        scale_by_factors(growth, eps1), clip_rms(clip), scale_by_size(eps2), descend_slowing(lr),
        shrink(lr, weight_decay),
    )  # fmt: skip
