"""Rules that remember: momentum in its three forms, and the average of the parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from ..types import Tree
from .base import EITHER, UNIT
from .compose import Held, wrap
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


def _average_start(params: Tree, h: Any) -> Held:
    return {name: {"average": p.clone()} for name, p in params.items()}


def _average_after(step: Tree, held: Held, params: Tree, h: Any) -> tuple[Tree, Held]:
    def mixed(name: str, d: Tensor) -> Tensor:
        mixture: Tensor = h.decay * held[name]["average"] + (1 - h.decay) * (params[name] + d)
        return mixture

    return step, {name: {"average": mixed(name, d)} for name, d in step.items()}


def _average_view(params: Tree, held: Held) -> Tree:
    return {name: held[name]["average"] if name in held else p for name, p in params.items()}


average = wrap(
    "average",
    start=_average_start,
    after=_average_after,
    evaluate=_average_view,
    elementwise=True,
    decay=UNIT,
    doc="""Evaluate a running average of the parameters: w̄ ← decay · w̄ + (1 − decay) · w, training w as before.

    Args:
        rule: the rule that trains.
        decay: the share of the past that is kept at each step, in [0, 1).

    >>> from fallline import rules
    >>> rules.average(rules.sgd(lr=0.1), decay=0.99)
    average(sgd(lr=0.1), decay=0.99)

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992, with weights that
    forget. w̄ starts at the initial parameters.
    """,
)
