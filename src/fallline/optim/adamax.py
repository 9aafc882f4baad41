"""Adamax with torch's arguments and numbers."""

from __future__ import annotations

from typing import Any

from ..rules import chain, descend, scale_by_adamax
from ..rules.base import DECAY, EPSILON, RATE, UNIT
from ..specs import Rule
from .form import Form, decayed
from .plan import Group
from .shell import Shell


class Adamax(Shell):
    """Adam by the largest gradient: w ← w − lr · m̂ / u, u ← max(β₂ · u, |g| + eps), as in ``fl.rules.adamax``.

    Args:
        params: parameters, parameter groups, or ``model.named_parameters()``.
        lr: the learning rate, about the size of a step of each weight; at least 0.
        betas: the shares of the running mean and of the maximum that are kept, each in [0, 1).
        eps: added to |g|, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0 (torch: NaN).
        weight_decay: added to the gradient times the weight; at least 0.
        maximize: whether to climb instead of descend.
        foreach, capturable, differentiable: no effect; ``True`` is refused.

    >>> import torch
    >>> optimizer = Adamax(torch.nn.Linear(2, 1).parameters(), lr=0.002)

    Source: ``torch.optim.Adamax``, which it equals.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        given = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        domains = {"lr": RATE, "betas": UNIT, "eps": EPSILON, "weight_decay": DECAY}
        super().__init__(params, given, Form("Adamax", adamax, domains))


def adamax(group: Group) -> Rule:
    """The rule of a parameter group of ``Adamax``."""
    return chain(decayed(group), scale_by_adamax(*group["betas"], group["eps"]), descend(group["lr"]))
