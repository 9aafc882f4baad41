from __future__ import annotations

from ...specs import Number, Rule
from ..averaging import accumulate
from ..base import RATE, UNIT
from ..compose import chain
from ..curvature import DAMPING, precondition_by_kfac
from ..making import recipe
from ..scaling import descend
from ..selecting import select
from .adamw import adamw


@recipe(
    search={"lr": (0.001, 1.0)},
    lr=RATE,
    damping=DAMPING,
    decay=UNIT,
    beta=UNIT,
    adam_lr=RATE,
    huge="diverges",
)
def kfac(
    lr: Number = 0.03,
    damping: Number = 0.03,
    decay: Number = 0.95,
    beta: Number = 0.9,
    adam_lr: Number = 1e-3,
    *,
    fisher: str = "sampled",
) -> Rule:
    """The natural gradient by Kronecker factors: w ← w − lr · a, a ← β · a + (G + √λ/π·I)⁻¹ · ∇W · (A + π√λ·I)⁻¹.

    A and G are running means for each linear layer, convolution and projection of attention, weight and bias together;
    embeddings, norms and whatever else gets AdamW (see :func:`fallline.rules.select`).

    Args:
        lr: the learning rate of layers; at least 0.
        damping: λ, shared out between the factors by π; above 0.
        decay: the share of the factors that is kept at most, in [0, 1).
        beta: the share of the sum of past directions that is kept, in [0, 1).
        adam_lr: the learning rate of AdamW for the rest; at least 0.
        fisher: the targets that G is an average over: exact, sampled or empirical.

    >>> kfac(lr=0.1, fisher="exact").options["fisher"]
    'exact'

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015; see
    :func:`precondition_by_kfac` for what differs.
    """
    divided = chain(precondition_by_kfac(damping, decay, fisher), accumulate(beta), descend(lr))
    return select("layers", divided, otherwise=adamw(adam_lr, weight_decay=0.0))
