"""NAdam with torch's arguments and numbers."""

from __future__ import annotations

from typing import Any

from ..rules import chain, descend, scale_by_nadam
from ..rules.base import DECAY, EPSILON, RATE, UNIT
from ..rules.moments import SLOWER
from ..specs import Rule
from .form import Form, decayed_beside, decayed_within
from .plan import Group
from .shell import Shell


class NAdam(Shell):
    """Adam with Nesterov's momentum: w ← w − lr · m̄ / (√v̂ + eps), m̄ and v̂ as in ``fl.rules.nadam``.

    Args:
        params: parameters, parameter groups, or ``model.named_parameters()``.
        lr: the learning rate, about the size of a step of each weight; at least 0.
        betas: the shares of the running mean and of the running mean square that are kept, each in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0 (torch: NaN).
        weight_decay: added to the gradient times the weight, or taken off beside it; at least 0.
        momentum_decay: how fast the momentum comes up to its full size, per step; at least 0.
        decoupled_weight_decay: whether the decay is lr · weight_decay · w beside the step, as in ``AdamW``.
        maximize: whether to climb instead of descend.
        foreach, capturable, differentiable: no effect; ``True`` is refused.

    >>> import torch
    >>> optimizer = NAdam(torch.nn.Linear(2, 1).parameters(), lr=0.001)

    Source: ``torch.optim.NAdam``, which it equals; but torch multiplies its momenta in float32 (in float64 only where
    that is the default dtype), which costs it 1e-8 of a step.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        given = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "differentiable": differentiable,
        }  # fmt: skip
        domains = {"lr": RATE, "betas": UNIT, "eps": EPSILON, "weight_decay": DECAY, "momentum_decay": SLOWER}
        super().__init__(params, given, Form("NAdam", nadam, domains))


def nadam(group: Group) -> Rule:
    """The rule of a parameter group of ``NAdam``."""
    scaled = scale_by_nadam(*group["betas"], group["eps"], group["momentum_decay"])
    return chain(decayed_within(group), scaled, descend(group["lr"]), decayed_beside(group))
