"""Rules that bound a gradient: by its norm over all parameters, and entry by entry."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from ..tree import norm
from ..types import Info, Tree
from .base import EITHER
from .making import per_tensor, whole_tree

BOUND = Domain("the largest norm that is let through, in the unit of the gradient", low=0.0, open_low=True)
LIMIT = Domain(
    "the largest size of an entry that is let through, in the unit of the gradient", low=0.0, open_low=True
)


@whole_tree(sums=1, max_norm=BOUND)
def clip_norm(tree: Tree, s: Any, params: Tree, h: Any) -> tuple[Tree, dict[str, Tensor], Info]:
    """Shrink the whole gradient when its norm is above a bound: g · min(1, max_norm / ‖g‖).

    The norm ‖g‖ = √(Σ g²) is taken over all parameters together, as if they were one vector; the direction is
    kept. It is taken in float64, as the squares of an exploding gradient leave the range of float32 long before
    the gradient does. A gradient that is not finite stays so: the run is then recorded as diverged.

    Args:
        max_norm: the largest norm that is let through, in the unit of the gradient, above 0.

    >>> from fallline import rules
    >>> rules.chain(clip_norm(1.0), rules.sgd(lr=0.1))
    chain(clip_norm(max_norm=1), sgd(lr=0.1))

    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, 2013.
    ``torch.nn.utils.clip_grad_norm_`` divides by ‖g‖ + 1e-6; this divides by ‖g‖. In a fleet each run is
    clipped by its own norm.
    """
    size = norm({name: g.double() for name, g in tree.items()})
    share = torch.where(size > h.max_norm, h.max_norm / size, torch.ones_like(size))
    return {name: g * share for name, g in tree.items()}, {}, {"norm": size, "share": share}


@per_tensor(takes=EITHER, limit=LIMIT)
def clip_value(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Bound each entry of the gradient: g ← max(−limit, min(limit, g)).

    The direction may change: large entries are cut, small ones stay. Infinite entries become finite, NaN stays.

    Args:
        limit: the largest size of an entry that is let through, in the unit of the gradient, above 0.

    >>> from fallline import rules
    >>> rules.chain(clip_value(0.5), rules.sgd(lr=0.1))
    chain(clip_value(limit=0.5), sgd(lr=0.1))

    Source: Mikolov, Statistical language models based on neural networks, 2012; equals
    ``torch.nn.utils.clip_grad_value_``.
    """
    limit = torch.as_tensor(h.limit, dtype=d.dtype, device=d.device)
    return torch.minimum(torch.maximum(d, -limit), limit), {}
