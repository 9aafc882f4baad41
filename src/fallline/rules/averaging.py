"""Rules that remember what came before: momentum in its three forms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from .base import EITHER, UNIT
from .making import count, per_tensor, zeros

DAMPENING = Domain("the share of a new gradient that is left out of the average", low=0.0, high=1.0)


@per_tensor(takes=EITHER, state={"trace": zeros}, beta=UNIT)
def accumulate(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """A sum that forgets: a ← β · a + d, which it gives.

    Args:
        beta: the share of the sum that is kept at each step, in [0, 1).

    >>> from fallline import rules
    >>> rules.chain(rules.descend(0.1), accumulate(0.9))
    chain(descend(lr=0.1), accumulate(beta=0.9))

    Source: Polyak 1964. After ``descend`` it is the slide's heavy ball, before it torch's momentum; they differ
    once the rate changes.
    """
    trace = h.beta * s.trace + d
    return trace, {"trace": trace}


@per_tensor(takes=EITHER, state={"trace": zeros}, beta=UNIT)
def look_ahead(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The forgetting sum one step further on: a ← β · a + d; gives β · a + d.

    Args:
        beta: the share of the sum that is kept at each step, in [0, 1).

    >>> from fallline import rules
    >>> rules.chain(rules.descend(0.1), look_ahead(0.9))
    chain(descend(lr=0.1), look_ahead(beta=0.9))

    Source: Nesterov 1983, in the variables of Bengio, Boulanger-Lewandowski and Pascanu 2013.
    """
    trace = h.beta * s.trace + d
    return h.beta * trace + d, {"trace": trace}


@per_tensor(takes=EITHER, state={"trace": zeros, "t": count}, beta=UNIT, dampening=DAMPENING)
def accumulate_damped(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """A sum that takes in less: a ← β · a + (1 − dampening) · d, and a = d at the first step.

    Args:
        beta: the share of the sum that is kept at each step, in [0, 1).
        dampening: the share of what comes in that is left out, in [0, 1].

    >>> from fallline import rules
    >>> rules.chain(accumulate_damped(0.9, 0.1), rules.descend(0.1))
    chain(accumulate_damped(beta=0.9, dampening=0.1), descend(lr=0.1))

    Source: ``torch.optim.SGD``.
    """
    later = h.beta * s.trace + (1 - h.dampening) * d
    trace = torch.where(s.t == 0, d, later)
    return trace, {"trace": trace, "t": s.t + 1}
