"""The rule that estimates how far it has to go."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from ..tree import total
from ..types import Info, Tree
from .arithmetic import never_zero, running
from .base import DECAY, EPSILON, RATE, UNIT
from .making import whole_tree, zeros
from .wrapping import same

DISTANCE = Domain("the first guess of the distance to the solution, in the unit of the weights", low=0.0, open_low=True)  # fmt: skip


def _none(params: Tree, h: Any) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=next(iter(params.values())).device)


def _guess(params: Tree, h: Any) -> Tensor:
    return _none(params, h) + h.distance


@whole_tree(
    takes=("gradient",), gives="done", state={"d": _guess, "r": _none},
    each={"mu": zeros, "nu": zeros, "weighed": zeros, "start": same},
    lr=RATE, beta1=UNIT, beta2=UNIT, eps=EPSILON, weight_decay=DECAY, distance=DISTANCE,
)  # fmt: skip
def descend_by_distance(g: Tree, s: Any, params: Tree, h: Any) -> tuple[Tree, dict[str, Any], Info]:
    """Adam at the rate lr · D, with D estimated from below: D ← max(D, r / ‖s‖₁), over all parameters together.

        m ← β₁ · m + (1 − β₁) · D · g        v ← β₂ · v + (1 − β₂) · D² · g²        (D before it grows)
        r ← √β₂ · r + (1 − √β₂) · lr · D² · ⟨g, w₀ − w⟩
        s ← √β₂ · s + (1 − √β₂) · lr · D² · g
        w ← w − lr · D · m / (√v + D · eps) − lr · D · weight_decay · w

    Args:
        lr: a factor on the estimated rate; 1 is meant; at least 0.
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v / D, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.
        weight_decay: the share of each weight that is taken off per step for a rate of 1; at least 0.
        distance: D before the first step, in the unit of the weights, well below the truth; above 0.

    >>> descend_by_distance(1.0, 0.9, 0.999, 1e-8, 0.0, 1e-6).numbers["distance"]
    1e-06

    Source: Mishchenko and Defazio, Prodigy: an expeditiously adaptive parameter-free learner, 2024, algorithm 4
    with decoupled decay. ``info["distance"]`` is D.
    """
    keep = h.beta2**0.5 if isinstance(h.beta2, float) else torch.sqrt(torch.as_tensor(h.beta2))
    weight = h.lr * s.d * s.d
    toward = total({k: g[k].double() * (s.start[k] - params[k]).double() for k in g})
    r = keep * s.r + (1 - keep) * weight * toward
    weighed = {k: running(s.weighed[k], weight * g[k], keep) for k in g}
    size = total({k: w.double().abs() for k, w in weighed.items()})
    d = torch.maximum(s.d, torch.where(size == 0, 0.0, r / torch.where(size == 0, 1.0, size)))
    mu = {k: running(s.mu[k], s.d * g[k], h.beta1) for k in g}
    nu = {k: running(s.nu[k], (s.d * g[k]) ** 2, h.beta2) for k in g}

    def step(k: str) -> Tensor:
        root = nu[k].sqrt() + never_zero(s.d * h.eps, g[k])
        taken: Tensor = -(h.lr * s.d) * (mu[k] / root + h.weight_decay * params[k])
        return taken

    kept = {"d": d, "r": r, "weighed": weighed, "mu": mu, "nu": nu, "start": dict(s.start)}
    return {k: step(k) for k in g}, kept, {"distance": d}
