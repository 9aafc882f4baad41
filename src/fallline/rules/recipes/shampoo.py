from __future__ import annotations

from ...specs import Number, Rule
from ..averaging import accumulate
from ..base import RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..matrices import KEPT, RIDGE, scale_by_shampoo
from ..scaling import descend


@recipe(
    search={"lr": (0.001, 1.0)},
    lr=RATE,
    beta=UNIT,
    decay=KEPT,
    damping=RIDGE,
    invariances={"turning": {}},
    huge="diverges",
)
def shampoo(
    lr: Number = 0.1,
    beta: Number = 0.9,
    decay: Number = 1.0,
    damping: Number = 1e-4,
    *,
    block_size: int = 1024,
    sides: str = "both",
    graft: str = "none",
) -> Rule:
    """Scale matrices from both sides: w ← w − lr · a, a ← β · a + (L + εI)^−¼ · G · (R + εI)^−¼.

        L ← L + G·Gᵀ     R ← R + Gᵀ·G

    Args:
        lr: the learning rate; at least 0.
        beta: the share of the sum of past directions that is kept, in [0, 1).
        decay: the share of past statistics that is kept, in [0, 1]; 1 for their sum, as in the paper.
        damping: ε, what L and R start from on their diagonal, in squared units of the gradient; above 0.
        block_size: rows and columns of the largest tile; larger matrices are cut into tiles, each for itself.
        sides: both, or smaller for statistics of the shorter side alone, with exponent −½.
        graft: the size of the step of each parameter: none for its own, or that of sgd or adagrad.

    >>> shampoo(lr=0.05, graft="adagrad").options["graft"]
    'adagrad'

    Source: Gupta, Koren and Singer, Shampoo: preconditioned stochastic tensor optimization, 2018, with the momentum
    of their experiments. The damping is not part of what ``decay`` forgets. What has fewer than two axes has diagonal
    Adagrad, where the paper has a full matrix; a kernel is one matrix (see :func:`scale_by_shampoo`).
    """
    scaled = scale_by_shampoo(decay, damping, block_size, sides, graft)
    return chain(scaled, accumulate(beta), descend(lr))
