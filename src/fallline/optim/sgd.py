"""Gradient descent with torch's arguments and numbers."""

from __future__ import annotations

from typing import Any

from ..errors import BadValue
from ..rules import accumulate_damped, chain, descend, identity, look_ahead
from ..rules.averaging import DAMPENING
from ..rules.base import DECAY, RATE, UNIT
from ..specs import Rule
from .form import Form, decayed
from .plan import Group
from .shell import Shell


class SGD(Shell):
    """Gradient descent with torch's momentum: a ← momentum · a + (1 − dampening) · g, w ← w − lr · a.

    Args:
        params: parameters, parameter groups, or ``model.named_parameters()``.
        lr: the learning rate, the step for a gradient of size 1; at least 0.
        momentum: the share of the sum of gradients that is kept at each step, in [0, 1).
        dampening: the share of a new gradient that is left out of the sum, in [0, 1].
        weight_decay: added to the gradient times the weight; at least 0.
        nesterov: whether to step along g + momentum · a.
        maximize: whether to climb instead of descend.
        foreach, differentiable: no effect; ``True`` is refused.
        fused: ``False`` keeps the step from being taken in one pass.

    >>> import torch
    >>> optimizer = SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1, momentum=0.9)

    Source: ``torch.optim.SGD``, which it equals. The slide's heavy ball is ``fl.rules.momentum``: it differs once
    the rate changes, as this multiplies the whole sum by the rate of the moment.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        given = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize, "foreach": foreach, "differentiable": differentiable,
            "fused": fused,
        }  # fmt: skip
        domains = {"lr": RATE, "momentum": UNIT, "dampening": DAMPENING, "weight_decay": DECAY}
        super().__init__(params, given, Form("SGD", sgd, domains))


def sgd(group: Group) -> Rule:
    """The rule of a parameter group of ``SGD``."""
    momentum, dampening = group["momentum"], group["dampening"]
    if group["nesterov"] and (momentum == 0 or dampening != 0):
        raise BadValue(
            f"SGD(nesterov=True) requires a momentum above 0 and dampening 0, got {momentum=:g}, {dampening=:g}"
        )
    remember = look_ahead(momentum) if group["nesterov"] else accumulate_damped(momentum, dampening)
    return chain(decayed(group), remember if momentum else identity(), descend(group["lr"]))
