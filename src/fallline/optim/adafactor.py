"""Adafactor with torch's arguments and numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..errors import BadValue
from ..rules import (
    PerParameter,
    chain,
    clip_rms,
    descend_slowing,
    scale_by_bounded_factors,
    scale_by_size,
    shrink,
)
from ..rules.base import DECAY, EPSILON, RATE
from ..rules.sizes import LEAST
from ..specs import Domain, Rule
from ..types import Tree
from .form import Form
from .plan import Group, Part
from .shell import Shell

SLOWING = Domain("the power of the step whose share of the past is dropped: β₂ = 1 − t^beta2_decay", high=0.0)
BOUND = Domain("the largest root mean square of a tensor's update that is let through", low=1.0)


class Adafactor(Shell):
    """Adam with the memory of rows and columns: w ← w − min(lr, 1/√t) · max(eps[1], rms(w)) · û, as in
    ``fl.rules.adafactor``, with eps[0] as a bound.

    Args:
        params: parameters, parameter groups, or ``model.named_parameters()``.
        lr: the largest relative step, the size of a step relative to that of its tensor; at least 0.
        beta2_decay: the power of the step, β₂ = 1 − t^beta2_decay; at most 0.
        eps: the least √v that is divided by (``None``: the spacing of the dtype at 1), and the least size that a
            tensor of weights counts as; each at least 0.
        d: the largest root mean square of an update, above which it is shrunk; at least 1.
        weight_decay: the share of each weight that is taken off per step for a rate of 1; at least 0.
        foreach: no effect; ``True`` is refused.
        maximize: whether to climb instead of descend.

    >>> import torch
    >>> optimizer = Adafactor(torch.nn.Linear(2, 1).parameters(), lr=0.01)

    Source: ``torch.optim.Adafactor``, which it equals; torch stops with an error at parameters without entries.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        given = {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize,
        }  # fmt: skip
        domains = {"lr": RATE, "beta2_decay": SLOWING, "d": BOUND, "weight_decay": DECAY}
        super().__init__(params, given, Adaptive("Adafactor", adafactor, domains))


def adafactor(group: Group) -> Rule:
    """The rule of a parameter group of ``Adafactor``; where eps[0] is ``None``, its place holds 0."""
    least, size = _pair(group["eps"])
    return chain(
        scale_by_bounded_factors(-group["beta2_decay"], least or 0.0), clip_rms(group["d"]), scale_by_size(size),
        descend_slowing(group["lr"]), shrink(group["lr"], group["weight_decay"]),
    )  # fmt: skip


def _pair(eps: Any) -> tuple[float | None, float]:
    if not isinstance(eps, (tuple, list)) or len(eps) != 2:
        raise BadValue(f"Adafactor(eps={eps!r}): eps is a pair, as in eps=(None, 1e-3)")
    if eps[0] is not None:
        EPSILON.check("Adafactor", "eps[0]", eps[0])
    LEAST.check("Adafactor", "eps[1]", eps[1])
    return eps[0], eps[1]


class Adaptive(Form):
    """The plan of an optimizer whose first eps, left out, is the spacing of each parameter's dtype at 1."""

    def parts(self, groups: list[Group], named: list[Tree]) -> list[Part]:
        """One part for each group."""
        found = []
        for part, group in zip(super().parts(groups, named), groups, strict=True):
            spacing = PerParameter({name: torch.finfo(p.dtype).eps for name, p in part.params.items()})
            h = {**part.h, "0.eps": spacing} if group["eps"][0] is None else part.h
            found.append(replace(part, h=h))
        return found
