from __future__ import annotations

from ...specs import Number, Rule
from ..base import RATE, UNIT
from ..compose import chain
from ..making import recipe
from ..moments import INSIDE, scale_by_adadelta
from ..scaling import descend


@recipe(
    search={"lr": (0.1, 100.0)},
    lr=RATE,
    rho=UNIT,
    eps=INSIDE,
    invariances={"sign": {}, "permutation": {}},
    limits={"adadelta(lr=0.1, rho=0, eps=0)": "sgd(lr=0)"},
    huge="diverges",
    budget=300,
)
def adadelta(lr: Number = 1.0, rho: Number = 0.9, eps: Number = 1e-6) -> Rule:
    """Steps in the unit of the weights: w ← w − lr · d, d = g · √(u + eps) / √(v + eps).

        v ← ρ · v + (1 − ρ) · g²      then d      then u ← ρ · u + (1 − ρ) · d²

    Args:
        lr: a factor on the step, 1 in the paper; at least 0.
        rho: the share of both running means that is kept, in [0, 1).
        eps: added to both running means, in squared units; at least 0. It decides how small the first steps are:
            with eps = 0 there are none.

    >>> adadelta()
    adadelta(lr=1, rho=0.9, eps=1e-06)

    Source: Zeiler, ADADELTA: an adaptive learning rate method, 2012, whose ρ is 0.95. Equals
    ``torch.optim.Adadelta``. As u and v have different units, eps in both makes the rule depend on the gradient's
    scale, against the paper's aim, as long as u is not far above it.
    """
    return chain(scale_by_adadelta(rho, eps), descend(lr))
