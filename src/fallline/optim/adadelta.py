"""Adadelta with torch's arguments and numbers."""

from __future__ import annotations

from typing import Any

from ..rules import chain, descend, scale_by_adadelta
from ..rules.base import DECAY, RATE, UNIT
from ..rules.moments import INSIDE
from ..specs import Rule
from .form import Form, decayed
from .plan import Group
from .shell import Shell


class Adadelta(Shell):
    """Steps in the unit of the weights: w ← w − lr · d, d = g · √(u + eps) / √(v + eps), as in ``fl.rules.adadelta``.

    Args:
        params: parameters, parameter groups, or ``model.named_parameters()``.
        lr: a factor on the step; at least 0.
        rho: the share of the running means of g² and d² that is kept, in [0, 1).
        eps: added to both running means, in squared units; at least 0. With eps = 0 there are no steps (torch: NaN
            where a gradient is 0).
        weight_decay: added to the gradient times the weight; at least 0.
        maximize: whether to climb instead of descend.
        foreach, capturable, differentiable: no effect; ``True`` is refused.

    >>> import torch
    >>> optimizer = Adadelta(torch.nn.Linear(2, 1).parameters())

    Source: ``torch.optim.Adadelta``, which it equals; torch also takes rho = 1, at which v stays 0.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        given = {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "capturable": capturable, "foreach": foreach, "differentiable": differentiable,
        }  # fmt: skip
        domains = {"lr": RATE, "rho": UNIT, "eps": INSIDE, "weight_decay": DECAY}
        super().__init__(params, given, Form("Adadelta", adadelta, domains))


def adadelta(group: Group) -> Rule:
    """The rule of a parameter group of ``Adadelta``."""
    return chain(decayed(group), scale_by_adadelta(group["rho"], group["eps"]), descend(group["lr"]))
