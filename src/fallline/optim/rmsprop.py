"""RMSprop with torch's arguments and numbers."""

from __future__ import annotations

from typing import Any

from ..rules import accumulate, chain, descend, identity, scale_by_rms, scale_by_stddev
from ..rules.base import DECAY, EPSILON, RATE, UNIT
from ..specs import Rule
from .form import Form, decayed
from .plan import Group
from .shell import Shell


class RMSprop(Shell):
    """Root mean square propagation: v ← alpha · v + (1 − alpha) · g², w ← w − lr · g / (√v + eps).

    Args:
        params: parameters, parameter groups, or ``model.named_parameters()``.
        lr: the learning rate, about the size of a step of each weight; at least 0.
        alpha: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0 (torch: NaN).
        weight_decay: added to the gradient times the weight; at least 0.
        momentum: the share of the sum of scaled gradients that is kept at each step, in [0, 1).
        centered: whether to divide by the running standard deviation instead.
        maximize: whether to climb instead of descend.
        capturable, foreach, differentiable: no effect; ``True`` is refused.

    >>> import torch
    >>> optimizer = RMSprop(torch.nn.Linear(2, 1).parameters(), lr=0.001)

    Source: ``torch.optim.RMSprop``, which it equals, but for ``centered=True`` where rounding makes the variance
    negative: torch gives NaN, and this takes 0.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        given = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable,
        }  # fmt: skip
        domains = {"lr": RATE, "alpha": UNIT, "eps": EPSILON, "weight_decay": DECAY, "momentum": UNIT}
        super().__init__(params, given, Form("RMSprop", rmsprop, domains))


def rmsprop(group: Group) -> Rule:
    """The rule of a parameter group of ``RMSprop``."""
    scale = scale_by_stddev if group["centered"] else scale_by_rms
    remember = accumulate(group["momentum"]) if group["momentum"] else identity()
    return chain(decayed(group), scale(group["alpha"], group["eps"]), remember, descend(group["lr"]))
