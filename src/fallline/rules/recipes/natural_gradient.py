from __future__ import annotations

from ...specs import Number, Rule
from ..base import RATE
from ..compose import chain
from ..curvature import DAMPING, precondition_by_fisher
from ..making import recipe
from ..scaling import descend


@recipe(search={"lr": (0.01, 1.0)}, lr=RATE, damping=DAMPING, invariances={"rotation": {}}, huge="diverges")
def natural_gradient(
    lr: Number = 0.1, damping: Number = 1e-2, *, fisher: str = "exact", iterations: int = 10
) -> Rule:
    """Steepest descent in what the model says, not in its parameters: w ← w − lr · (F + damping · I)⁻¹ · g.

    F = E[∇ℓ·∇ℓᵀ] is the Fisher matrix of the model's outputs, never formed: conjugate gradients need F·v alone. Without
    damping, small steps do not depend on how the model is parametrized.

    Args:
        lr: the learning rate; at least 0.
        damping: added to the eigenvalues of F; above 0.
        fisher: the targets that F is an average over: exact, sampled or empirical.
        iterations: of conjugate gradients, each at the cost of about two gradients.

    >>> natural_gradient(lr=0.5, fisher="sampled").options["fisher"]
    'sampled'

    Source: Amari, Natural gradient works efficiently in learning, 1998; see :func:`precondition_by_fisher`.
    """
    return chain(precondition_by_fisher(damping, fisher, iterations), descend(lr))
