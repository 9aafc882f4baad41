from __future__ import annotations

from ...specs import Number, Rule
from ..base import DECAY, EPSILON, RATE, UNIT
from ..compose import chain
from ..decay import shrink
from ..making import recipe
from ..orthogonal import orthogonalize, smooth, smooth_ahead
from ..scaling import descend
from ..selecting import select
from .adamw import adamw


@recipe(
    search={"lr": (0.0003, 0.3)}, lr=RATE, beta=UNIT, weight_decay=DECAY, adam_lr=RATE, adam_beta1=UNIT, adam_beta2=UNIT,
    adam_eps=EPSILON, invariances={"scale": {"adam_eps": 0.0}, "turning": {}}, huge="diverges",
)  # fmt: skip
def muon(
    lr: Number = 0.02,
    beta: Number = 0.95,
    weight_decay: Number = 0.01,
    adam_lr: Number = 3e-4,
    adam_beta1: Number = 0.9,
    adam_beta2: Number = 0.95,
    adam_eps: Number = 1e-10,
    *,
    nesterov: bool = True,
    steps: int = 5,
    scale: str = "original",
    precision: str = "own",
) -> Rule:
    """Momentum made orthogonal: w ← w − lr · scale · U·Vᵀ − lr · weight_decay · w, with m = U·S·Vᵀ about.

        m ← β · m + (1 − β) · g;  β · m + (1 − β) · g (Nesterov) is made orthogonal by five Newton–Schulz steps

    for hidden matrices; embeddings and output layers, by their names (see :func:`fallline.rules.select`), and what has
    fewer than two axes get AdamW. An output layer of another name, such as the last one of a ``Sequential``, counts
    as hidden: give it to AdamW by ``fl.route``.

    Args:
        lr: the learning rate of matrices, about the largest singular value of a step; at least 0.
        beta: the share of the running mean that is kept, in [0, 1).
        weight_decay: the share of each weight that is taken off per step for a rate of 1, by either rate; at least 0.
        adam_lr: the learning rate of AdamW for the rest; at least 0.
        adam_beta1: the share of its running mean that is kept, in [0, 1).
        adam_beta2: the share of its running mean square that is kept, in [0, 1).
        adam_eps: added to its √v̂, in the unit of the gradient; at least 0.
        nesterov: whether the mean is taken one step further on.
        steps: Newton–Schulz steps.
        scale: for the shape of a matrix: original, match_rms_adamw, spectral or none.
        precision: own for the parameter's dtype, or bfloat16 for the products.

    >>> muon(lr=0.01, scale="spectral").options["scale"]
    'spectral'

    Source: Jordan and others, Muon: an optimizer for hidden layers in neural networks, 2024. The public
    implementation computes in bfloat16 always. ``fl.optim.Muon`` has torch's arguments and numbers.
    """
    mean = smooth_ahead(beta) if nesterov else smooth(beta)
    matrices = chain(
        mean, orthogonalize(1e-7, steps, scale, precision), descend(lr), shrink(lr, weight_decay)
    )
    rest = adamw(adam_lr, adam_beta1, adam_beta2, adam_eps, weight_decay)
    return select("hidden_matrices", matrices, otherwise=rest)
