"""Adagrad with torch's arguments and numbers."""

from __future__ import annotations

from typing import Any

from ..rules import chain, descend, identity, scale_by_adagrad, slow_down
from ..rules.base import DECAY, EPSILON, RATE
from ..rules.scaling import SLOWING, START
from ..specs import Rule
from .form import Form, decayed
from .plan import Group
from .shell import Shell


class Adagrad(Shell):
    """The adaptive gradient algorithm: G ← G + g², w ← w − lr / (1 + lr_decay · t) · g / (√G + eps).

    Args:
        params: parameters, parameter groups, or ``model.named_parameters()``.
        lr: the learning rate, about the size of the first step of each weight; at least 0.
        lr_decay: how fast the rate falls, per step of the parameter, t from 0; at least 0.
        weight_decay: added to the gradient times the weight; at least 0.
        initial_accumulator_value: G before the first step, in squared units of the gradient; at least 0.
        eps: added to √G, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0 (torch: NaN).
        maximize: whether to climb instead of descend.
        foreach, differentiable: no effect; ``True`` is refused.
        fused: ``False`` keeps the step from being taken in one pass.

    >>> import torch
    >>> optimizer = Adagrad(torch.nn.Linear(2, 1).parameters(), lr=0.1)

    Source: ``torch.optim.Adagrad``, which it equals.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        given = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused,
        }  # fmt: skip
        domains = {
            "lr": RATE, "lr_decay": SLOWING, "eps": EPSILON, "weight_decay": DECAY, "initial_accumulator_value": START,
        }  # fmt: skip
        super().__init__(params, given, Form("Adagrad", adagrad, domains))


def adagrad(group: Group) -> Rule:
    """The rule of a parameter group of ``Adagrad``."""
    scaled = scale_by_adagrad(group["eps"], group["initial_accumulator_value"])
    slowed = slow_down(group["lr_decay"]) if group["lr_decay"] else identity()
    return chain(decayed(group), scaled, slowed, descend(group["lr"]))
