"""Adam and AdamW with torch's arguments and numbers."""

from __future__ import annotations

from typing import Any

from ..rules import chain, descend, scale_by_adam_power, scale_by_amsgrad, shrink
from ..rules.base import DECAY, EPSILON, RATE, UNIT
from ..specs import Rule
from .form import Form, decayed
from .plan import Group
from .shell import Shell

ADAM = {"lr": RATE, "betas": UNIT, "eps": EPSILON, "weight_decay": DECAY}


class Adam(Shell):
    """Adaptive moment estimation: w ← w − lr · m̂ / (√v̂ + eps), m̂ and v̂ as in ``fl.rules.adam``.

    Args:
        params: parameters, parameter groups, or ``model.named_parameters()``.
        lr: the learning rate, about the size of a step of each weight; at least 0.
        betas: the shares of the running mean and of the running mean square that are kept, each in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0 (torch: NaN).
        weight_decay: added to the gradient times the weight; at least 0.
        amsgrad: whether to divide by the largest mean square so far.
        maximize: whether to climb instead of descend.
        foreach, capturable, differentiable: no effect; ``True`` is refused.
        fused: ``False`` keeps the step from being taken in one pass.
        decoupled_weight_decay: whether the decay is lr · weight_decay · w beside the step: ``AdamW``.

    >>> import torch
    >>> optimizer = Adam(torch.nn.Linear(2, 1).parameters(), lr=0.001)

    Source: ``torch.optim.Adam``, which it equals.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        given = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "foreach": foreach, "capturable": capturable, "differentiable": differentiable,
            "fused": fused, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, given, Form("Adam", adam, ADAM))


def adam(group: Group) -> Rule:
    """The rule of a parameter group of ``Adam``."""
    if group["decoupled_weight_decay"]:
        return adamw(group)
    return chain(decayed(group), _moments(group), descend(group["lr"]))


class AdamW(Shell):
    """Adam with decoupled weight decay: w ← w − lr · m̂ / (√v̂ + eps) − lr · weight_decay · w.

    Args:
        params: parameters, parameter groups, or ``model.named_parameters()``.
        lr: the learning rate, about the size of a step of each weight; at least 0.
        betas: the shares of the running mean and of the running mean square that are kept, each in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0 (torch: NaN).
        weight_decay: the share of each weight that is taken off per step for a rate of 1; at least 0.
        amsgrad: whether to divide by the largest mean square so far.
        maximize: whether to climb instead of descend.
        foreach, capturable, differentiable: no effect; ``True`` is refused.
        fused: ``False`` keeps the step from being taken in one pass.

    >>> import torch
    >>> optimizer = AdamW(torch.nn.Linear(2, 1).parameters(), lr=0.001)

    Source: ``torch.optim.AdamW``, which it equals.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        given = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "foreach": foreach, "capturable": capturable, "differentiable": differentiable,
            "fused": fused,
        }  # fmt: skip
        super().__init__(params, given, Form("AdamW", adamw, ADAM))


def adamw(group: Group) -> Rule:
    """The rule of a parameter group of ``AdamW``."""
    return chain(_moments(group), descend(group["lr"]), shrink(group["lr"], group["weight_decay"]))


def _moments(group: Group) -> Rule:
    scale = scale_by_amsgrad if group["amsgrad"] else scale_by_adam_power
    return scale(*group["betas"], group["eps"])
